"""Least recently used access. Santoro et al., 2016, arXiv 1605.06065, section 3.2.

The usage of a row fades and rises where it is read or written; head h writes between where it read last and the h-th
least used row, which is emptied first; then each head reads rows like its key k:

    u = 0.95 u' + sum_h (w_r,h + w_w,h)
    w_w,h = sigmoid(g_h) w'_r,h + (1 - sigmoid(g_h)) [row is the h-th least used of u']
    M = M + sum_h w_w,h v_h^T,   w_r,h = softmax(s_h cos(k_h, M_i))

Three things are not as in this paper. A strength s_h as in the neural Turing machine: a softmax of bare cosines over
many rows is nearly flat. A vector a_h of its own in what is written, v_h = k_h + a_h in place of k_h. And, where
`delayed`, v_h = k'_h + a_h with the key of the step before: a target comes one step after its input, so it is written
beside the key of that input. Without the delay the controller must learn to carry the input for a step.
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


@dataclass(frozen=True)
class LRUCell(Cell):
    """One step of a memory that writes to the least recently used row or to the row read last.

    Attributes:
        inputs: width of an input row.
        outputs: width of an output row.
        rows: places of the memory.
        columns: width of a place.
        hidden: units of the controller.
        heads: number of heads; each reads and writes.
        fade: share of a row's usage that is left after a step.
        strength: where the strengths start; the larger, the sharper a head looks.
        delayed: whether the key of the step before is written, not that of this step.
        controller: "lstm" or "feedforward".

    Raises:
        ValueError: when first used, if a size is below 1, the heads are more than the rows, or `fade` is not below 1.
    """

    inputs: int
    outputs: int
    rows: int = 128
    columns: int = 40
    hidden: int = 200
    heads: int = 4
    fade: float = 0.95
    strength: float = 20.0
    delayed: bool = True
    controller: Kind = "lstm"

    @property
    def _controller(self) -> Controller:
        return Controller(self.controller, self.inputs, self.heads * self.columns, self.hidden)

    @property
    def _sizes(self) -> list[int]:
        """Of what the controller says: keys and what is added to them; gates; strengths."""
        return [2 * self.heads * self.columns, self.heads, self.heads]

    def init(self, generator: torch.Generator) -> Params:
        """The controller's values, those of the heads and of the output."""
        if min(self.columns, self.heads) < 1 or self.heads > self.rows or not 0 <= self.fade < 1:
            raise ValueError(
                f"rows, columns, heads and fade are {self.rows}, {self.columns}, {self.heads} and {self.fade}; "
                "give columns and heads from 1, at least as many rows as heads, and a fade from 0 and below 1"
            )
        params = (
            self._controller.init(generator)
            | start_linear("head", sum(self._sizes), self.hidden, generator)
            | start_linear("output", self.outputs, self.hidden + self.heads * self.columns, generator)
        )
        params["head_bias"][-self.heads :] = self.strength
        return params

    def ready(self, params: Params) -> Params:
        """`params`."""
        return params

    def start(self, params: Params, batch: int) -> State:
        """The blank memory; nothing is used and each head has looked at the first row."""
        bias = params["head_bias"]
        looking = bias.new_zeros(batch, self.heads, self.rows)
        looking[:, :, 0] = 1.0
        return {
            "memory": bias.new_full((batch, self.rows, self.columns), BLANK),
            "usage": bias.new_zeros(batch, self.rows),
            "looking": looking,
            "key": bias.new_zeros(batch, self.heads, self.columns),
            "read": bias.new_zeros(batch, self.heads * self.columns),
        } | self._controller.start(bias, batch)

    def prepare(self, params: Params, inputs: Tensor) -> Tensor:
        """[batch, time, gate]."""
        return self._controller.prepare(params, inputs)

    def step(self, params: Params, prepared: Tensor, state: State) -> tuple[Tensor, State]:
        """`(hidden and what was read [batch, feature], state)`."""
        hidden, carried = self._controller.step(params, prepared, state)
        said = linear(params, "head", hidden).split_with_sizes(self._sizes, 1)
        keys, added = said[0].tanh().view(len(hidden), -1, self.columns).chunk(2, 1)
        vectors = added + (state["key"] if self.delayed else keys)
        strengths = 1 + functional.softplus(said[2])[..., None]
        least = least_used(state["usage"], self.heads)
        writing = torch.lerp(least, state["looking"], said[1].sigmoid()[..., None])
        emptied = state["memory"] * (1 - least.sum(1))[..., None]
        memory = torch.baddbmm(emptied, writing.mT, vectors)
        looking = (cosine(keys, memory) * strengths).softmax(-1)
        usage = self.fade * state["usage"] + (looking + writing).sum(1).detach()
        read = torch.bmm(looking, memory).flatten(1)
        kept = {"memory": memory, "usage": usage, "looking": looking, "key": keys, "read": read}
        return torch.cat([hidden, read], 1), kept | carried


def least_used(usage: Tensor, heads: int) -> Tensor:
    """[batch, head, row]: 1 at the row that is used least, for the next head at the next, and so on."""
    numbers = usage.topk(heads, dim=1, largest=False).indices
    return functional.one_hot(numbers, usage.shape[1]).to(usage)
