"""What computes features."""

from quickstudy.backbones.base import Backbone as Backbone
from quickstudy.backbones.causal_lm import CausalLM as CausalLM
from quickstudy.backbones.conv4 import Conv4 as Conv4
from quickstudy.backbones.estimate import Footprint as Footprint
from quickstudy.backbones.estimate import footprint as footprint
from quickstudy.backbones.estimate import seconds_per_100_texts as seconds_per_100_texts
from quickstudy.backbones.linear import Linear as Linear
from quickstudy.backbones.mlp import MLP as MLP
from quickstudy.backbones.seq2seq_lm import Seq2SeqLM as Seq2SeqLM
from quickstudy.backbones.text_encoder import TextEncoder as TextEncoder
