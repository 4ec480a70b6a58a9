"""Attentive neural process. Kim, Mnih, Schwarz, et al., 2019, arXiv 1901.05761.

The support's pairs are encoded with self-attention; each query looks for the support inputs near it by cross-attention
with several heads, r(x) = attention(x, x_i, r_i), and is answered by g(x, r(x), z), with a latent variable z as in the
neural process, whose distribution comes from an encoder of its own. Without z it is the conditional attentive one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.attention import check_heads, encoded, looked_up, start_encoder, start_lookup, written
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import weighted_centre
from quickstudy.learners.latents import (
    Latent,
    Objective,
    bound_loss,
    check_objective,
    decoded,
    draws_of,
    key_of,
    latent_of,
    mixture,
    noise_of,
    start_latent,
    tensors_of,
)
from quickstudy.learners.losses import blank
from quickstudy.learners.processes import (
    beside,
    check_sizes,
    density,
    layers,
    normal,
    one_tensor,
    process_loss,
    start_layers,
)


@dataclass(frozen=True)
class AttentiveNP(Learner):
    """Looks up the examples near each query.

    Attributes:
        inputs, outputs: number of inputs and of outputs.
        width: of all layers.
        heads: of attention; divides `width`.
        latent: size of z; 0 for none.
        encoder, decoder: number of layers of the pairs' encoder and of g.
        blocks: of self-attention, after the encoder's layers.
        rows: as many real rows as both sides ever hold together, so that `loss` skips padding; more make it NaN.
        least: smallest deviation of g.
        objective: "elbo", or "likelihood".
        draws, samples: draws of z for each loss and for each answer.
        device: where the meta-parameters lie.

    Raises:
        ValueError: a size is below 1, `heads` does not divide `width`, or `objective` is unknown.
    """

    name: ClassVar[str] = "attentive_np"

    inputs: int = 1
    outputs: int = 1
    width: int = 64
    heads: int = 8
    latent: int = 64
    encoder: int = 3
    decoder: int = 3
    blocks: int = 1
    rows: int = 0
    least: float = 0.01
    objective: Objective = "elbo"
    draws: int = 1
    samples: int = 32
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_sizes(inputs=self.inputs, outputs=self.outputs, width=self.width, heads=self.heads)
        check_sizes(encoder=self.encoder, decoder=self.decoder, draws=self.draws, samples=self.samples)
        check_objective(self.objective)
        check_heads(self.width, self.heads)

    def init(self, generator: torch.Generator) -> Params:
        """The layers of the encoders, of cross-attention and of the decoder."""
        widths = (self.inputs + self.outputs, *[self.width] * self.encoder)
        drawn = start_encoder("pairs", widths, self.blocks, generator) | start_lookup(
            self.inputs, self.width, generator
        )
        if self.latent:
            drawn |= start_encoder("global", widths, self.blocks, generator)
            drawn |= start_latent(self.width, self.latent, generator)
        read = self.inputs + self.width + self.latent
        drawn |= start_layers("decoder", (read, *[self.width] * (self.decoder - 1), 2 * self.outputs), generator)
        return {name: tensor.to(self.device) for name, tensor in drawn.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Minus the mean log density of the query's targets, or the bound on it where there is a latent variable."""
        if not self.latent:
            return process_loss(self, params, episode)
        support, query = blank(episode.support), blank(episode.query)
        known = self._known(params, self._written(params, support), query.inputs)
        return bound_loss(
            lambda z: density(decoded(params, known, z, self.least), query.targets),
            (self._latent(params, support), self._latent(params, beside(support, query, self.rows))),
            noise_of(key_of(support) + key_of(query), self.draws, self.latent),
            query.weights,
            self.objective,
        )

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`keys` and `values` [head, example, part] with their `bias` [example], and the distribution of z.

        Raises:
            TaskError: the task is not a regression on one tensor.
        """
        support = blank(support)
        tensors = self._written(params, support)
        if self.latent:
            tensors |= tensors_of(self._latent(params, support), support)
        return Adapter(tensors, self.name)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Means and variances [example, output], of the mixture over `samples` draws of z where there is one."""
        known = self._known(params, adapter.tensors, inputs)
        if not self.latent:
            return normal(layers(params, "decoder", known), self.least)
        return mixture(decoded(params, known, draws_of(adapter.tensors, self.samples), self.least))

    def _written(self, params: Params, support: Batch) -> Params:
        return written(params, support, encoded(params, "pairs", support, self.heads, self.blocks), self.heads)

    def _latent(self, params: Params, batch: Batch) -> Latent:
        rows = encoded(params, "global", batch, self.heads, self.blocks)
        return latent_of(params, weighted_centre(rows, batch.weights))

    def _known(self, params: Params, tensors: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
        """[example, input + width]: each of `inputs` beside what it finds in what `_written` gave."""
        x = one_tensor(inputs)
        return torch.cat([x, looked_up(params, tensors, x, self.heads)], -1)
