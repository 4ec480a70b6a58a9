"""How good a method is: on the test split of a file, or over many small tasks drawn from it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from sklearn.metrics import f1_score
from torch import Tensor

from quickstudy.core.errors import InputError
from quickstudy.core.types import Adapter, Episode, Json, Params
from quickstudy.evaluation.calibration import expected_calibration_error
from quickstudy.evaluation.intervals import interval
from quickstudy.lifecycle.classifier import FewShotClassifier
from quickstudy.lifecycle.examples import Examples, checked_examples, checked_targets
from quickstudy.lifecycle.fitting import FitChoices, adapt_to, open_adapter
from quickstudy.lifecycle.initialisation import chosen_method
from quickstudy.lifecycle.methods import Method, encoder_of
from quickstudy.tasks.encoded import EncodedTexts
from quickstudy.tasks.episodes import TableTasks
from quickstudy.tasks.table import Table

WARM_UP = (("the kettle is on the stove", "kettle"), ("rain fell over the hills", "rain"))
"""What is adapted to once before time is taken, so that the base is loaded."""


@dataclass(frozen=True)
class EpisodePlan:
    """Which small tasks are drawn.

    Attributes:
        ways: classes of each.
        shots: examples of each class to adapt to.
        queries: examples of each class to be judged on.
        episodes: how many tasks.
        seed: decides them.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    episodes: int = 600
    seed: int = 0


def evaluate_splits(train: Table, test: Table, classifier: FewShotClassifier) -> Json:
    """`accuracy, macro_f1, ece, adapt_seconds, n_train, n_test, method, base`.

    The time is that of one `fit` on texts not seen before: tokenising, encoding and fitting, not the loading of the
    base. Answers of "unknown" are off, for each test row has a class.

    Raises:
        TaskError: a test row has a label that no training row has.
    """
    known = sorted(set(train.labels))
    checked_targets(test.labels, len(test), known, None)
    classifier.set_params(unknown=None)
    classifier.fit(*zip(*WARM_UP, strict=True))
    began = time.perf_counter()
    classifier.fit(train.texts, train.labels)
    seconds = time.perf_counter() - began
    probabilities = torch.from_numpy(classifier.predict_proba(test.texts))
    number = {label: place for place, label in enumerate(classifier.classes_.tolist())}
    targets = torch.tensor([number[label] for label in test.labels])
    found = probabilities.argmax(-1)
    return {
        "accuracy": float((found == targets).double().mean()),
        "macro_f1": float(f1_score(targets.numpy(), found.numpy(), average="macro", zero_division=0)),
        "ece": expected_calibration_error(probabilities, targets),
        "adapt_seconds": seconds,
        "n_train": len(train),
        "n_test": len(test),
        "method": classifier.method,
        "base": encoder_of(classifier.base).fingerprint.name,
    }


def evaluate_episodes(
    table: Table, classifier: FewShotClassifier, plan: EpisodePlan, told: Callable[[int], None] | None = None
) -> Json:
    """`accuracy, ci95, episodes, adapt_seconds_median`; the interval is over tasks.

    Each task is adapted to from its texts alone: nothing that was computed for another task is used again, so the time
    is what a user waits.

    Args:
        table: where classes and examples are drawn from.
        classifier: how to adapt; it is not fitted.
        plan: which tasks.
        told: called with the number of finished tasks after each.

    Raises:
        TaskError: the table has too few classes or examples.
        InputError: a number of the plan is too small.
    """
    if plan.episodes < 1:
        raise InputError(f"episodes is {plan.episodes}; give 1 or more")
    texts = tuple(dict.fromkeys(table.texts))
    numbers = {text: number for number, text in enumerate(texts)}

    def numbered(rows: Sequence[str]) -> Tensor:
        return torch.tensor([numbers[text] for text in rows])

    tasks = TableTasks(table, numbered, plan.ways, plan.shots, plan.queries)
    generator = torch.Generator().manual_seed(plan.seed)
    method, params = chosen_method(classifier.method, encoder_of(classifier.base), classifier.seed)
    choices = FitChoices(classifier.class_names, seed=classifier.seed)
    run = _Run(method, params, choices, texts, EncodedTexts(replace(method.backbone).inputs, texts))
    _adapted(run, checked_examples(*zip(*WARM_UP, strict=True)))
    scores, seconds = [], []
    for number in range(plan.episodes):
        score, taken = _scored(run, tasks.sample(generator))
        scores.append(score)
        seconds.append(taken)
        if told is not None:
            told(number + 1)
    found = interval(torch.tensor(scores))
    return {
        "accuracy": found.mean,
        "ci95": found.ci95 if plan.episodes > 1 else None,
        "episodes": plan.episodes,
        "adapt_seconds_median": statistics.median(seconds),
    }


@dataclass(frozen=True)
class _Run:
    """What stays the same from task to task."""

    method: Method
    params: Params
    choices: FitChoices
    texts: tuple[str, ...]
    queries: EncodedTexts


def _scored(run: _Run, episode: Episode) -> tuple[float, float]:
    """Accuracy on the query, and seconds of adapting."""
    classes = tuple(sorted(episode.labels))
    place = torch.tensor([classes.index(label) for label in episode.labels])
    texts = tuple(run.texts[number] for number in episode.support.inputs.tolist())  # type: ignore[union-attr] # a tensor
    examples = Examples(texts, tuple(place[episode.support.targets].tolist()), classes, "str")
    began = time.perf_counter()
    adapter = _adapted(run, examples)
    seconds = time.perf_counter() - began
    answering = open_adapter(adapter, run.method.encoder)
    with torch.no_grad():
        inputs = run.queries(episode.query.inputs)  # type: ignore[arg-type] # a tensor
        logits = run.method.learner.predict(answering.params, answering.adapter, inputs).mean
    return float((logits.argmax(-1).cpu() == place[episode.query.targets]).double().mean()), seconds


def _adapted(run: _Run, examples: Examples) -> Adapter:
    """An adapter made with an encoder that remembers no text."""
    fresh = replace(run.method, backbone=replace(run.method.backbone))
    return adapt_to(fresh, run.params, examples, run.choices)[0]
