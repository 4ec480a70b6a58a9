"""Differentiable neural computer. Graves et al., 2016, Nature 538, 471-476.

Usage u of each row rises where something is written and falls where read heads free it:

    u = (u' + w' - u' w') prod_r (1 - f_r w'_r)

The one write head goes to rows like its key, or to unused rows, a_i = (1 - u_i) prod over rows j used less of u_j:

    w = g_w (g_a a + (1 - g_a) c),   M = M (1 - w e^T) + w v^T

The link L_ij says how much row i was written right after row j, with p the last place written:

    L_ij = (1 - w_i - w_j) L'_ij + w_i p'_j,   p = (1 - sum_i w_i) p' + w

A read head goes on by one link, back by one, or to rows like its key, by its three modes m:

    w_r = m_1 L^T w'_r + m_2 c_r + m_3 L w'_r
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.backbones.memory.base import Cell, State, cosine, linear, start_linear
from quickstudy.backbones.memory.controller import Controller, Kind
from quickstudy.core.types import Params

SOME = 1e-6
"""Usage is kept between this and 1, so that its logarithm is finite."""


@dataclass(frozen=True)
class DNCCell(Cell):
    """One step of a differentiable neural computer.

    Attributes:
        inputs: width of an input row.
        outputs: width of an output row.
        rows: places of the memory.
        columns: width of a place.
        hidden: units of the controller.
        reads: number of read heads.
        controller: "lstm" or "feedforward".

    Raises:
        ValueError: when first used, if a size is below 1.
    """

    inputs: int
    outputs: int
    rows: int = 16
    columns: int = 16
    hidden: int = 64
    reads: int = 2
    controller: Kind = "lstm"

    @property
    def _controller(self) -> Controller:
        return Controller(self.controller, self.inputs, self.reads * self.columns, self.hidden)

    @property
    def _sizes(self) -> list[int]:
        """Of what the controller says: read keys, write key and vector; erasure, free, allocation and write gates;
        read and write strengths; read modes."""
        return [(self.reads + 2) * self.columns, self.columns + self.reads + 2, self.reads + 1, 3 * self.reads]

    def init(self, generator: torch.Generator) -> Params:
        """The controller's values, those of the heads and of the output."""
        if min(self.rows, self.columns, self.reads) < 1:
            raise ValueError(
                f"rows, columns and reads are {self.rows}, {self.columns} and {self.reads}; give 1 or more of each"
            )
        return (
            self._controller.init(generator)
            | start_linear("head", sum(self._sizes), self.hidden, generator)
            | start_linear("output", self.outputs, self.hidden + self.reads * self.columns, generator)
        )

    def ready(self, params: Params) -> Params:
        """`params`, `earlier` [row, row], 1 where the second row comes before the first, and `others`, 0 on the
        diagonal."""
        ones = params["head_bias"].new_ones(self.rows, self.rows)
        return params | {"earlier": ones.tril(-1), "others": ones - ones.diag().diag()}

    def start(self, params: Params, batch: int) -> State:
        """All zeros: nothing is written, used, linked or looked at."""
        bias = params["head_bias"]
        rows, heads = bias.new_zeros(batch, self.rows), bias.new_zeros(batch, self.reads, self.rows)
        return {
            "memory": bias.new_zeros(batch, self.rows, self.columns),
            "usage": rows,
            "writing": rows,
            "looking": heads,
            "last": rows,
            "link": bias.new_zeros(batch, self.rows, self.rows),
            "read": bias.new_zeros(batch, self.reads * self.columns),
        } | self._controller.start(bias, batch)

    def prepare(self, params: Params, inputs: Tensor) -> Tensor:
        """[batch, time, gate]."""
        return self._controller.prepare(params, inputs)

    def step(self, params: Params, prepared: Tensor, state: State) -> tuple[Tensor, State]:
        """`(hidden and what was read [batch, feature], state)`."""
        hidden, carried = self._controller.step(params, prepared, state)
        said = linear(params, "head", hidden).split_with_sizes(self._sizes, 1)
        vectors = said[0].view(len(hidden), -1, self.columns)
        erasure, free, to_unused, write = said[1].sigmoid().split_with_sizes([self.columns, self.reads, 1, 1], 1)
        strengths = 1 + functional.softplus(said[2])[..., None]
        usage = self._used(state, free)
        content = self._like(vectors[:, -2:-1], state["memory"], strengths[:, -1:])[:, 0]
        writing = write * torch.lerp(content, unused(usage, params["earlier"]), to_unused)
        memory = torch.addcmul(state["memory"], state["memory"], writing[..., None] * erasure[:, None], value=-1)
        memory = torch.addcmul(memory, writing[..., None], vectors[:, -1:])
        link, last = self._linked(state, writing, params["others"])
        modes = said[3].view(len(hidden), self.reads, 3).softmax(-1)
        alike = self._like(vectors[:, :-2], memory, strengths[:, :-1])
        looking = _looked(state["looking"], link, alike, modes)
        read = torch.bmm(looking, memory).flatten(1)
        kept = {"memory": memory, "usage": usage, "writing": writing, "looking": looking, "last": last, "link": link}
        return torch.cat([hidden, read], 1), kept | {"read": read} | carried

    def _like(self, keys: Tensor, memory: Tensor, strengths: Tensor) -> Tensor:
        """[batch, key, row]: where rows are like the key."""
        return (cosine(keys, memory) * strengths).softmax(-1)

    def _used(self, state: State, free: Tensor) -> Tensor:
        """[batch, row]: usage before this step's writing."""
        usage, writing = state["usage"], state["writing"]
        kept = (1 - free[..., None] * state["looking"]).prod(1)
        return (usage + writing - usage * writing) * kept

    def _linked(self, state: State, writing: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """`(link [batch, row, row], last [batch, row])` after this step's writing."""
        fade = 1 - writing[:, :, None] - writing[:, None]
        link = torch.addcmul(fade * state["link"], writing[:, :, None], state["last"][:, None]) * others
        return link, (1 - writing.sum(1, keepdim=True)) * state["last"] + writing


def unused(usage: Tensor, earlier: Tensor) -> Tensor:
    """[batch, row]: the allocation a_i = (1 - u_i) prod of u_j over the rows j that are used less.

    Of rows used alike the first counts as used less. The product is the exponential of a sum by a table of who comes
    before whom, which needs no sorting.

    Args:
        usage: [batch, row], between 0 and 1.
        earlier: [row, row], 1 where the second row comes before the first.
    """
    usage = SOME + (1 - SOME) * usage
    mine, theirs = usage.detach()[:, :, None], usage.detach()[:, None]
    before = (theirs < mine).to(usage) + (theirs == mine) * earlier
    return (1 - usage) * torch.bmm(before, usage.log()[..., None])[..., 0].exp()


def _looked(looking: Tensor, link: Tensor, alike: Tensor, modes: Tensor) -> Tensor:
    """[batch, read, row]: back by one link, rows like the key, or on by one link, by `modes` [batch, read, 3]."""
    back, on = torch.bmm(looking, link), torch.bmm(looking, link.mT)
    return back * modes[..., :1] + alike * modes[..., 1:2] + on * modes[..., 2:]
