"""In-context learning with a language model: the support is written in front of what is asked.

Brown et al., 2020, arXiv 2005.14165. Meta-training on it, whatever the delta, is MetaICL (Min et al., 2021, arXiv
2110.15943): p(y | x_1, y_1, ..., x), and on `CausalLM(objective="channel")` p(x | y_1, x_1, ..., y). No weights change
for a task; its adapter is the demonstrations.

Which demonstrations stand before a prompt, and in what order, is chosen by the tokens that prompts share, as cosines of
their counts: the nearest ones with the nearest last (Liu et al., 2021, arXiv 2101.06804), or such that are near and
unlike each other (maximal marginal relevance: Carbonell and Goldstein, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.language_rows import (
    Rows,
    after_all,
    likeness,
    logits_after,
    prompt_tokens,
    rows_after,
    rows_of,
)
from quickstudy.learners.losses import blank, query_loss, text_loss
from quickstudy.learners.network import Network
from quickstudy.learners.writing import Prompting


@dataclass(frozen=True)
class Demonstrations(Prompting):
    """Writes demonstrations before each prompt.

    Attributes:
        network: a language model and a delta, without a head.
        choose: "all" of the support in its order, "nearest" or "diverse".
        most: how many the last two choose for each prompt.
        variety: of "diverse": how much likeness to those already chosen counts against likeness to the prompt, 0 to 1.
        along: whether meta-training counts the completions of the support too, each after the examples before it, as
            one text: more is learned of a task. For "all" only.

    Raises:
        ValueError: `choose` is unknown, or `along` goes with another than "all"; `most` is below 1, or `variety` is not
            between 0 and 1.
    """

    name: ClassVar[str] = "demonstrations"
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    network: Network
    choose: Literal["all", "nearest", "diverse"] = "all"
    most: int = 8
    variety: float = 0.5
    along: bool = False

    def __post_init__(self) -> None:
        if self.choose not in {"all", "nearest", "diverse"}:
            raise ValueError(f'choose is {self.choose!r}; give "all", "nearest" or "diverse"')
        if self.along and self.choose != "all":
            raise ValueError(f'along counts the support in its order; give choose="all", not {self.choose!r}')
        if self.most < 1 or not 0 <= self.variety <= 1:
            raise ValueError(f"most is {self.most} and variety {self.variety}; give at least 1, and 0 to 1")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy of the query's tokens after the support; with `along` that of the support's as well."""
        if not self.along:
            return query_loss(self, params, episode)
        return text_loss(self.network, params, blank(episode.support), blank(episode.query))

    def adapt(self, params: Params, support: Batch) -> Adapter:  # noqa: ARG002 - the contract's signature
        """The support's `input_ids` and `segments` [example, token], and `prompt`, 1 where a token is of a prompt."""
        support = blank(support)
        rows = rows_of(support.inputs)
        tensors = {"input_ids": rows["input_ids"], "segments": rows["segments"], "prompt": self._given(rows).long()}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits [example, token asked about, vocabulary], each example after demonstrations of its own."""
        rows = rows_of(inputs)
        if self.choose != "all":
            return Prediction(self.network(params, self.continued(params, adapter, rows)[1]))
        return Prediction(logits_after(partial(self.network, params), dict(adapter.tensors), rows))

    def continued(self, params: Params, adapter: Adapter, rows: Rows) -> tuple[Params, Rows]:
        """What the network is run with to write after `rows`: these with their demonstrations before them."""
        if self.choose == "all":
            return params, after_all(dict(adapter.tensors), rows)
        return params, rows_after(dict(adapter.tensors), rows, self._order(adapter, rows))

    def _given(self, rows: Rows) -> Tensor:
        """bool [row, token]: the tokens of prompts, which come last where they are what is asked for."""
        first = prompt_tokens(rows)
        backbone = self.network.backbone
        channel = isinstance(backbone, CausalLM) and backbone.objective == "channel"
        return (rows["segments"] != 0) & ~first if channel else first

    def _order(self, adapter: Adapter, rows: Rows) -> Tensor:
        """int64 [row, demonstration]: which rows of the support, the first first."""
        count = len(adapter.tensors["input_ids"])
        known, there = adapter.tensors["input_ids"], adapter.tensors["prompt"] > 0
        near = likeness(rows["input_ids"], self._given(rows), known, there)
        # Rows of padding have no token and come last.
        near = torch.where(there.any(1), near, -1.0)
        among = likeness(known, there, known, there)
        most, chosen = min(self.most, count), []
        weight = 0.0 if self.choose == "nearest" else self.variety
        likest = torch.zeros_like(near)
        taken = torch.zeros_like(near)
        for _ in range(most):
            best = ((1 - weight) * near - weight * likest - 4 * taken).argmax(-1, keepdim=True)
            chosen.append(best)
            taken = taken.scatter(-1, best, 1.0)
            likest = torch.maximum(likest, among[best[:, 0]])
        return torch.cat(chosen[::-1], -1)
