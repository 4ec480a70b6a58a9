"""An LSTM without a memory: the control of the cells that have one. Hochreiter, Schmidhuber, 1997."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.backbones.memory.base import Cell, State, start_linear
from quickstudy.backbones.memory.controller import Controller
from quickstudy.core.types import Params


@dataclass(frozen=True)
class LSTMCell(Cell):
    """One layer of an LSTM and a linear output.

    Attributes:
        inputs: width of an input row.
        outputs: width of an output row.
        hidden: number of units.
    """

    inputs: int
    outputs: int
    hidden: int = 128

    @property
    def _controller(self) -> Controller:
        return Controller("lstm", self.inputs, 0, self.hidden)

    def init(self, generator: torch.Generator) -> Params:
        """The controller's values, `output_weight` [output, hidden] and `output_bias` [output]."""
        return self._controller.init(generator) | start_linear("output", self.outputs, self.hidden, generator)

    def ready(self, params: Params) -> Params:
        """`params`."""
        return params

    def start(self, params: Params, batch: int) -> State:
        """Zeros."""
        return self._controller.start(params["output_bias"], batch)

    def prepare(self, params: Params, inputs: Tensor) -> Tensor:
        """[batch, time, gate]."""
        return self._controller.prepare(params, inputs)

    def step(self, params: Params, prepared: Tensor, state: State) -> tuple[Tensor, State]:
        """`(hidden, state)`."""
        return self._controller.step(params, prepared, state)
