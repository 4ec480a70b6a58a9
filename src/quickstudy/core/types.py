"""The nouns: Batch, Episode, Adapter, Prediction, Info.

All are frozen and hold tensors, plain numbers and strings only. Batch and Episode are pytrees, so that `torch.func`
maps over them: a stacked Episode has one more axis, the task, in front of every tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node

Params: TypeAlias = dict[str, Tensor]
"""A tree of parameters: dotted name -> tensor."""

Inputs: TypeAlias = Tensor | dict[str, Tensor]
"""What a backbone reads: a tensor or named tensors, the example on axis 0 of each."""

Json: TypeAlias = Any
"""What `json.dumps` takes: None, bool, int, float, str, and lists and dicts of these."""


@dataclass(frozen=True)
class Batch:
    """Labelled examples, padded if need be.

    Attributes:
        inputs: leaves [example, ...].
        targets: [example] int64 class numbers below `ways`, [example, output] floats for regression, or
            [example, token] int64 tokens to be written.
        weights: [example] floats; 0 marks padding, and nothing may depend on what a row of weight 0 holds.
        ways: number of classes, padded classes included; 0 for regression and for writing.
    """

    inputs: Inputs
    targets: Tensor
    weights: Tensor
    ways: int = 0


@dataclass(frozen=True)
class Episode:
    """One task, drawn: learn from `support`, be judged on `query`.

    Attributes:
        support: the examples that `adapt` sees.
        query: the examples that only `loss` and evaluation see.
        task: the task's name, for messages.
        labels: class names in the order of the class numbers; empty for regression.
    """

    support: Batch
    query: Batch
    task: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fingerprint:
    """What a base is: an adapter loads on exactly this.

    Attributes:
        name: the model's name or folder name.
        revision: the revision asked for, or "".
        digest: SHA-256 over names, shapes, types and bytes of all weights, in hexadecimal.
    """

    name: str
    revision: str
    digest: str


@dataclass(frozen=True)
class Adapter:
    """What a support set leaves behind: a few named tensors and a few facts.

    Attributes:
        tensors: dotted name -> tensor.
        learner: name of the learner in `learners.names` that wrote it and can read it.
        labels: class names in the order of the outputs.
        base: fingerprint of the base that it belongs to; None for a base without a file.
        facts: hyperparameters that `predict` needs.
        metrics: figures measured when it was made.
        support_hash: SHA-256 of the support set.
        parent: the adapter that this one continues, or "".
    """

    tensors: Mapping[str, Tensor]
    learner: str
    labels: tuple[str, ...] = ()
    base: Fingerprint | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    support_hash: str = ""
    parent: str = ""


@dataclass(frozen=True)
class Prediction:
    """An answer for each input.

    Attributes:
        mean: [example, ways] logits of a classifier, or [example, output] means of a regressor.
        variance: [example, output] predictive variance of a regressor that knows it, else None.
    """

    mean: Tensor
    variance: Tensor | None = None

    def probabilities(self) -> Tensor:
        """[example, ways], rows summing to 1: the softmax of `mean`."""
        return torch.softmax(self.mean, dim=-1)


@dataclass(frozen=True)
class Info:
    """What a run reports, never what it carries on.

    Attributes:
        values: name -> figure.
        notes: sentences for the user, e.g. that attention was switched.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _flatten_batch(batch: Batch) -> tuple[list[Any], int]:
    return [batch.inputs, batch.targets, batch.weights], batch.ways


def _unflatten_batch(children: Any, ways: int) -> Batch:
    inputs, targets, weights = children
    return Batch(inputs, targets, weights, ways)


def _flatten_episode(episode: Episode) -> tuple[list[Any], tuple[str, tuple[str, ...]]]:
    return [episode.support, episode.query], (episode.task, episode.labels)


def _unflatten_episode(children: Any, context: tuple[str, tuple[str, ...]]) -> Episode:
    support, query = children
    return Episode(support, query, *context)


register_pytree_node(Batch, _flatten_batch, _unflatten_batch)
register_pytree_node(Episode, _flatten_episode, _unflatten_episode)
