"""Neural Turing machine. Graves, Wayne, Danihelka, 2014, arXiv 1410.5401.

Each head has a key k, a strength s, a gate g, a distribution d over shifts and a sharpness h >= 1. It looks at

    c = softmax(s cos(k, M_i))          rows like the key
    w = g c + (1 - g) w'                or where it looked before, w'
    w_i = sum_j w_j d_{i-j}             moved along the ring of rows
    w_i = w_i^h / sum_j w_j^h           and made sharp again.

A write head erases and adds, M = M (1 - w e^T) + w a^T; a read head then reads w^T M. The memory starts at a small
constant (Collier and Beel 2018, arXiv 1807.08518); where the heads look first is learned and starts at the first row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.backbones.memory.base import Cell, State, cosine, linear, start_linear
from quickstudy.backbones.memory.controller import Controller, Kind
from quickstudy.core.types import Params

BLANK = 1e-6
"""What an unwritten memory holds."""
FIRST_ROW = 8.0
"""Starting logit of the first row, where all others have 0."""


@dataclass(frozen=True)
class NTMCell(Cell):
    """One step of a neural Turing machine.

    Attributes:
        inputs: width of an input row.
        outputs: width of an output row.
        rows: places of the memory.
        columns: width of a place.
        hidden: units of the controller.
        heads: number of read heads, and of write heads.
        reach: a head moves by at most so many rows in a step.
        controller: "feedforward" or "lstm".

    Raises:
        ValueError: when first used, if a size is below 1 or the rows are fewer than the shifts.
    """

    inputs: int
    outputs: int
    rows: int = 128
    columns: int = 20
    hidden: int = 100
    heads: int = 1
    reach: int = 1
    controller: Kind = "feedforward"

    @property
    def _controller(self) -> Controller:
        return Controller(self.controller, self.inputs, self.heads * self.columns, self.hidden)

    @property
    def _sizes(self) -> list[int]:
        """Of what the controller says: keys and additions, erasures and gates, strengths and sharpness, shifts."""
        both, wide = 2 * self.heads, self.heads * self.columns
        return [2 * wide + wide, wide + both, 2 * both, both * (2 * self.reach + 1)]

    def init(self, generator: torch.Generator) -> Params:
        """The controller's values, those of the heads and of the output, `first_read` and `first_weights`."""
        if min(self.columns, self.heads) < 1 or self.reach < 0 or self.rows < 2 * self.reach + 1:
            raise ValueError(
                f"rows, columns, heads and reach are {self.rows}, {self.columns}, {self.heads} and {self.reach}; "
                "give columns and heads from 1, reach from 0, and at least 2 reach + 1 rows"
            )
        reads = self.heads * self.columns
        params = (
            self._controller.init(generator)
            | start_linear("head", sum(self._sizes), self.hidden, generator)
            | start_linear("output", self.outputs, self.hidden + reads, generator)
        )
        params["first_read"] = torch.zeros(reads)
        params["first_weights"] = torch.zeros(2 * self.heads, self.rows)
        params["first_weights"][:, 0] = FIRST_ROW
        return params

    def ready(self, params: Params) -> Params:
        """`params` and `shifted` [shift * row]: which row comes to a row, for each shift."""
        bias = params["head_bias"]
        moves = torch.arange(-self.reach, self.reach + 1, device=bias.device)
        places = torch.arange(self.rows, device=bias.device)
        return params | {"shifted": ((places - moves[:, None]) % self.rows).flatten()}

    def start(self, params: Params, batch: int) -> State:
        """The blank memory, the learned first read and first weights [batch, head, row], read heads first."""
        bias = params["head_bias"]
        return {
            "memory": bias.new_full((batch, self.rows, self.columns), BLANK),
            "weights": params["first_weights"].softmax(-1).expand(batch, -1, -1),
            "read": params["first_read"].expand(batch, -1),
        } | self._controller.start(bias, batch)

    def prepare(self, params: Params, inputs: Tensor) -> Tensor:
        """[batch, time, gate]."""
        return self._controller.prepare(params, inputs)

    def step(self, params: Params, prepared: Tensor, state: State) -> tuple[Tensor, State]:
        """`(hidden and what was read [batch, feature], state)`."""
        hidden, carried = self._controller.step(params, prepared, state)
        said = linear(params, "head", hidden).split_with_sizes(self._sizes, 1)
        batch, both, heads = len(hidden), 2 * self.heads, self.heads
        keys, additions = said[0].tanh().view(batch, -1, self.columns).split_with_sizes([both, heads], 1)
        erasures, gates = said[1].sigmoid().split_with_sizes([heads * self.columns, both], 1)
        strengths, sharpness = functional.softplus(said[2]).view(batch, -1, 1).split_with_sizes([both, both], 1)
        content = (cosine(keys, state["memory"]) * strengths).softmax(-1)
        weights = torch.lerp(state["weights"], content, gates[..., None])
        weights = self._moved(weights, said[3].view(batch, both, 1, -1).softmax(-1), params["shifted"])
        weights = ((1 + sharpness) * (weights + 1e-12).log()).softmax(-1)
        looking, writing = weights.split_with_sizes([heads, heads], 1)
        memory = _written(state["memory"], writing, erasures.view(batch, heads, -1), additions)
        read = torch.bmm(looking, memory).flatten(1)
        return torch.cat([hidden, read], 1), {"memory": memory, "weights": weights, "read": read} | carried

    def _moved(self, weights: Tensor, shifts: Tensor, shifted: Tensor) -> Tensor:
        """[batch, head, row]: `weights` moved by the distribution `shifts` [batch, head, 1, shift]."""
        moved = weights.index_select(2, shifted).view(*weights.shape[:2], -1, self.rows)
        return torch.matmul(shifts, moved).squeeze(2)


def _written(memory: Tensor, weights: Tensor, erasures: Tensor, additions: Tensor) -> Tensor:
    """[batch, row, column]: `memory` after each head [batch, head, ...] has erased and then each has added."""
    for weight, erasure in zip(weights.unbind(1), erasures.unbind(1), strict=True):
        memory = memory * (1 - torch.bmm(weight[:, :, None], erasure[:, None]))
    return torch.baddbmm(memory, weights.mT, additions)
