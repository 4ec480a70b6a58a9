"""What computes features."""

from quickstudy.backbones.base import Backbone as Backbone
from quickstudy.backbones.mlp import MLP as MLP
from quickstudy.backbones.text_encoder import TextEncoder as TextEncoder
