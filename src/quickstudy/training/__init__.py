"""The meta-training loop. Knows `init` and `loss`, and no learner."""

from quickstudy.training.loop import Fitted as Fitted
from quickstudy.training.loop import Trainable as Trainable
from quickstudy.training.loop import fit as fit
from quickstudy.training.options import FitOptions as FitOptions
from quickstudy.training.tracking import Mlflow as Mlflow
from quickstudy.training.tracking import TensorBoard as TensorBoard
from quickstudy.training.tracking import Tracker as Tracker
from quickstudy.training.tracking import WeightsAndBiases as WeightsAndBiases
