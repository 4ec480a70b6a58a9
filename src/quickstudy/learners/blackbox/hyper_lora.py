"""HyperLoRA: a hypernetwork that writes LoRA matrices for a language model from a task's examples, or from words.

Ha, Dai, Le, 2016, arXiv 1609.09106; for LoRA from descriptions: Charakorn et al., 2025, arXiv 2506.06105.

The frozen model reads each example, and a transformer reads what it made of all their tokens, as a set T of pairs of
activations and roles. It is asked once for each rank r of each layer m: h = transformer(q_mr | T). The matrices are
    A_r = A0_r + W_in h        B_r = B0_r + gate_mr * W_out h        gate_mr = sigmoid(<g, h>)
with W_in and W_out one for each size of input and output. A gate near 0 takes its rank away: see `deltas.lora.pruned`.
No gradient is taken on the task, unless a few steps from there are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.errors import TaskError
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.transforms import is_mapped
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.deltas.lora import LoRA, downs_of, up_of
from quickstudy.learners.attention import log_weights
from quickstudy.learners.base import Learner
from quickstudy.learners.language_rows import Rows, is_note, prompt_tokens, rows_of
from quickstudy.learners.losses import blank, query_loss, support_loss
from quickstudy.learners.network import Network
from quickstudy.learners.transformer import Transformer, normal

HYPER = "hyper."
"""Begins the names of the hypernetwork's own parameters."""

PROMPT, COMPLETION, NOTE = 0, 1, 2
"""Roles of tokens; a note is a text without a completion, such as a description of the task."""


@dataclass(frozen=True)
class HyperLoRA(Learner):
    """Writes the LoRA matrices of a network.

    Attributes:
        network: a language model with LoRA, without a head.
        reads: "examples", the "notes" of the support (see `CausalLM.batch`), or "both".
        transformer: what reads the tokens.
        inner: gradient steps on the support from what was written; none by default.
        sparsity: what the mean gate adds to the loss of meta-training.

    Raises:
        ValueError: `reads` is unknown, `sparsity` is below 0, or the delta is not LoRA.
    """

    name: ClassVar[str] = "hyper_lora"

    network: Network
    reads: Literal["examples", "notes", "both"] = "both"
    transformer: Transformer = field(default_factory=lambda: Transformer(128, 2, 4, 256))
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(0))
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if self.reads not in {"examples", "notes", "both"}:
            raise ValueError(f'reads is {self.reads!r}; give "examples", "notes" or "both"')
        if not isinstance(self.network.delta, LoRA):
            raise ValueError(f"the network's delta is {self.network.delta}; HyperLoRA writes LoRA")
        if self.sparsity < 0:
            raise ValueError(f"sparsity is {self.sparsity}; give 0 or more")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values A0 and B0, and `hyper.*`; at first little is written."""
        start = self.network.init(generator)
        width, questions = self.transformer.width, sum(tensor.shape[0] for tensor in downs_of(start).values())
        own = {
            "read": normal(width, self._model.activation_width, generator),
            "roles": torch.randn(3, width, generator=generator),
            "questions": torch.randn(questions, width, generator=generator),
            "gate": torch.zeros(width),
            "gate_bias": torch.zeros(()),
            **self.transformer.init(generator),
        }
        downs = downs_of(start)
        sizes = {("in", down.shape[1]) for down in downs.values()} | {("out", len(start[up_of(n)])) for n in downs}
        for side, size in sorted(sizes):
            own[f"{side}.{size}"] = 0.1 * normal(size, width, generator) / size**0.5
        return start | {HYPER + name: tensor.to(self.network.device) for name, tensor in own.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy of the query's tokens with the written matrices, and the price of the gates."""
        loss = query_loss(self, params, episode)
        if self.sparsity:
            loss = loss + self.sparsity * self._asked(params, episode.support)[1].mean()
        return loss

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The LoRA matrices by their names in the network."""
        hidden, gates = self._asked(params, support)
        written: Params = {}
        first = 0
        for name, down in downs_of(params).items():
            ranks = slice(first, first := first + down.shape[0])
            up = params[up_of(name)]
            written[name] = down + linear(hidden[ranks], params[f"{HYPER}in.{down.shape[1]}"])
            columns = gates[ranks, None] * linear(hidden[ranks], params[f"{HYPER}out.{up.shape[0]}"])
            written[up_of(name)] = up + columns.T
        if self.inner.steps:
            loss = support_loss(self.network, support, self.inner.rows)
            written = adapt_parameters(loss, written, self.inner)
        return Adapter(written, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:  # noqa: ARG002 - the contract
        """Logits [example, token asked about, vocabulary] with the written matrices."""
        return Prediction(self.network(dict(adapter.tensors), inputs))

    @property
    def _model(self) -> CausalLM:
        backbone = self.network.backbone
        if not isinstance(backbone, CausalLM):
            raise TaskError(f"HyperLoRA writes for a language model; the backbone is {type(backbone).__name__}")
        return backbone

    def _asked(self, params: Params, support: Batch) -> tuple[Tensor, Tensor]:
        """What the transformer answers for each rank of each layer [rank, width], and the gates [rank]."""
        support = blank(support)
        inputs = rows_of(support.inputs)
        own = {name.removeprefix(HYPER): tensor for name, tensor in params.items() if name.startswith(HYPER)}
        hidden, roles = self._model.activations(inputs), _roles(inputs)
        weights = (inputs["segments"] != 0) * support.weights[:, None]
        if self.reads != "both":
            weights = weights * ((roles == NOTE) == (self.reads == "notes"))
        # Under `torch.vmap` sizes must not depend on values, and what does not count stays, unseen.
        there = slice(None) if is_mapped(weights) else weights.flatten() > 0
        hidden, roles, weights = (part.flatten(0, 1)[there] for part in (hidden, roles, weights))
        tokens = linear(layer_norm(hidden.float(), hidden.shape[-1:]), own["read"]) + own["roles"][roles]
        questions = own["questions"]
        mask = log_weights(weights).expand(len(tokens) + len(questions), -1)
        found = self.transformer.answer(own, tokens, questions, mask)
        found = layer_norm(found, found.shape[-1:])
        return found, torch.sigmoid(found @ own["gate"] + own["gate_bias"])


def _roles(rows: Rows) -> Tensor:
    """int64 [example, token]."""
    roles = torch.where(prompt_tokens(rows), PROMPT, COMPLETION)
    return torch.where(is_note(rows)[:, None], NOTE, roles)
