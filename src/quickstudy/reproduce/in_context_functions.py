"""A transformer that learns functions in context, beside least squares, lasso and nearest neighbours.

Garg, Tsipras, Liang, Valiant, 2022, arXiv 2208.01066, at eight coordinates in place of twenty.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Params
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.evaluation.intervals import interval
from quickstudy.learners.in_context.function_transformer import FunctionTransformer
from quickstudy.learners.transformer import Transformer
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.reproduce.timing import Spent
from quickstudy.tasks.function_classes import FunctionClass, lasso, least_squares, nearest_neighbours, ridge
from quickstudy.training.options import FitOptions

METRIC = "normalised squared error"
PAPER = "Garg et al. 2022, arXiv 2208.01066, 20 coordinates, unverified"
PUBLISHED = {1: 0.02, 2: 0.0006}
"""Examples for each coordinate -> error of the paper's transformer on linear functions."""

Oracle: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Inputs, targets and questions of many tasks -> answers."""


@dataclass(frozen=True)
class Phase:
    """A part of the curriculum.

    Attributes:
        active: coordinates that are not 0.
        shots: examples before the last question.
        steps: updates.
        lr: highest learning rate.
        tasks: of each update.
    """

    active: int
    shots: int
    steps: int
    lr: float = 2e-3
    tasks: int = 64


@dataclass(frozen=True)
class Case:
    """A class of functions and a transformer that is trained on it.

    Attributes:
        label: of its runs.
        source: the class; test tasks are drawn from it as it is.
        transformer: its size.
        phases: the curriculum; the last one is the class itself.
        oracles: name -> what it is compared with.
    """

    label: str
    source: FunctionClass
    transformer: Transformer
    phases: tuple[Phase, ...]
    oracles: Mapping[str, Oracle]

    @property
    def updates(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    def learner(self, device: str) -> FunctionTransformer:
        """The learner of that size."""
        return FunctionTransformer(self.source.dimension, self.transformer, device=device)


def mean_answer(x: Tensor, y: Tensor, inputs: Tensor) -> Tensor:  # noqa: ARG001 - the signature of an oracle
    """[task, question]: the mean of the targets, 0 where there are none."""
    return (y.sum(-1, keepdim=True) / max(y.shape[-1], 1)).expand(inputs.shape[:-1])


def cases(quick: bool) -> list[Case]:
    """The classes; the first is that of linear functions."""
    if quick:
        small = Transformer(32, 3, 4, 64)
        source = FunctionClass("linear", dimension=2, shots=4)
        return [
            Case("linear", source, small, (Phase(1, 4, 100), Phase(2, 4, 400, 4e-3)), {"least squares": least_squares})
        ]
    large, medium = Transformer(64, 8, 4, 128), Transformer(64, 5, 4, 128)
    linear = (Phase(4, 8, 300), Phase(8, 16, 3000, 3e-3, 128), Phase(8, 16, 1500, 1e-3, 256))
    sparse = FunctionClass("sparse_linear", dimension=6, nonzero=2, shots=12)
    tree = FunctionClass("decision_tree", dimension=4, depth=2, shots=32)
    network = FunctionClass("two_layer", dimension=4, hidden=16, shots=32)
    short = Phase(6, 12, 4000)
    others = {"least squares": least_squares, "3 nearest neighbours": nearest_neighbours, "ridge": ridge}
    return [
        Case(
            "linear", FunctionClass("linear", shots=16), large, linear, {"least squares": least_squares, "ridge": ridge}
        ),
        Case("sparse_linear", sparse, medium, (short,), {"least squares": least_squares, "lasso": lasso}),
        Case("decision_tree", tree, medium, (replace(short, active=4, shots=32),), others),
        Case("two_layer", network, medium, (replace(short, active=4, shots=32),), others),
    ]


def run(work: Work) -> list[Row]:
    """Rows of linear functions and their controls, then of the other classes; draws errors over examples."""
    rows: list[Row] = []
    curves: dict[str, dict[str, Tensor]] = {}
    for number, case in enumerate(cases(work.quick)):
        params = {seed: trained(work, case, seed) for seed in range(work.seeds)}
        took = work.spent(f"{case.label}-{seed}-{phase}" for seed in params for phase in range(len(case.phases)))
        tests = draw_tests(case.source, 256 if work.quick else 2000)
        errors = {seed: errors_along(case.learner(work.device), each, tests) for seed, each in params.items()}
        if number == 0:
            rows += _linear_rows(case, errors, took)
            rows += _control_rows(work, case, params, tests)
        else:
            rows += _class_rows(case, errors, tests, took)
        curves[case.label] = _curves(case, errors[0], tests)
    _draw(work, curves)
    return rows


def trained(work: Work, case: Case, seed: int) -> Params:
    """Meta-parameters after all phases."""
    params = None
    for number, phase in enumerate(case.phases):
        options = FitOptions(phase.steps, phase.tasks, lr=phase.lr, clip=1.0, mode="vmap", seed=seed)
        options = replace(options, warmup=min(200, phase.steps // 4), checkpoint_every=100)
        if phase.active == case.source.dimension:
            options = replace(options, schedule="cosine")
        source = replace(case.source, active=phase.active, shots=phase.shots)
        label = f"{case.label}-{seed}-{number}"
        params = work.trained(label, case.learner(work.device), source, options, start=params).params
    assert params is not None
    return params


Tests: TypeAlias = tuple[Tensor, Tensor]
"""Inputs [task, example, coordinate] and targets [task, example]; the last example is a question."""


def draw_tests(source: FunctionClass, tasks: int) -> Tests:
    """Test tasks of `source`, the same for equal arguments."""
    batch = stack_episodes(list(drawn_tasks(source, tasks, SEED_OF_TEST_TASKS)))
    assert isinstance(batch.support.inputs, Tensor)
    assert isinstance(batch.query.inputs, Tensor)
    inputs = torch.cat([batch.support.inputs, batch.query.inputs], 1)
    return inputs, torch.cat([batch.support.targets, batch.query.targets], 1)[..., 0]


def errors_along(learner: FunctionTransformer, params: Params, tests: Tests) -> Tensor:
    """[task, example]: squared errors of the answer to each example given those before it, on the CPU."""
    weights = torch.ones(tests[0].shape[1], device=learner.device)

    def one(x: Tensor, y: Tensor) -> Tensor:
        return learner.along(params, x, y[:, None], weights)[:, 0]

    with torch.no_grad():
        x, y = (part.to(learner.device) for part in tests)
        found = torch.vmap(one, chunk_size=500)(x, y)
    return (found - y).square().cpu()


def oracle_errors(oracle: Oracle, tests: Tests) -> Tensor:
    """[task, example]: as `errors_along`; without examples the answer is 0."""
    x, y = tests
    columns = [y[:, 0].square()]
    for count in range(1, x.shape[1]):
        answers = oracle(x[:, :count], y[:, :count], x[:, count : count + 1])[:, 0]
        columns.append((answers - y[:, count]).square())
    return torch.stack(columns, 1)


def _linear_rows(case: Case, errors: dict[int, Tensor], took: Spent) -> list[Row]:
    d = case.source.dimension
    rows: list[Row] = []
    exact = oracle_errors(least_squares, draw_tests(case.source, len(errors[0])))
    for times, published in PUBLISHED.items():
        count = times * d
        size = sum(tensor.numel() for tensor in case.learner("cpu").init(torch.Generator()).values())
        facts: dict[str, Any] = {
            "parameters": size,
            "updates": case.updates,
            "least_squares": float(exact[:, count].mean()),
        }
        name = f"transformer, linear d={d}, k={count}"
        values = {seed: each[:, count] for seed, each in errors.items()}
        more: dict[str, Any] = {"published": published, "published_source": PAPER, "facts": facts}
        rows.append(measured(name, METRIC, values, took.wall, **more))
    half = d // 2
    means = [float(torch.stack([each[:, half] for each in errors.values()]).mean()), float(exact[:, half].mean())]
    facts = {"ratio_to_least_squares": means[0] / means[1], "least_squares": means[1]}
    values = {seed: each[:, half] for seed, each in errors.items()}
    return [*rows, measured(f"transformer, linear d={d}, k={half}", METRIC, values, took.wall, facts=facts)]


def _control_rows(work: Work, case: Case, params: dict[int, Params], tests: Tests) -> list[Row]:
    """All at the last example: untrained, with the context's targets dealt out anew, oracles, and other scales."""
    learner, d = case.learner(work.device), case.source.dimension
    untrained = {seed: learner.init(torch.Generator().manual_seed(seed)) for seed in params}
    ending = f"linear d={d}, k={tests[0].shape[1] - 1}"

    def row(name: str, starts: dict[int, Params], source: Tests, scale: float = 1.0, **facts: Any) -> Row:
        began = time.perf_counter()
        values = {seed: errors_along(learner, each, source)[:, -1] / scale**2 for seed, each in starts.items()}
        return measured(f"{name}, {ending}", METRIC, values, time.perf_counter() - began, facts=facts)

    rows = [
        row("control: untrained transformer", untrained, tests),
        row("control: targets of the context shuffled", params, shuffled(tests)),
    ]
    for name, oracle in {**case.oracles, "the mean of the context": mean_answer}.items():
        values = {0: oracle_errors(oracle, tests)[:, -1]}
        rows.append(measured(f"control: {name}, {ending}", METRIC, values, 0.0))
    for scale in (0.5, 2.0):
        scaled = draw_tests(replace(case.source, scale=scale), len(tests[0]))
        note = "normalised by the variance of these targets"
        rows.append(row(f"out of distribution: inputs times {scale:g}", params, scaled, scale, note=note))
    return rows


