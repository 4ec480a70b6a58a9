"""The nouns and the pure functions on them. Knows torch only."""

from quickstudy.core.attention_mask import additive_mask as additive_mask
from quickstudy.core.inner import InnerLoop as InnerLoop
from quickstudy.core.inner import adapt_parameters as adapt_parameters
from quickstudy.core.optimisers import SGD as SGD
from quickstudy.core.optimisers import Adam as Adam
from quickstudy.core.optimisers import Momentum as Momentum
from quickstudy.core.optimisers import Optimiser as Optimiser
from quickstudy.core.second_order import ensure_second_order as ensure_second_order
from quickstudy.core.second_order import math_attention as math_attention
from quickstudy.core.second_order import refuse_inner_checkpointing as refuse_inner_checkpointing
from quickstudy.core.second_order import supports_second_order as supports_second_order
from quickstudy.core.stacking import stack_episodes as stack_episodes
from quickstudy.core.stacking import unstack as unstack
from quickstudy.core.types import Adapter as Adapter
from quickstudy.core.types import Batch as Batch
from quickstudy.core.types import Episode as Episode
from quickstudy.core.types import Fingerprint as Fingerprint
from quickstudy.core.types import Info as Info
from quickstudy.core.types import Params as Params
from quickstudy.core.types import Prediction as Prediction
from quickstudy.core.vectorise import Choices as Choices
from quickstudy.core.vectorise import mean_loss_and_gradients as mean_loss_and_gradients
from quickstudy.core.vectorise import over_tasks as over_tasks
