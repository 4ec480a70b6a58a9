"""What every learner must do. Each check raises AssertionError with a sentence; run them all over a new learner.

    for check in CHECKS:
        check(learner, tasks)

A learner that legitimately breaks one declares it: `transductive`, `order_matters`. `check_learns` takes seconds and is
called for itself.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params
from quickstudy.core.vectorise import mean_loss_and_gradients, over_tasks
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import accuracy
from quickstudy.tasks.base import TaskSource
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

TOLERANCE = 1e-4


def check_init(learner: Learner, tasks: TaskSource) -> None:  # noqa: ARG001 - one signature for all checks
    """The same seed gives the same meta-parameters, finite, and torch's global generator is left alone."""
    before = torch.get_rng_state()
    one, other = _init(learner, 3), _init(learner, 3)
    assert torch.equal(before, torch.get_rng_state()), "init drew from torch's global generator"
    assert _same(one, other), "the same seed gave different meta-parameters"
    assert all(bool(tensor.isfinite().all()) for tensor in one.values()), "a meta-parameter is not finite"
    assert not any(tensor.requires_grad for tensor in one.values()), "meta-parameters carry a graph"
    shared = {tensor.data_ptr() for tensor in one.values()} & {tensor.data_ptr() for tensor in other.values()}
    assert not shared, "two calls of init share memory"


def check_loss(learner: Learner, tasks: TaskSource) -> None:
    """A finite scalar, the same twice, with finite gradients that are not all 0."""
    params, episode = _init(learner), next(_episodes(tasks))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    loss = learner.loss(leaves, episode)
    assert loss.dim() == 0, f"the loss has shape {tuple(loss.shape)}; expected a scalar"
    assert bool(loss.isfinite()), f"the loss is {float(loss)}"
    assert torch.equal(loss, learner.loss(leaves, episode)), "two calls of loss differ"
    if not leaves:
        return
    assert loss.requires_grad, "the loss does not depend on the meta-parameters"
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    assert all(bool(grad.isfinite().all()) for grad in grads), "a gradient is not finite"
    assert any(bool(grad.any()) for grad in grads), "all gradients are 0"


def check_pure(learner: Learner, tasks: TaskSource) -> None:
    """Adapting, predicting and the loss change no argument, leave no `.grad` and give the same twice."""
    params, episode = _init(learner), next(_episodes(tasks))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    copy = [leaf.clone() for leaf in tree_leaves(episode)]
    for case in (params, leaves):
        first, second = learner.adapt(case, episode.support), learner.adapt(case, episode.support)
        assert _same(first.tensors, second.tensors), "adapting twice gave different tensors"
        one, other = (learner.predict(case, adapter, episode.query.inputs).mean for adapter in (first, second))
        assert torch.equal(one, other), "predicting twice gave different answers"
        learner.loss(case, episode)
        assert _same(case, params), "the meta-parameters changed"
    with torch.no_grad():
        adapter = learner.adapt(leaves, episode.support)
    held = any(tensor.requires_grad for tensor in adapter.tensors.values())
    assert not held, "an adapter made under no_grad carries a graph"
    assert all(leaf.grad is None for leaf in leaves.values()), "a gradient was left in .grad"
    unchanged = all(torch.equal(a, b) for a, b in zip(copy, tree_leaves(episode), strict=True))
    assert unchanged, "the episode changed"


def check_blind(learner: Learner, tasks: TaskSource) -> None:
    """`adapt` has no argument for a query and `predict` none for labels; answers are one row for each input."""
    assert list(inspect.signature(learner.adapt).parameters) == ["params", "support"], "adapt takes other arguments"
    names = list(inspect.signature(learner.predict).parameters)
    assert names == ["params", "adapter", "inputs"], "predict takes other arguments"
    episode = next(_episodes(tasks))
    means = _answers(learner, _init(learner), episode.support, episode.query.inputs)
    shape = (len(episode.query.weights), episode.support.ways or episode.query.targets.shape[-1])
    assert means.shape == shape, f"answers have shape {tuple(means.shape)}; expected {shape}"
    assert bool(means.isfinite().all()), "an answer is not finite"


def check_queries_apart(learner: Learner, tasks: TaskSource) -> None:
    """A query's answer does not depend on the other queries, unless the learner is transductive."""
    if learner.transductive:
        return
    params, episode = _init(learner), next(_episodes(tasks))
    together = _answers(learner, params, episode.support, episode.query.inputs)
    for row in (0, len(together) - 1):
        alone = _answers(learner, params, episode.support, _rows(episode.query.inputs, [row]))
        _close(alone[0], together[row], f"the answers to query {row} alone and among others")


