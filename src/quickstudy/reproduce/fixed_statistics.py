"""Batch normalisation with statistics of training tasks, so that the answer to a query depends on no other query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.backbones.conv4 import Conv4
from quickstudy.backbones.conv_block import fold_statistics
from quickstudy.backbones.relation_module import RelationModule
from quickstudy.core.types import Episode, Params
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.learners.base import Learner
from quickstudy.learners.metric.relation import Relation
from quickstudy.learners.network import Network
from quickstudy.tasks.base import TaskSource

STATISTICS = 20
"""Training tasks whose batch statistics, averaged, are kept for testing."""

Tested = TypeVar("Tested", bound=Learner)


def frozen(learner: Tested, params: Params, tasks: TaskSource) -> tuple[Tested, Params]:
    """The learner and its parameters with the mean statistics of some training tasks in place of those of a batch.

    Args:
        learner: on a Conv4 with norm "batch".
        params: meta-trained.
        tasks: training tasks.
    """
    network: Network = learner.network  # type: ignore[attr-defined] # all learners here have one
    backbone = network.backbone
    assert isinstance(backbone, Conv4)
    episodes = [tree_map(lambda leaf: leaf.to(network.device), each) for each in drawn_tasks(tasks, STATISTICS, seed=0)]
    folded = backbone.folded(_named(params, "body."), (_images(each) for each in episodes))
    found = _renamed(params, "body.", folded)
    apart = replace(network, backbone=replace(backbone, norm="none"))
    tested = replace(learner, network=apart)  # type: ignore[type-var] # a frozen dataclass
    if isinstance(tested, Relation):
        return replace(tested, norm="none"), _frozen_relation(tested, found, episodes)
    return tested, found


def _frozen_relation(learner: Relation, params: Params, episodes: Sequence[Episode]) -> Params:
    """As `frozen`, for the relation module on a frozen body."""

    def call(episode: Episode) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            maps = learner.adapt(params, episode.support).tensors["maps"]
            features = learner.network.features(params, _images(episode))
        return maps.reshape(-1, *learner.shape), features.reshape(-1, *learner.shape)

    module = RelationModule(learner.shape, "batch")
    folded = fold_statistics(module, _named(params, "relation."), (call(episode) for episode in episodes))
    return _renamed(params, "relation.", folded)


def _images(episode: Episode) -> Tensor:
    assert isinstance(episode.query.inputs, Tensor), "these tasks are of images"
    return episode.query.inputs


def _named(params: Params, prefix: str) -> Params:
    return {name.removeprefix(prefix): tensor for name, tensor in params.items() if name.startswith(prefix)}


def _renamed(params: Params, prefix: str, part: Params) -> Params:
    """`params` with `part` in place of those of the prefix."""
    rest = {name: tensor for name, tensor in params.items() if not name.startswith(prefix)}
    return rest | {prefix + name: tensor for name, tensor in part.items()}
