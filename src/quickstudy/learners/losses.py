"""What learners share: losses and accuracies that weights rule, and the head cut to the task's ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

from quickstudy.core.errors import TaskError
from quickstudy.core.inner import Summed
from quickstudy.core.types import Batch, Episode, Inputs, Params
from quickstudy.learners.base import Learner
from quickstudy.learners.language_rows import asked_in_one_row, one_row, rows_of, without_padding
from quickstudy.learners.network import Network


def blank(batch: Batch) -> Batch:
    """`batch` with zeros in the rows of weight 0, whatever they held, NaN included."""
    real = batch.weights > 0

    def zeroed(leaf: Tensor) -> Tensor:
        return torch.where(real.reshape(-1, *[1] * (leaf.dim() - 1)), leaf, leaf.new_zeros(()))

    return Batch(tree_map(zeroed, batch.inputs), zeroed(batch.targets), batch.weights, batch.ways)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The mean of `values` [example] by `weights` [example], a scalar; 0 where all weights are 0."""
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)


def weighted_loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of logits [example, ways], or squared error of means [example, output], a weighted mean.

    For logits of a language model [example, token, vocabulary] the mean cross-entropy of all tokens asked about, each
    with the weight of its example.
    """
    if outputs.dim() == 3:
        counted = (rows_of(batch.inputs)["asked"] > 0) * batch.weights[:, None]
        return token_loss(outputs.flatten(0, 1), batch.targets.flatten(), counted.flatten())
    if batch.ways:
        losses = functional.cross_entropy(outputs, batch.targets, reduction="none")
    else:
        losses = (outputs - batch.targets).square().mean(-1)
    return weighted_mean(losses, batch.weights)


def token_loss(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """The mean cross-entropy of `logits` [token, vocabulary] for `targets` [token], by `counted` [token]."""
    return weighted_mean(functional.cross_entropy(logits.float(), targets, reduction="none"), counted)


def accuracy(outputs: Tensor, batch: Batch) -> Tensor:
    """The share of examples whose largest logit is their class, by weight: a scalar."""
    return weighted_mean((outputs.argmax(-1) == batch.targets).to(outputs.dtype), batch.weights)


def query_loss(learner: Learner, params: Params, episode: Episode) -> Tensor:
    """The loss on the query after adapting to the support: a scalar."""
    adapter = learner.adapt(params, episode.support)
    query = blank(episode.query)
    return weighted_loss(learner.predict(params, adapter, query.inputs).mean, query)


def text_loss(network: Network, params: Params, support: Batch, query: Batch | None = None) -> Tensor:
    """The mean cross-entropy of all completions, where the examples stand one after the other as one text: a scalar.

    Args:
        network: a language model and a delta, without a head.
        params: its parameters.
        support: each example sees those before it. Rows of weight 0 are blank, here and below.
        query: what sees the support, and not each other; None for nothing.
    """
    sides = [support, tree_map(lambda leaf: leaf[:0], support) if query is None else query]
    first, second = (rows_of(side.inputs) for side in sides)
    row = one_row(first, second)
    row["asked"] = torch.cat([asked_in_one_row(first["asked"], first["input_ids"].shape[1], 0), row["asked"]])
    logits = network(params, {name: tensor[None] for name, tensor in without_padding(row).items()})
    counted = [
        ((rows["asked"] > 0) * side.weights[:, None]).flatten()
        for rows, side in zip((first, second), sides, strict=True)
    ]
    targets = torch.cat([side.targets.flatten() for side in sides])
    return token_loss(logits[0], targets, torch.cat(counted))


def support_loss(network: Network, support: Batch, rows: int | None = None) -> Callable[[Params], Tensor]:
    """The network's loss on `support`, as inner loops take it.

    Args:
        network: as the learner has it.
        support: rows of weight 0 may hold anything.
        rows: of a part of the loss; None for one part.
    """
    support = blank(support)
    count = len(support.weights)
    if rows is None or rows >= count:
        return partial(_loss_on, network, support)
    parts = [tree_map(lambda leaf, at=at: leaf[at : at + rows], support) for at in range(0, count, rows)]
    total = _counted(support)
    total = torch.where(total > 0, total, 1.0)
    return Summed(tuple(partial(_share_of_loss, network, part, _counted(part) / total) for part in parts))


def _loss_on(network: Network, batch: Batch, params: Params) -> Tensor:
    return weighted_loss(task_outputs(network, params, batch.inputs, batch.ways), batch)


def _share_of_loss(network: Network, batch: Batch, share: Tensor, params: Params) -> Tensor:
    return share * _loss_on(network, batch, params)


def _counted(batch: Batch) -> Tensor:
    """The sum of the weights in the mean of `weighted_loss`."""
    if isinstance(batch.inputs, dict) and "asked" in batch.inputs:
        return ((batch.inputs["asked"] > 0) * batch.weights[:, None]).sum()
    return batch.weights.sum()


def task_outputs(network: Network, params: Params, inputs: Inputs, ways: int) -> Tensor:
    """[example, ways]: the network's first `ways` outputs; all of them for regression, where `ways` is 0.

    Raises:
        TaskError: the task has more classes than the network has outputs.
    """
    outputs = network(params, inputs)
    if ways > outputs.shape[-1]:
        raise TaskError(
            f"the task has {ways} classes, the head has {outputs.shape[-1]} outputs; give Network(outputs={ways})"
        )
    return outputs[..., :ways] if ways else outputs
