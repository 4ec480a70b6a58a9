"""Neural process with a latent variable. Garnelo, Schwarz, Rosenbaum, et al., 2018, arXiv 1807.01622.

The averaged encoding of the pairs gives a normal distribution q(z | support); a query's answer is the mixture, over
draws of z, of the normal distributions g(x, z). Meta-training raises E_{z ~ q(z | support, query)} log p(query | z)
- KL(q(z | support, query) | q(z | support)), or the likelihood itself, estimated with a few draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import weighted_centre
from quickstudy.learners.latents import (
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
from quickstudy.learners.processes import check_sizes, density, layers, one_tensor, pairs, start_layers


@dataclass(frozen=True)
class LatentNP(Learner):
    """Draws whole functions: one for each value of the latent variable.

    Attributes:
        inputs: number of inputs.
        outputs: number of outputs.
        width: of the representation and of all layers.
        latent: size of z.
        encoder: number of layers of the encoder.
        decoder: number of layers of g.
        least: smallest deviation of g.
        objective: "elbo", or "likelihood".
        draws: of z for each loss.
        samples: draws of z for each answer.
        device: where the meta-parameters lie.

    Raises:
        ValueError: a size is below 1, or `objective` is unknown.
    """

    name: ClassVar[str] = "latent_np"

    inputs: int = 1
    outputs: int = 1
    width: int = 128
    latent: int = 64
    encoder: int = 4
    decoder: int = 3
    least: float = 0.01
    objective: Objective = "elbo"
    draws: int = 4
    samples: int = 32
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_sizes(inputs=self.inputs, width=self.width, latent=self.latent, draws=self.draws, samples=self.samples)
        check_sizes(encoder=self.encoder, decoder=self.decoder)
        check_objective(self.objective)

    def init(self, generator: torch.Generator) -> Params:
        """The layers of encoder, latent distribution and decoder."""
        encoder = (self.inputs + self.outputs, *[self.width] * self.encoder)
        decoder = (self.latent + self.inputs, *[self.width] * (self.decoder - 1), 2 * self.outputs)
        drawn = {
            **start_layers("encoder", encoder, generator),
            **start_latent(self.width, self.latent, generator),
            **start_layers("decoder", decoder, generator),
        }
        return {name: tensor.to(self.device) for name, tensor in drawn.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Minus the bound on the query's log-likelihood, for each query point; its noise is a hash of the episode."""
        support, query = blank(episode.support), blank(episode.query)
        known, asked = (layers(params, "encoder", pairs(batch)) for batch in (support, query))
        given = latent_of(params, weighted_centre(known, support.weights))
        everything = weighted_centre(torch.cat([known, asked]), torch.cat([support.weights, query.weights]))
        noise = noise_of(key_of(support) + key_of(query), self.draws, self.latent)
        x = one_tensor(query.inputs)
        return bound_loss(
            lambda z: density(decoded(params, x, z, self.least), query.targets),
            (given, latent_of(params, everything)),
            noise,
            query.weights,
            self.objective,
        )

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`mean` and `deviation` [latent] of the latent variable, and `key`, which its draws follow from.

        Raises:
            TaskError: the task is not a regression on one tensor.
        """
        support = blank(support)
        encoded = layers(params, "encoder", pairs(support))
        latent = latent_of(params, weighted_centre(encoded, support.weights))
        return Adapter(tensors_of(latent, support), self.name)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Means and variances [example, output] of the mixture over `samples` draws, the same for the same adapter."""
        return mixture(decoded(params, one_tensor(inputs), draws_of(adapter.tensors, self.samples), self.least))