def shuffled(tests: Tests) -> Tests:
    """`tests` with the targets of each context dealt out anew; the last question keeps its own."""
    x, y = tests
    generator = torch.Generator().manual_seed(SEED_OF_TEST_TASKS)
    order = torch.rand(len(y), y.shape[1] - 1, generator=generator).argsort(1)
    return x, torch.cat([y[:, :-1].gather(1, order), y[:, -1:]], 1)


def _class_rows(case: Case, errors: dict[int, Tensor], tests: Tests, took: Spent) -> list[Row]:
    """The last example: the transformer, then its oracles."""
    ending = f"{case.label} d={case.source.dimension}, k={tests[0].shape[1] - 1}"
    last = {seed: each[:, -1] for seed, each in errors.items()}
    facts = {"updates": case.updates}
    rows = [measured(f"transformer, {ending}", METRIC, last, took.wall, facts=facts)]
    for name, oracle in case.oracles.items():
        rows.append(measured(f"control: {name}, {ending}", METRIC, {0: oracle_errors(oracle, tests)[:, -1]}, 0.0))
    return rows


def _curves(case: Case, errors: Tensor, tests: Tests) -> dict[str, Tensor]:
    return {"transformer": errors, **{name: oracle_errors(oracle, tests) for name, oracle in case.oracles.items()}}


def _draw(work: Work, curves: dict[str, dict[str, Tensor]]) -> None:
    """Errors over the number of examples in the context, with 95 % intervals over tasks; first seed."""

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for axes, (label, lines) in zip(panels, curves.items(), strict=True):
            for name, errors in lines.items():
                found = [interval(column) for column in errors.unbind(1)]
                means = torch.tensor([each.mean for each in found])
                widths = torch.tensor([each.ci95 for each in found])
                axes.plot(range(len(found)), means, label=name)
                axes.fill_between(range(len(found)), means - widths, means + widths, alpha=0.2)
            axes.set(title=label, xlabel="examples in the context", ylim=(0, 1.5))
            axes.legend()
        panels[0].set_ylabel(METRIC)

    work.picture(draw, size=(4.2 * len(curves) + 1, 3.6))


IN_CONTEXT_FUNCTIONS = Reproduction(
    "in_context_functions",
    "a transformer that learns linear functions, trees and networks in context, beside exact solvers",
    run,
    hours=2.0,
)
