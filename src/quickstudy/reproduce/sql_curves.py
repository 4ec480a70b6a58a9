"""What a meta-learned start saves on SQL dialects: steps, examples, and seconds of a task, beside a random start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.reproduce.base import Row, Work
from quickstudy.reproduce.sql_arms import Arm, Sizes, asked_tasks, judged, plain

SHARE = 0.95
"""Of the best accuracy of the random start that steps are counted to."""

TASKS = 50
"""Over which the cost of meta-training is spread."""


def rows(work: Work, base: CausalLM, arms: tuple[Arm, Arm, Arm], sizes: Sizes) -> list[Row]:
    """Accuracy after each number of steps of the first two arms, of the third from each number of examples, and what
    follows: steps and examples that are needed, and seconds of a task. Draws the curves.

    Args:
        work: as of the reproduction.
        base: the language model.
        arms: the meta-learned start, the same way from a random start, and plain steps from a random start.
        sizes: how much is measured.
    """
    meta, same, lora = arms
    curves = {arm.name: [_after(work, arm, steps, base, sizes) for steps in sizes.curve] for arm in (meta, same)}
    work.picture(partial(_draw_steps, curves), "steps")
    drawn = asked_tasks(sizes, sizes.curve_tests, sizes.shots)
    wanted = judged(work, replace(meta, label=f"{meta.label}-wanted"), base, drawn, sizes)
    by_examples = [_from_examples(work, lora, count, base, sizes) for count in sizes.examples]
    found = [row for curve in curves.values() for row in curve]
    found += [*_steps_needed(curves, same.name), *by_examples]
    enough = [row for row in by_examples if row.mean >= wanted.mean]
    if enough:
        needed = float(enough[0].facts["examples"])
        title = f"examples with which {lora.name} is as good as {meta.name} with {sizes.shots}"
        found.append(_number(title, "examples", needed, by_examples))
        found += _costs(work, meta, wanted, enough[0])
    return found


def _after(work: Work, arm: Arm, steps: int, base: CausalLM, sizes: Sizes) -> Row:
    """The row of an arm after so many steps at its own rate."""
    way = arm.way
    if way is None:
        raise ValueError(f"{arm.name!r} makes no steps")
    facts = {"rank": arm.facts["rank"], "rate": arm.facts["rate"], "steps": steps}
    learner = way(base, steps, arm.facts["rate"])
    one = Arm(f"{arm.label}-{steps}", f"{arm.name}: {steps} steps", learner, arm.params, facts)
    return judged(work, one, base, asked_tasks(sizes, sizes.curve_tests, sizes.shots), sizes)


def _from_examples(work: Work, arm: Arm, count: int, base: CausalLM, sizes: Sizes) -> Row:
    """The row of plain steps from so many examples: as many steps as there may be, at the arm's rate."""
    facts = {"rank": arm.facts["rank"], "rate": arm.facts["rate"], "steps": max(sizes.steps), "examples": count}
    learner = plain(base, facts["steps"], facts["rate"])
    one = Arm(f"{arm.label}-from-{count}", f"{arm.name}: {count} examples", learner, arm.params, facts)
    return judged(work, one, base, asked_tasks(sizes, sizes.curve_tests, count), sizes)


def _steps_needed(curves: Mapping[str, Sequence[Row]], random: str) -> list[Row]:
    """For each start the fewest steps with which it has most of the random start's best accuracy."""
    wanted = SHARE * max(row.mean for row in curves[random])
    found = []
    for name, curve in curves.items():
        enough = [float(row.facts["steps"]) for row in curve if row.mean >= wanted]
        if enough:
            title = f"{name}: steps to {100 * SHARE:.0f} % of the random start's best accuracy"
            found.append(_number(title, "steps", enough[0], curve, {"accuracy": wanted}))
    return found


def _costs(work: Work, meta: Arm, wanted: Row, tuned: Row) -> list[Row]:
    """Seconds of a task over many tasks, of both, and from how many tasks on meta-training pays; draws both."""
    once = float(meta.facts["cpu_seconds_of_training"])
    ours, theirs = (float(row.facts["adapt_seconds_median"]) for row in (wanted, tuned))
    work.picture(partial(_draw_cost, once, ours, theirs), "cost")
    spread = f"seconds of a task over {TASKS} tasks"
    made = [
        _number(f"{spread}: meta-training and its steps", "seconds", once / TASKS + ours, [wanted]),
        _number(f"{spread}: LoRA from enough examples for as much", "seconds", theirs, [tuned], tuned.facts),
    ]
    if theirs > ours:
        made.append(_number("tasks from which on meta-training pays", "tasks", once / (theirs - ours), [wanted, tuned]))
    return made


def _number(
    title: str, metric: str, value: float, sources: Sequence[Row], facts: Mapping[str, Any] | None = None
) -> Row:
    """The row of one figure that was found from other rows."""
    return Row(
        title, metric, value, None, sources[0].tasks, (value,), sum(row.seconds for row in sources), facts=facts or {}
    )


def _draw_steps(curves: Mapping[str, Sequence[Row]], figure: Any) -> None:
    axes = figure.subplots()
    for name, curve in curves.items():
        steps = [row.facts["steps"] for row in curve]
        axes.errorbar(steps, [row.mean for row in curve], [row.ci95 or 0.0 for row in curve], label=name, capsize=2)
    axes.set(xlabel="steps", ylabel=curve[0].metric, ylim=(0, 100))
    axes.legend()


def _draw_cost(once: float, ours: float, theirs: float, figure: Any) -> None:
    axes = figure.subplots()
    tasks = range(1, 4 * TASKS + 1)
    axes.plot(tasks, [once / count + ours for count in tasks], label="meta-training and its steps")
    axes.plot(tasks, [theirs for _ in tasks], label="LoRA from enough examples for as much")
    axes.set(xlabel="tasks", ylabel="seconds of a task", yscale="log")
    axes.legend()
