"""The learner that is used when none is named: a few contrastive steps of LoRA, then a linear head.

Features f(x) have length 1 and c_k begins as the mean feature of class k, its name included. Each inner step lowers

    L = mean_i CE(f(x_i) c_k / t, y_i) + a * mean_i mean_{j in P(i)} -log softmax_j(f(x_i) f(x_j) / t)

over LoRA and c, with P(i) the other examples of i's class: supervised contrastive learning (Khosla et al., 2020, arXiv
2004.11362) beside cosine prototypes (Snell et al., 2017, arXiv 1703.05175). The head adds the logits of c and of a
logistic regression. Meta-training lowers the same terms, c judged on the query, and 1 - cos(f(x), base f(x)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from quickstudy.core.errors import TaskError
from quickstudy.core.optimisers import Adam
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.contrast import supervised_contrast
from quickstudy.learners.heads import class_means, class_weights, hide_absent, one_hot
from quickstudy.learners.losses import blank, weighted_mean
from quickstudy.learners.network import Network
from quickstudy.learners.rows import batches, compute_dtype, joined, take, text_features, without_padding
from quickstudy.learners.softmax_regression import softmax_regression


@dataclass(frozen=True)
class Auto(Learner):
    """Adapts the network by a few steps and computes a linear head.

    A larger support than `rows` is gone through in batches; the order of its rows then decides which of them meet.

    Attributes:
        network: backbone and delta, without a head.
        epochs: steps that each row of the support takes part in; 0 leaves the features as they are.
        crowded: fewest classes for which there are such steps; with few, they make the features worse.
        rows: most rows of a step.
        rate: learning rate of Adam at its highest; it rises for a tenth of the steps and falls to 0 by a line.
        temperature: t.
        contrast: a.
        regularisation: of the logistic regression, as its 1/C.
        prototype_scale: what the cosines with c are multiplied with in the logits; `still_scale` without steps.
        logistic_scale: what the logits of the logistic regression are multiplied with.
        closeness: weight of the way from the base in meta-training.
        precision: "bfloat16" adapts under autocast, "float32" does not, "auto" takes the faster one.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "auto"
    order_matters: ClassVar[bool] = True
    class_symmetric: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    network: Network
    epochs: int = 6
    crowded: int = 16
    rows: int = 64
    rate: float = 5e-4
    temperature: float = 0.05
    contrast: float = 1.0
    regularisation: float = 1 / 30
    prototype_scale: float = 10.0
    still_scale: float = 14.0
    logistic_scale: float = 1.1
    closeness: float = 1.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        above = min(self.rate, self.temperature, self.regularisation)
        if above <= 0 or min(self.epochs, self.contrast, self.closeness) < 0 or self.rows < 2:
            raise ValueError(f"rate and temperature must be above 0, rows 2 or more, epochs 0 or more: {self}")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Cross-entropy of the query by the support's prototypes, contrast of all rows, and distance from the base."""
        support, query = blank(episode.support), blank(episode.query)
        rows = joined(support, query)
        features = normalize(text_features(self.network, params, rows.inputs), dim=-1)
        count = len(support.targets)
        prototypes = normalize(class_means(features[:count], support), dim=-1)
        logits = hide_absent(features[count:] @ prototypes.T / self.temperature, class_weights(support))
        loss = self._terms(logits, features, query, rows)
        with torch.no_grad():
            base = normalize(text_features(self.network, {}, rows.inputs), dim=-1)
        return loss + self.closeness * weighted_mean(1 - (features * base).sum(-1), rows.weights)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`weight` [feature, ways], `bias` [ways], `counts` [ways], and what moved in the network under its names.

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("auto tells classes apart and this task is a regression; use ridge or maml")
        support, dtype = without_padding(blank(support)), compute_dtype(self.precision, self.network.device)
        with torch.no_grad():
            moving = {name: tensor.detach() for name, tensor in params.items()}
            features = normalize(text_features(self.network, moving, support.inputs, dtype), dim=-1)
            prototypes = normalize(class_means(features, support), dim=-1)
            steps = self.epochs and support.ways >= self.crowded
            if steps:
                moving, prototypes = self._steps(moving, prototypes, support, dtype)
                features = normalize(text_features(self.network, moving, support.inputs, dtype), dim=-1)
            targets, r = one_hot(support, features.dtype), features.new_tensor(self.regularisation)
            weight, bias = softmax_regression(features, targets, support.weights, r)
        scale = self.prototype_scale if steps else self.still_scale
        weight, bias = scale * prototypes.T + self.logistic_scale * weight, self.logistic_scale * bias
        head = {"weight": weight, "bias": bias, "counts": class_weights(support)}
        return Adapter({**(moving if steps else {}), **head}, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits; classes without support get `heads.ABSENT`."""
        features = normalize(text_features(self.network, {**params, **adapter.tensors}, inputs), dim=-1)
        head = adapter.tensors
        return Prediction(hide_absent(features @ head["weight"] + head["bias"], head["counts"]))

    def _terms(self, logits: Tensor, features: Tensor, judged: Batch, rows: Batch) -> Tensor:
        """The cross-entropy of `logits` on `judged`, and the contrast of `features` of `rows`."""
        found = weighted_mean(cross_entropy(logits, judged.targets, reduction="none"), judged.weights)
        return found + self.contrast * supervised_contrast(features, rows.targets, rows.weights, self.temperature)

    def _steps(self, moving: Params, prototypes: Tensor, support: Batch, dtype: torch.dtype) -> tuple[Params, Tensor]:
        """`moving` and `prototypes` after the inner steps."""
        optimiser, current = Adam(self.rate, eps=1e-14), {**moving, "prototypes": prototypes}
        state = optimiser.start(current)
        plan, counts = batches(len(support.targets), self.rows, self.epochs), class_weights(support)
        for step, rows in enumerate(plan):
            batch = take(support, rows)

            def loss(values: Params, batch: Batch = batch) -> Tensor:
                features = normalize(text_features(self.network, values, batch.inputs, dtype), dim=-1)
                cosines = features @ normalize(values["prototypes"], dim=-1).T
                logits = hide_absent(cosines / self.temperature, counts)
                return self._terms(logits, features, batch, batch)

            pace = self.rate * min(1.0, (step + 1) / (0.1 * len(plan))) * (1 - step / len(plan))
            current, state = optimiser.step(current, torch.func.grad(loss)(current), state, pace)
        prototypes = current.pop("prototypes")
        return current, normalize(prototypes, dim=-1)
