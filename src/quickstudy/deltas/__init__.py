"""Which small tensors may move."""

from quickstudy.deltas.adalora import AdaLoRA as AdaLoRA
from quickstudy.deltas.adalora import as_lora as as_lora
from quickstudy.deltas.base import Delta as Delta
from quickstudy.deltas.base import Steering as Steering
from quickstudy.deltas.full import Full as Full
from quickstudy.deltas.gguf_format import write_gguf as write_gguf
from quickstudy.deltas.head import Head as Head
from quickstudy.deltas.lora import LoRA as LoRA
from quickstudy.deltas.lora import gather_adapters as gather_adapters
from quickstudy.deltas.mlx_format import write_mlx as write_mlx
from quickstudy.deltas.peft_format import PeftDelta as PeftDelta
from quickstudy.deltas.peft_format import read_peft as read_peft
from quickstudy.deltas.peft_format import write_peft as write_peft
from quickstudy.deltas.prefix import Prefix as Prefix
from quickstudy.deltas.prompt import Prompt as Prompt
from quickstudy.deltas.rank_budget import RankBudget as RankBudget
from quickstudy.deltas.vllm import vllm_problems as vllm_problems
