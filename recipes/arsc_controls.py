"""What stands beside the figure of `recipes.arsc`, on the same queries: no support, random starts, frozen features, the
warm start alone, shuffled labels, fewer examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils._pytree import tree_map

from quickstudy.backbones import TextEncoder
from quickstudy.core import SGD, Adam, InnerLoop
from quickstudy.core.types import Batch, Episode, Json, Params
from quickstudy.deltas import Head, LoRA
from quickstudy.evaluation import interval
from quickstudy.learners import Learner, Network
from quickstudy.learners.closed_form.logistic import Logistic
from quickstudy.learners.heads import one_hot
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.meta_sgd import MetaSGD
from quickstudy.learners.softmax_regression import softmax_regression
from quickstudy.tasks import Encode, ReviewTasks, TaskSource, text_key
from quickstudy.tasks.reviews import THRESHOLDS

DRAWS = 5
"""Of shuffled labels, of fewer reviews and of random starts."""

Run = tuple[MetaSGD, Params]


def whole_tests(encode: Encode, queries: int = 0) -> tuple[Episode, ...]:
    """The 12 test tasks with their fixed support and whole test sets, or `queries` reviews of each of these sets."""
    whole = ReviewTasks(encode, role="test").whole()
    if not queries:
        return whole
    return tuple(replace(each, query=_some(each.query, queries)) for each in whole)


def _some(batch: Batch, count: int) -> Batch:
    rows = torch.randperm(len(batch.targets), generator=torch.Generator().manual_seed(0))[:count]
    return _rows(batch, rows)


def _rows(batch: Batch, rows: Tensor) -> Batch:
    part: Batch = tree_map(lambda leaf: leaf[rows], batch)
    return part


def looked_up(reading: Mapping[str, Tensor]) -> Encode:
    """Texts to what `reading`, key -> tensor, holds of them."""

    def encode(texts: Sequence[str]) -> Tensor:
        return torch.stack([reading[text_key(text)] for text in texts])

    return encode


@torch.no_grad()
def accuracies(learner: Learner, params: Params, episodes: Sequence[Episode]) -> Tensor:
    """[episode]: the share of right answers."""
    found = []
    for episode in episodes:
        texts = isinstance(episode.query.inputs, dict)
        order = _by_length(episode.query) if texts else torch.arange(len(episode.query.targets))
        queries = [_cut(_rows(episode.query, rows)) for rows in torch.split(order, 32 if texts else 1000)]
        with torch.autocast("cpu", torch.bfloat16, enabled=texts):
            adapter = learner.adapt(params, episode.support)
            right = [learner.predict(params, adapter, q.inputs).mean.argmax(1) == q.targets for q in queries]
        found.append(torch.cat(right).float().mean())
    return torch.stack(found)


def _by_length(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, dict)
    return batch.inputs["mask"].sum(1).argsort()


def _cut(batch: Batch) -> Batch:
    """The batch without token columns that are padding in all its rows."""
    if not isinstance(batch.inputs, dict):
        return batch
    longest = int(batch.inputs["mask"].sum(1).max())
    return replace(batch, inputs={name: leaf[:, :longest] for name, leaf in batch.inputs.items()})


def fewer(episode: Episode, shots: int, generator: torch.Generator) -> Episode:
    """The episode with `shots` of the support's reviews of each class, drawn anew."""
    order = torch.randperm(len(episode.support.targets), generator=generator)
    kept = torch.cat([order[episode.support.targets[order] == label][:shots] for label in (0, 1)])
    return replace(episode, support=_rows(episode.support, kept))


def shuffled(episode: Episode, generator: torch.Generator) -> Episode:
    """The episode with the support's labels dealt anew."""
    targets = episode.support.targets
    order = torch.randperm(len(targets), generator=generator)
    return replace(episode, support=replace(episode.support, targets=targets[order]))


def row(what: str, draws: Sequence[Tensor]) -> Json:
    """A row of the table: `draws` [task] accuracies, of one run or of several seeds or draws, whose mean counts."""
    found = interval(torch.stack(list(draws)).mean(0))
    means = [round(100 * float(each.mean()), 2) for each in draws]
    per_task = [round(100 * each, 2) for each in torch.stack(list(draws)).mean(0).tolist()]
    percent = {"mean": round(100 * found.mean, 2), "ci95": round(100 * found.ci95, 2)}
    return {
        "what": what,
        **percent,
        "tasks": found.tasks,
        "seeds": len(draws),
        "seed_means": means,
        "per_task": per_task,
    }


def tuned(make: Callable[[float], Learner], rates: Sequence[float], tasks: TaskSource, count: int) -> Learner:
    """The learner of the rate that does best from random starts on `count` episodes of train tasks."""
    episodes = [tasks.sample(torch.Generator().manual_seed(seed)) for seed in range(count)]
    scores = {}
    for rate in rates:
        method = make(rate)
        starts = [method.init(torch.Generator().manual_seed(seed)) for seed in range(count)]
        found = [accuracies(method, start, [each]) for start, each in zip(starts, episodes, strict=True)]
        scores[rate] = float(torch.cat(found).mean())
    print({rate: round(100 * score, 1) for rate, score in scores.items()}, flush=True)
    return make(max(scores, key=lambda rate: scores[rate]))


