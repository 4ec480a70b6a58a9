"""Hierarchical Bayes over the head: a learned distribution over initialisations, and its posterior for each task.

Grant, Finn, Levine, et al., 2018, arXiv 1801.08930, read meta-learning so, with Laplace's approximation; Harrison,
Sharma, Pavone, 2018, arXiv 1807.08912 (ALPaCA), have the closed form for regression, which is Laplace's and exact.
Prior of a head's weights and bias: normal, independent, with learned variances and, for regression, a learned mean.
Regression: y = W f(x) + noise of learned variance; the answer is the exact posterior's mean and variance.
Classes: softmax of W f(x), one row of W a class; the mode by Newton's method, the curvature there as precision, and
the leads of one logit over another shrunk by their variance. The likelihood is raised to the power 1 / noise, so that
meta-training finds how much an example says (tempered posteriors: Wenzel et al., 2020, arXiv 2002.02405). Meta-training
raises the predictive log density of the query, which moves the features, the prior and the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import at_least_float32, head_features, one_hot
from quickstudy.learners.laplace import classified, classify, regress, regressed
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network
from quickstudy.learners.processes import process_loss


@dataclass(frozen=True)
class Hierarchical(Learner):
    """Keeps a distribution over heads, and narrows it by the support.

    Attributes:
        network: backbone and delta, without a head.
        outputs: number of outputs of a regression.
        variance: of a task's output under the prior, where features are about 1, at the start of meta-training.
        noise: standard deviation of a regression's targets, or the root of the temperature of classes, at that start.

    Raises:
        ValueError: `variance` or `noise` is not above 0.
    """

    name: ClassVar[str] = "hierarchical"
    class_symmetric: ClassVar[bool] = True

    network: Network
    outputs: int = 1
    variance: float = 1.0
    noise: float = 0.3

    def __post_init__(self) -> None:
        if not self.variance > 0 or not self.noise > 0:
            raise ValueError(f"variance is {self.variance} and noise is {self.noise}; give numbers above 0")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values; `prior.mean` [output, feature + 1], `.log_variance`, `.log_noise`."""
        width = self.network.backbone.width + 1
        start = self.network.init(generator)
        start["prior.mean"] = torch.zeros(self.outputs, width, device=self.network.device)
        level = math.log(self.variance / width)
        start["prior.log_variance"] = torch.full((width,), level, device=self.network.device)
        start["prior.log_noise"] = torch.tensor(math.log(self.noise), device=self.network.device)
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy, or minus the mean log density, of the query's targets."""
        return query_loss(self, params, episode) if episode.query.ways else process_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`features` [example, feature + 1] of the support, and the posterior in terms of these."""
        support = blank(support)
        features = _with_one(head_features(self.network, params, support))
        variances = params["prior.log_variance"].exp()
        covariance = (features * variances) @ features.mT
        weights, noise = support.weights.to(features), (2 * params["prior.log_noise"]).exp()
        if support.ways:
            tensors = classify(covariance, one_hot(support, features.dtype), weights / noise)
        else:
            residuals = support.targets - features @ params["prior.mean"].mT
            tensors = regress(covariance, residuals, weights, noise)
        facts = {"ways": support.ways}
        return Adapter(
            {"features": features, **tensors}, self.name, base=self.network.backbone.fingerprint, facts=facts
        )

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits, or means and variances [example, output]; classes without support get `heads.ABSENT`."""
        features = _with_one(at_least_float32(self.network.features(params, inputs)))
        scaled = features * params["prior.log_variance"].exp()
        tensors = dict(adapter.tensors)
        cross, own = scaled @ tensors["features"].mT, (scaled * features).sum(-1)
        if adapter.facts["ways"]:
            return Prediction(classified(cross, own, tensors))
        mean, variance = regressed(cross, own, tensors)
        mean = mean + features @ params["prior.mean"].mT
        return Prediction(mean, (variance + (2 * params["prior.log_noise"]).exp()).expand_as(mean))


def _with_one(features: Tensor) -> Tensor:
    """[example, feature + 1]: with a column of ones, which carries the bias."""
    return torch.cat([features, torch.ones_like(features[:, :1])], -1)
