"""The contract of a recurrent cell, the loop over time, and the plain module made of both."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor, nn

from quickstudy.core.types import Params

State: TypeAlias = dict[str, Tensor]
"""What a cell carries from step to step: name -> tensor [batch, ...]."""


class Cell(ABC):
    """A frozen dataclass that describes one step of a recurrent network, as pure functions of its parameters.

    What needs no loop stands outside of it: `prepare` reads the inputs of all steps at once, and the layer `output`
    makes the outputs of all steps at once.

    Attributes:
        inputs: width of an input row.
        outputs: width of an output row.
    """

    inputs: int
    outputs: int

    @abstractmethod
    def init(self, generator: torch.Generator) -> Params:
        """Starting values: name without dots -> tensor; also of the layer `output`, as `start_linear` names them."""

    @abstractmethod
    def ready(self, params: Params) -> Params:
        """`params` and the constants that `step` needs, made once for a sequence."""

    @abstractmethod
    def start(self, params: Params, batch: int) -> State:
        """The state before the first step."""

    @abstractmethod
    def prepare(self, params: Params, inputs: Tensor) -> Tensor:
        """[batch, time, gate]: what the controller makes of `inputs` [batch, time, input] alone."""

    @abstractmethod
    def step(self, params: Params, prepared: Tensor, state: State) -> tuple[Tensor, State]:
        """`(features [batch, feature], state)` after one row of `prepare`; `params` are those of `ready`."""


def unroll(
    cell: Cell, params: Params, inputs: Tensor, state: State | None = None, real: Tensor | None = None
) -> tuple[Tensor, State]:
    """`(outputs [batch, time, output], state)` after all rows of `inputs` [batch, time, input].

    Args:
        cell: what makes a step.
        params: those of `cell.init`.
        inputs: at least one row.
        state: before the first row; None for `cell.start`.
        real: [batch, time] bool; a row that is False leaves the state as it was. None where all rows are real.

    Raises:
        ValueError: the rows are not as wide as the cell reads, or there are none.
    """
    if inputs.dim() != 3 or inputs.shape[1] < 1 or inputs.shape[2] != cell.inputs:
        raise ValueError(
            f"inputs have shape {tuple(inputs.shape)}; expected [batch, time, {cell.inputs}], time above 0"
        )
    ready = cell.ready(params)
    state = cell.start(params, len(inputs)) if state is None else state
    rows = cell.prepare(params, inputs).unbind(1)
    masks = [None] * len(rows) if real is None else real.unbind(1)
    features = []
    for row, mask in zip(rows, masks, strict=True):
        found, later = cell.step(ready, row, state)
        state = later if mask is None else _chosen(mask, later, state)
        features.append(found)
    return linear(params, "output", torch.stack(features, 1)), state


def _chosen(mask: Tensor, later: State, before: State) -> State:
    """`later` where `mask` [batch] is True, else `before`."""
    shaped = {dim: mask.view(-1, *[1] * (dim - 1)) for dim in {tensor.dim() for tensor in later.values()}}
    return {name: torch.where(shaped[new.dim()], new, before[name]) for name, new in later.items()}


class MemoryNetwork(nn.Module):
    """A cell as a plain module on sequences.

        network = MemoryNetwork(NTMCell(inputs=9, outputs=8), torch.Generator().manual_seed(0))
        outputs, state = network(torch.rand(16, 20, 9))

    Args:
        cell: what makes a step.
        generator: draws the parameters.
    """

    def __init__(self, cell: Cell, generator: torch.Generator) -> None:
        super().__init__()
        self.cell = cell
        for name, tensor in cell.init(generator).items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """`(outputs [batch, time, output], state)` of `inputs` [batch, time, input], as in `unroll`."""
        return unroll(self.cell, dict(self.named_parameters()), inputs, state)


def start_linear(name: str, outputs: int, inputs: int, generator: torch.Generator) -> Params:
    """`<name>_weight` [output, input] as `glorot` draws it, and `<name>_bias` [output], zeros."""
    return {f"{name}_weight": glorot(outputs, inputs, generator), f"{name}_bias": torch.zeros(outputs)}


def linear(params: Params, name: str, inputs: Tensor) -> Tensor:
    """[..., output]: the layer `name` on `inputs` [..., input]."""
    return nn.functional.linear(inputs, params[f"{name}_weight"], params[f"{name}_bias"])


def glorot(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """[output, input]: uniform as Glorot and Bengio (2010) have it."""
    bound = math.sqrt(6 / (inputs + outputs))
    return (2 * torch.rand(outputs, inputs, generator=generator) - 1) * bound


def cosine(keys: Tensor, memory: Tensor) -> Tensor:
    """[batch, key, row]: the cosine of `keys` [batch, key, column] with each row of `memory` [batch, row, column]."""
    key_scale = ((keys * keys).sum(-1, keepdim=True) + 1e-6).rsqrt()
    row_scale = ((memory * memory).sum(-1) + 1e-6).rsqrt()
    return torch.bmm(keys * key_scale, memory.mT) * row_scale[:, None]