def check_padding(learner: Learner, tasks: TaskSource) -> None:
    """Rows of weight 0 change nothing, whatever they hold, at the end or in between."""
    params, episode = _init(learner), next(_episodes(tasks))
    padded = replace(episode, support=_padded(episode.support), query=_padded(episode.query))
    _compare(learner, params, episode, padded, "with padding")
    rows = torch.randperm(len(padded.support.weights), generator=torch.Generator().manual_seed(2)).tolist()
    if not learner.order_matters:
        mixed = replace(padded, support=_batch_rows(padded.support, rows))
        _compare(learner, params, episode, mixed, "with padding in between")


def check_weights(learner: Learner, tasks: TaskSource) -> None:
    """A row of weight 2 counts as the row twice, unless the learner declares that it may not."""
    if not learner.weights_repeat:
        return
    params, episode = _init(learner), next(_episodes(tasks))
    support = episode.support
    real = torch.nonzero(support.weights).flatten().tolist()
    heavy = support.weights.clone()
    heavy[real[0]] *= 2
    twice = _batch_rows(support, [*range(len(heavy)), real[0]])
    one = replace(episode, support=replace(support, weights=heavy))
    _compare(learner, params, one, replace(episode, support=twice), "with a row twice")


def check_order(learner: Learner, tasks: TaskSource) -> None:
    """The order of the support's rows does not matter, unless the learner declares `order_matters`."""
    if learner.order_matters:
        return
    params, episode = _init(learner), next(_episodes(tasks))
    rows = torch.randperm(len(episode.support.weights), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = replace(episode, support=_batch_rows(episode.support, rows))
    _compare(learner, params, episode, shuffled, "with the support in another order")


def check_class_numbers(learner: Learner, tasks: TaskSource) -> None:
    """Renumbering the classes renumbers the answers, where the learner declares `class_symmetric`."""
    params, episode = _init(learner), next(_episodes(tasks))
    ways = episode.support.ways
    if not (learner.class_symmetric and ways):
        return
    order = torch.randperm(ways, generator=torch.Generator().manual_seed(1))
    renumbered = replace(episode.support, targets=order[episode.support.targets])
    expected = _answers(learner, params, episode.support, episode.query.inputs)
    found = _answers(learner, params, renumbered, episode.query.inputs)
    _close(found[:, order], expected, "the answers with classes renumbered")


def check_vmap(learner: Learner, tasks: TaskSource) -> None:
    """`torch.vmap` over tasks equals the loop: losses, gradients and answers."""
    params, source = _init(learner), _episodes(tasks)
    stack = stack_episodes([next(source) for _ in range(3)])
    mapped, grads = mean_loss_and_gradients(learner.loss, params, stack, mode="vmap")
    looped, expected = mean_loss_and_gradients(learner.loss, params, stack, mode="loop")
    _close(mapped, looped, "the losses by vmap and by the loop")
    for name, grad in grads.items():
        _close(grad, expected[name], f"the gradients of {name} by vmap and by the loop")

    def answers(params: Params, episode: Episode) -> Tensor:
        return _answers(learner, params, episode.support, episode.query.inputs)

    one, other = (over_tasks(answers, mode)(params, stack) for mode in ("vmap", "loop"))
    _close(one, other, "the answers by vmap and by the loop")


def check_round_trip(learner: Learner, tasks: TaskSource) -> None:
    """An adapter rebuilt from its tensors and its facts as JSON gives the same answers to the bit."""
    params, episode = _init(learner), next(_episodes(tasks))
    with torch.no_grad():
        adapter = learner.adapt(params, episode.support)
        assert adapter.learner == learner.name, f"the adapter names the learner {adapter.learner!r}"
        tensors = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
        rebuilt = Adapter(tensors, adapter.learner, facts=json.loads(json.dumps(dict(adapter.facts))))
        one, other = (learner.predict(params, each, episode.query.inputs).mean for each in (adapter, rebuilt))
    assert torch.equal(one, other), "an adapter rebuilt from tensors and facts answers differently"


Check = Callable[[Learner, TaskSource], None]

CHECKS: tuple[Check, ...] = (
    check_init,
    check_loss,
    check_pure,
    check_blind,
    check_queries_apart,
    check_padding,
    check_weights,
    check_order,
    check_class_numbers,
    check_vmap,
    check_round_trip,
)


def check_learns(learner: Learner, tasks: TaskSource, options: FitOptions, episodes: int = 100) -> None:
    """After meta-training it is better than chance on new tasks, and at chance where the support's labels are shuffled.

    Args:
        learner: of classes.
        tasks: classification tasks in which no class is more frequent than the others.
        options: a short run.
        episodes: new tasks to test on.
    """
    params = fit(learner, tasks, options).params
    true = _accuracies(learner, params, tasks, episodes)
    shuffled = _accuracies(learner, params, ShuffledLabels(tasks), episodes)
    chance = 1 / next(_episodes(tasks)).support.ways
    assert _z(true, chance) > 4, f"the accuracy is {float(true.mean()):.3f}, chance is {chance:.3f}"
    assert abs(_z(shuffled, chance)) < 4, (
        f"with shuffled labels the accuracy is {float(shuffled.mean()):.3f}, chance is {chance:.3f}: something leaks"
    )


@dataclass(frozen=True)
class ShuffledLabels(TaskSource):
    """The tasks of another source with the labels of the support dealt out anew: nothing can be learned from them."""

    tasks: TaskSource

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode; padding stays in its place."""
        episode = self.tasks.sample(generator)
        support = episode.support
        real = torch.nonzero(support.weights).flatten()
        targets = support.targets.clone()
        targets[real] = targets[real[torch.randperm(len(real), generator=generator)]]
        return replace(episode, support=replace(support, targets=targets))


def _init(learner: Learner, seed: int = 0) -> Params:
    return learner.init(torch.Generator().manual_seed(seed))


def _episodes(tasks: TaskSource, seed: int = 0) -> Iterator[Episode]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield tasks.sample(generator)


def _same(one: object, other: object) -> bool:
    first, second = tree_leaves(dict(one)), tree_leaves(dict(other))  # type: ignore[call-overload] # mappings
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _answers(learner: Learner, params: Params, support: Batch, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return learner.predict(params, learner.adapt(params, support), inputs).mean


def _rows(inputs: Inputs, rows: list[int]) -> Inputs:
    found: Inputs = tree_map(lambda leaf: leaf[rows], inputs)
    return found


def _batch_rows(batch: Batch, rows: list[int]) -> Batch:
    found: Batch = tree_map(lambda leaf: leaf[rows], batch)
    return found


def _padded(batch: Batch) -> Batch:
    """Three more rows of weight 0 that hold NaN, or another row's numbers, and other targets."""
    count = len(batch.weights)
    longer = _batch_rows(batch, [*range(count), 0, 0, 0])

    def spoilt(leaf: Tensor) -> Tensor:
        leaf = leaf.clone()
        if leaf.is_floating_point():
            leaf[count:] = torch.nan
        return leaf

    weights, targets = longer.weights.clone(), spoilt(longer.targets)
    weights[count:] = 0
    if batch.ways:
        targets[count:] = torch.arange(1, 4) % batch.ways
    return replace(longer, inputs=tree_map(spoilt, longer.inputs), targets=targets, weights=weights)


def _compare(learner: Learner, params: Params, one: Episode, other: Episode, what: str) -> None:
    """Losses and answers to the queries of `one` agree."""
    first, second = (learner.loss(params, episode) for episode in (one, other))
    _close(second, first, f"the losses {what} and without")
    inputs = one.query.inputs
    first, second = (_answers(learner, params, episode.support, inputs) for episode in (one, other))
    _close(second, first, f"the answers {what} and without")


def _close(found: Tensor, expected: Tensor, what: str) -> None:
    scale = max(1.0, float(expected.abs().max()))
    worst = float((found - expected).abs().max())
    assert worst <= TOLERANCE * scale, f"{what} differ by {worst:.2g}"


def _accuracies(learner: Learner, params: Params, tasks: TaskSource, episodes: int) -> Tensor:
    source = _episodes(tasks, seed=1)

    def score(episode: Episode) -> Tensor:
        return accuracy(_answers(learner, params, episode.support, episode.query.inputs), episode.query)

    return torch.stack([score(next(source)) for _ in range(episodes)])


def _z(values: Tensor, chance: float) -> float:
    error = float(values.std()) / math.sqrt(len(values))
    return (float(values.mean()) - chance) / max(error, 1e-6)
