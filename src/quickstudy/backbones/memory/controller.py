"""The controller of a memory: a layer or an LSTM that reads the input row and what was read from the memory before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from quickstudy.backbones.memory.base import State, glorot
from quickstudy.core.types import Params

Kind: TypeAlias = Literal["feedforward", "lstm"]


@dataclass(frozen=True)
class Controller:
    """hidden = tanh(W x + U r + b), or an LSTM (Hochreiter and Schmidhuber 1997) on x, r and its own hidden state.

    Attributes:
        kind: which of the two.
        inputs: width of x.
        reads: width of r; 0 for no memory.
        hidden: number of units.

    Raises:
        ValueError: when first used, if `kind` is neither or a size is below 1.
    """

    kind: Kind
    inputs: int
    reads: int
    hidden: int

    def init(self, generator: torch.Generator) -> Params:
        """`controller_input` [gate, input], `controller_state` [gate, read + hidden], `controller_bias` [gate].

        The gates of an LSTM are input, forget, output, candidate; the bias of the forget gate starts at 1.
        """
        self._check()
        lstm = self.kind == "lstm"
        gates, before = (4 * self.hidden, self.reads + self.hidden) if lstm else (self.hidden, self.reads)
        bias = torch.zeros(gates)
        if lstm:
            bias[self.hidden : 2 * self.hidden] = 1.0
        both = glorot(gates // 4 if lstm else gates, self.inputs + before, generator)
        if lstm:
            more = [glorot(self.hidden, self.inputs + before, generator) for _ in range(3)]
            both = torch.cat([both, *more])
        weight, state = both.split_with_sizes([self.inputs, before], 1)
        return {"controller_input": weight.clone(), "controller_state": state.clone(), "controller_bias": bias}

    def start(self, like: Tensor, batch: int) -> State:
        """Zeros for what an LSTM carries; nothing for a layer."""
        if self.kind == "feedforward":
            return {}
        zeros = like.new_zeros(batch, self.hidden)
        return {"hidden": zeros, "carry": zeros}

    def prepare(self, params: Params, inputs: Tensor) -> Tensor:
        """[batch, time, gate]: the part of the gates that the inputs [batch, time, input] make."""
        return torch.nn.functional.linear(inputs, params["controller_input"], params["controller_bias"])

    def step(self, params: Params, prepared: Tensor, state: State) -> tuple[Tensor, State]:
        """`(hidden [batch, hidden], what is carried on)`; reads `state["read"]` [batch, read]."""
        weight = params["controller_state"].T
        if self.kind == "feedforward":
            return torch.addmm(prepared, state["read"], weight).tanh(), {}
        before = torch.cat([state["read"], state["hidden"]], 1) if self.reads else state["hidden"]
        gates, candidate = torch.addmm(prepared, before, weight).split_with_sizes([3 * self.hidden, self.hidden], 1)
        enter, keep, leave = gates.sigmoid().chunk(3, 1)
        carry = torch.addcmul(keep * state["carry"], enter, candidate.tanh())
        hidden = leave * carry.tanh()
        return hidden, {"hidden": hidden, "carry": carry}

    def _check(self) -> None:
        if self.kind not in {"feedforward", "lstm"}:
            raise ValueError(f'the controller is {self.kind!r}; give "feedforward" or "lstm"')
        if min(self.inputs, self.hidden) < 1:
            raise ValueError(f"inputs and hidden are {self.inputs} and {self.hidden}; give 1 or more")
