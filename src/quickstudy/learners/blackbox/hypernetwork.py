"""A hypernetwork for few-shot tasks. Ha, Dai, Le, 2016, arXiv 1609.09106; sets: Zaheer et al. 2017, arXiv 1703.06114.

Each support pair is embedded, e_i = g(f(x_i), y_i); the embeddings of all pairs, and of each class, are pooled to a
mean or by attention of learned questions (Lee et al. 2019, arXiv 1810.00825); h writes weights from the pools:
w = w0 + h(pool), and the row of the head of class c from the pool of class c beside that of all. No gradient is taken
on the task. The order of the pairs and the numbers of the classes change nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from quickstudy.core.errors import TaskError
from quickstudy.core.parameters import Pattern, from_vector, split, to_vector
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import hide_absent, one_hot
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network
from quickstudy.learners.transformer import HIDDEN, normal


@dataclass(frozen=True)
class Hypernetwork(Learner):
    """Writes the weights of a task model from the support set.

    Attributes:
        network: the task model. For regression it brings a head; for classes none, for one is written.
        writes: patterns of the network's parameters that are written, e.g. `("body.*",)` for all of an MLP or of a
            LoRA; empty for the head of classes alone.
        width: size of embeddings and pools.
        pool: "mean" (deep sets) or "attention".

    Raises:
        ValueError: `width` is below 4 or no multiple of 4, or `pool` is unknown.
    """

    name: ClassVar[str] = "hypernetwork"
    class_symmetric: ClassVar[bool] = True

    network: Network
    writes: tuple[Pattern, ...] = ("*",)
    width: int = 128
    pool: Literal["mean", "attention"] = "mean"

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise ValueError(f"width is {self.width}; give a multiple of 4")
        if self.pool not in {"mean", "attention"}:
            raise ValueError(f'pool is {self.pool!r}; give "mean" or "attention"')

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values w0, and `hyper.*`; at first little is written."""
        start = self.network.init(generator)
        count = len(to_vector(self._written(start)))
        features, width = self.network.backbone.width, self.width
        pools = 2 * width
        layers = {
            "embed": (width, features + self.network.outputs, 1.0),
            "mix": (width, width, 1.0),
            "pooled": (width, width, 1.0),
            "weights": (count, width, 0.1),
            "row": (width, pools, 1.0),
            "head": (features + 1, width, 1.0),
            "seek": (4, width // 4, 1.0),
        }
        unused = {"seek"} if self.pool == "mean" else set()
        unused |= {"row", "head"} if self.network.outputs else set()
        for name, (outputs, inputs, share) in layers.items():
            if name not in unused and outputs:
                weight = share * normal(outputs, inputs, generator)
                start[f"hyper.{name}"] = weight.to(self.network.device)
                start[f"hyper.{name}_bias"] = torch.zeros(outputs, device=self.network.device)
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query with the weights that the support wrote."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The written parameters by their names in `params`, and for classes `head` [ways, feature + 1] and `counts`.

        Raises:
            TaskError: the task is a classification and the network has a head, or the other way round.
        """
        if bool(support.ways) == bool(self.network.outputs):
            found = f"{support.ways} ways and the network {self.network.outputs} outputs"
            raise TaskError(
                f"the task has {found}; give outputs for regression and 0 for classes, whose head is written"
            )
        support = blank(support)
        features = self.network.features(params, support.inputs)
        seen = features if support.ways else torch.cat([features, support.targets], -1)
        tokens = gelu(_layer(params, "mix", gelu(_layer(params, "embed", seen))))
        everything = self._pooled(params, tokens, support.weights[None])[0]
        tensors = {}
        if self.writes:
            like = self._written(params)
            moves = _layer(params, "weights", gelu(_layer(params, "pooled", everything)))
            tensors = {name: like[name] + move for name, move in from_vector(moves, like).items()}
        if support.ways:
            memberships = one_hot(support, features.dtype).T * support.weights
            pools = self._pooled(params, tokens, memberships)
            both = torch.cat([pools, everything.expand_as(pools)], -1)
            tensors["head"] = _layer(params, "head", gelu(_layer(params, "row", both)))
            tensors["counts"] = memberships.sum(-1)
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The outputs of the network with the written weights in place of w0."""
        adapted = {name: adapter.tensors.get(name, tensor) for name, tensor in params.items()}
        if self.network.outputs:
            return Prediction(self.network(adapted, inputs))
        head = adapter.tensors["head"]
        logits = linear(self.network.features(adapted, inputs), head[:, :-1], head[:, -1])
        return Prediction(hide_absent(logits, adapter.tensors["counts"]))

    def _written(self, params: Params) -> Params:
        own = {name: tensor for name, tensor in params.items() if not name.startswith("hyper.")}
        return split(own, self.writes)[0] if self.writes else {}

    def _pooled(self, params: Params, tokens: Tensor, shares: Tensor) -> Tensor:
        """[pool, width]: of `tokens` [example, width], for each row of `shares` [pool, example]."""
        if self.pool == "mean":
            total = shares.sum(-1, keepdim=True)
            return shares @ tokens / torch.where(total > 0, total, 1.0)
        seek = params["hyper.seek"]
        parts = tokens.reshape(len(tokens), *seek.shape)
        scores = (parts * seek).sum(-1).T
        # A row of weight 2 counts as two rows: weights go into the scores as logarithms.
        logs = torch.where(shares > 0, shares.clamp(min=1e-9).log(), HIDDEN)
        attention = torch.softmax(scores + logs[:, None], -1)
        return torch.einsum("phe,ehw->phw", attention, parts).flatten(1)


def _layer(params: Params, name: str, inputs: Tensor) -> Tensor:
    return linear(inputs, params[f"hyper.{name}"], params[f"hyper.{name}_bias"])