def from_random(method: Learner, episodes: Sequence[Episode], draws: int = DRAWS) -> list[Tensor]:
    """Draw by draw, the accuracies [episode] from a random start each."""
    starts = [method.init(torch.Generator().manual_seed(seed)) for seed in range(draws)]
    return [accuracies(method, start, episodes) for start in starts]


def changed(
    episodes: Sequence[Episode], change: Callable[[Episode, torch.Generator], Episode], seed: int
) -> list[Episode]:
    """Each of the episodes, changed by a draw of its own."""
    return [change(each, torch.Generator().manual_seed(1000 * seed + place)) for place, each in enumerate(episodes)]


def balanced(run: Run, episodes: Sequence[Episode]) -> Tensor:
    """[episode]: the mean of the accuracies on the two classes."""
    sides = []
    for label in (0, 1):
        rows = [(each.query.targets == label).nonzero()[:, 0] for each in episodes]
        parts = [replace(each, query=_rows(each.query, some)) for each, some in zip(episodes, rows, strict=True)]
        sides.append(accuracies(*run, parts))
    return torch.stack(sides).mean(0)


def meta_rows(runs: Sequence[Run], tests: Sequence[Episode]) -> list[Json]:
    """The meta-learned start: as it is meant, and with its support taken away, falsified or cut."""
    still = [(replace(method, inner=replace(method.inner, steps=0)), params) for method, params in runs]
    first = runs[0]
    mixed = [accuracies(*first, changed(tests, shuffled, seed)) for seed in range(DRAWS)]
    cut = [changed(tests, lambda each, generator: fewer(each, 4, generator), seed) for seed in range(DRAWS)]
    return [
        row("meta-learned start, 10 support reviews", [accuracies(*run, tests) for run in runs]),
        row("the same, mean of both classes' accuracies", [balanced(run, tests) for run in runs]),
        row("meta-learned start, no support (transfer)", [accuracies(*run, tests) for run in still]),
        row("meta-learned start, shuffled support labels", mixed),
        row("meta-learned start, 8 of the 10 support reviews", [accuracies(*first, each) for each in cut]),
    ]


def star_rows(method: MetaSGD, tests: Sequence[Episode], train: TaskSource) -> list[Json]:
    """The multi-task warm start without meta-training; `tests` hold its outputs."""
    drawn = tuned(lambda rate: replace(method, inner=InnerLoop(20, SGD(rate))), (0.03, 0.1, 0.3, 1.0), train, 100)
    cut = [changed(tests, lambda each, generator: fewer(each, 4, generator), seed) for seed in range(DRAWS)]
    always = torch.stack([each.query.targets.float().mean() for each in tests])
    return [
        row("always the better class", [always]),
        row("warm start, told the threshold, no support", [_share(tests, told)]),
        row("warm start, the threshold that the support makes likeliest", [_share(tests, likeliest)]),
        row("warm start + logistic on the 10", [_share(tests, _fitted)]),
        row("warm start + random start of the same network, its own rate, 10", from_random(drawn, tests)),
        row("the same, 8 of the 10", [from_random(drawn, each, 1)[0] for each in cut]),
    ]


def text_rows(encoder: TextEncoder, queries: int) -> list[Json]:
    """MiniLM without meta-training: frozen, and LoRA from a random start."""
    tests = whole_tests(encoder.inputs, queries)
    few = f"{queries or 'all'} queries of each task"
    frozen = Logistic(Network(encoder, Head()))
    train = ReviewTasks(encoder.inputs, fixed_order=True)
    network = Network(encoder, LoRA(), outputs=2)

    def lora(rate: float) -> MAML:
        return MAML(network, InnerLoop(10, Adam(rate), order="first"))

    drawn = tuned(lora, (3e-4, 3e-3, 3e-2), train, 8)
    cut = changed(tests, lambda each, generator: fewer(each, 4, generator), 0)
    return [
        row(f"frozen MiniLM + logistic on the 10, {few}", [accuracies(frozen, frozen.init(torch.Generator()), tests)]),
        row(f"MiniLM, random start of LoRA and head, its own rate, 10, {few}", from_random(drawn, tests, 1)),
        row(f"the same, 8 of the 10, {few}", from_random(drawn, cut, 1)),
    ]


def _share(tests: Sequence[Episode], answer: Callable[[Episode], Tensor]) -> Tensor:
    return torch.stack([(answer(each) == each.query.targets).float().mean() for each in tests])


def told(episode: Episode) -> Tensor:
    """The output of the task's own threshold."""
    column = THRESHOLDS.index(episode.task.rpartition(".")[2])
    return (_values(episode.query)[:, column] > 0).long()


def likeliest(episode: Episode) -> Tensor:
    """The mean of the outputs, each weighed by the likelihood that it gives the support."""
    support = _values(episode.support)
    signs = (2 * episode.support.targets - 1)[:, None]
    weights = logsigmoid(signs * support).sum(0).softmax(0)
    return (_values(episode.query).sigmoid() @ weights > 0.5).long()


def _fitted(episode: Episode) -> Tensor:
    support = _values(episode.support)
    weight, bias = softmax_regression(
        support, one_hot(episode.support, support.dtype), episode.support.weights, torch.tensor(1.0)
    )
    return (_values(episode.query) @ weight + bias).argmax(1)


def _values(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, Tensor)
    return batch.inputs
