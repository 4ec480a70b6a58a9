"""Recurrent cells with an external memory, and the one without that they are compared with."""

from quickstudy.backbones.memory.base import Cell as Cell
from quickstudy.backbones.memory.base import MemoryNetwork as MemoryNetwork
from quickstudy.backbones.memory.base import State as State
from quickstudy.backbones.memory.base import unroll as unroll
from quickstudy.backbones.memory.dnc import DNCCell as DNCCell
from quickstudy.backbones.memory.lru import LRUCell as LRUCell
from quickstudy.backbones.memory.lstm import LSTMCell as LSTMCell
from quickstudy.backbones.memory.ntm import NTMCell as NTMCell
