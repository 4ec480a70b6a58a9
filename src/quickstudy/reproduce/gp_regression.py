"""Functions drawn from Gaussian processes: neural processes beside the exact posterior, and how far they know it.

Trained on the RBF kernel, tested on it and, out of distribution, on Matern-5/2 and periodic ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.mlp import MLP
from quickstudy.core.types import Episode, Json, Params, Prediction
from quickstudy.deltas.full import Full
from quickstudy.evaluation.coverage import LEVELS, DensityScores, density_scores, evaluate_density, fitted_levels
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.evaluation.gaussian_process import oracle_prediction, oracle_scores
from quickstudy.learners.base import Learner
from quickstudy.learners.bayesian.attentive_np import AttentiveNP
from quickstudy.learners.bayesian.cnp import CNP
from quickstudy.learners.bayesian.hierarchical import Hierarchical
from quickstudy.learners.bayesian.latent_np import LatentNP
from quickstudy.learners.bayesian.transformer_np import TransformerNP
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.network import Network
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.gaussian_processes import GaussianProcesses, Process
from quickstudy.training.loop import Fitted
from quickstudy.training.options import FitOptions

METRIC = "log-likelihood of a query point, nats"
SOURCE = "Nguyen and Grover 2022, arXiv 2207.04179, unverified"
KERNELS: Mapping[str, str] = {
    "rbf": "RBF",
    "matern52": "Matern-5/2, trained on RBF",
    "periodic": "periodic, trained on RBF",
}
POINTS, FEW_POINTS = 50, 20


@dataclass(frozen=True)
class Case:
    """One learner.

    Attributes:
        name: of its rows.
        learner: as it is meta-trained and tested.
        options: of its training.
        published: kernel -> the value of the paper.
    """

    name: str
    learner: Learner
    options: FitOptions
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Of its run."""
        return self.name.lower().replace(" ", "-")


def cases(quick: bool, device: str = "cpu") -> list[Case]:
    """The learners, the one with the best published value last."""

    def options(steps: int, lr: float) -> FitOptions:
        if quick:
            return FitOptions(200, 16, lr=5e-3, schedule="cosine", warmup=20, clip=1.0, mode="vmap")
        return FitOptions(
            steps, 16, lr=lr, schedule="cosine", warmup=1000, clip=1.0, mode="vmap", checkpoint_every=1000
        )

    def published(rbf: float, matern52: float, periodic: float) -> Mapping[str, float]:
        return {"rbf": rbf, "matern52": matern52, "periodic": periodic}

    if quick:
        cnp, latent = CNP(width=32), LatentNP(width=32, latent=16, objective="likelihood", draws=8)
        attentive = AttentiveNP(width=32, heads=4, latent=0)
        transformer = TransformerNP(width=32, blocks=2, hidden=32, rows=FEW_POINTS)
    else:
        cnp, latent = CNP(device=device), LatentNP(draws=1, device=device)
        attentive = AttentiveNP(rows=POINTS, device=device)
        transformer = TransformerNP(rows=POINTS, device=device)
    head = Hierarchical(Network(MLP((1, 64, 64), "tanh"), Full(), device=device))
    return [
        Case("Hierarchical", head, options(10_000, 3e-3)),
        Case("CNP", cnp, options(80_000, 1e-3), published(0.26, 0.04, -1.40)),
        Case("NP", latent, options(60_000, 1e-3), published(0.27, 0.07, -1.15)),
        Case("ANP", attentive, options(40_000, 1e-3), published(0.81, 0.63, -5.02)),
        Case("TNP-D", transformer, options(60_000, 1e-3), published(1.39, 0.95, -3.53)),
    ]


def source(quick: bool, kernel: str = "rbf") -> GaussianProcesses:
    """The functions: those of the protocol, or smoother ones with fewer points."""
    if quick:
        return GaussianProcesses(kernel, context=(3, 12), points=FEW_POINTS, lengthscale=(0.3, 0.9))
    return GaussianProcesses(kernel, points=POINTS)


def train(work: Work, case: Case) -> dict[int, Fitted]:
    """Seed -> what meta-training on the RBF kernel gave, for as many seeds as `work` has."""
    tasks = replace(source(work.quick), whole=True)
    return {
        seed: work.trained(f"{case.label}-{seed}", case.learner, tasks, replace(case.options, seed=seed))
        for seed in range(work.seeds)
    }


def run(work: Work) -> list[Row]:
    """Rows of the oracle and the marginal distribution, then of the learners with their controls; draws bands."""
    oracles = {kernel: _oracle(work, kernel) for kernel in _kernels(work)}
    rows = [row for kernel in oracles for row in _oracle_rows(work, kernel, oracles[kernel])]
    fitted: dict[str, dict[int, Fitted]] = {}
    for case in cases(work.quick, work.device):
        fitted[case.name] = train(work, case)
        seconds = work.spent(f"{case.label}-{seed}" for seed in fitted[case.name]).wall
        rows += _case_rows(work, case, fitted[case.name], oracles, seconds)
    _draw_bands(work, fitted)
    _draw_learning(work, fitted)
    return rows


def _kernels(work: Work) -> dict[str, str]:
    """Kernel -> its name in rows; the quick version keeps to the one that is trained on."""
    return {kernel: name for kernel, name in KERNELS.items() if kernel == "rbf" or not work.quick}


def _episodes(work: Work) -> int:
    return 256 if work.quick else 3000


def _oracle(work: Work, kernel: str) -> Json:
    """`factorised` and `joint`: what `_kept` makes of scores, and [task]."""

    def make() -> Json:
        began = time.perf_counter()
        scores, joint = oracle_scores(source(work.quick, kernel), _episodes(work), SEED_OF_TEST_TASKS)
        return {"factorised": _kept(scores), "joint": joint.tolist(), "seconds": time.perf_counter() - began}

    return work.once(f"oracle-{kernel}", {"episodes": _episodes(work)}, make)


def _oracle_rows(work: Work, kernel: str, oracle: Json) -> list[Row]:
    name, scores = KERNELS[kernel].partition(",")[0], oracle["factorised"]
    marginal = _marginal(work, kernel)
    return [
        _row(f"exact posterior, {name}: each point by itself", [scores], oracle["seconds"], _facts([scores])),
        _row(f"exact posterior, {name}: points together", [{**scores, "log_likelihood": oracle["joint"]}], 0.0, {}),
        _row(f"marginal of the data, {name}", [marginal], 0.0, _facts([marginal])),
    ]


def _marginal(work: Work, kernel: str) -> Json:
    """Scores of the normal distribution with the mean and variance of all targets, whatever the input."""
    drawn = list(drawn_tasks(source(work.quick, kernel), 1000, SEED_OF_TEST_TASKS + 1))
    targets = torch.cat([episode.support.targets[episode.support.weights > 0] for episode in drawn])

    def answer(_: Params, episode: Episode) -> Prediction:
        mean = torch.zeros_like(episode.query.targets)
        return Prediction(mean, torch.full_like(mean, float(targets.square().mean())))

    return _kept(
        density_scores(answer, {}, drawn_tasks(source(work.quick, kernel), _episodes(work), SEED_OF_TEST_TASKS))
    )


def _case_rows(work: Work, case: Case, fitted: Mapping[int, Fitted], oracles: Json, seconds: float) -> list[Row]:
    """Each kernel, coverage on the RBF kernel, and controls: shuffled targets, no training."""
    trained = {seed: each.params for seed, each in fitted.items()}
    random = {seed: case.learner.init(torch.Generator().manual_seed(seed)) for seed in fitted}
    rows = []
    for kernel, name in _kernels(work).items():
        scores = _scores(work, case, trained, kernel)
        facts = _facts(scores) | {"gap_to_oracle": _mean(oracles[kernel]["factorised"]) - _mean(*scores)}
        more: dict[str, Any] = {}
        if kernel in case.published and not work.quick:
            more = {"published": case.published[kernel], "published_source": SOURCE}
        rows.append(_row(f"{case.name}, {name}", scores, seconds if kernel == "rbf" else 0.0, facts, **more))
    scores = _scores(work, case, trained, "rbf")
    for level in LEVELS[:2]:
        values = {seed: 100 * torch.tensor(each[str(level)]) for seed, each in enumerate(scores)}
        rows.append(measured(f"{case.name}, RBF: inside {level:.0%} intervals", "percent of query points", values, 0.0))
    rows += _fitted_intervals(work, case, trained)
    shuffled = _scores(work, case, trained, "rbf", "shuffled")
    untrained = _scores(work, case, random, "rbf", "untrained")
    rows.append(_row(f"control: {case.name}, RBF, targets of the support shuffled", shuffled, 0.0, _facts(shuffled)))
    rows.append(_row(f"control: {case.name}, RBF, untrained", untrained, 0.0, _facts(untrained)))
    return rows


def _fitted_intervals(work: Work, case: Case, trained: Mapping[int, Params]) -> list[Row]:
    """Coverage on the RBF kernel of intervals whose nominal levels were fitted on validation tasks."""
    tasks, episodes = source(work.quick), _episodes(work)

    def measure(seed: int) -> Json:
        score = partial(evaluate_density, case.learner, trained[seed], tasks, episodes)
        held_out = score(SEED_OF_VALIDATION_TASKS)
        levels = fitted_levels(held_out.quantiles, shares=held_out.shares)
        return {"levels": list(levels.values()), **_kept(score(SEED_OF_TEST_TASKS, nominal=levels))}

    settings = {
        "learner": repr(case.learner),
        "options": repr(case.options),
        "episodes": episodes,
    }
    found = [work.once(f"{case.label}-rbf-levels-{seed}", settings, partial(measure, seed)) for seed in trained]
    rows = []
    for place, level in enumerate(LEVELS[:2]):
        values = {seed: 100 * torch.tensor(each[str(level)]) for seed, each in enumerate(found)}
        name = f"{case.name}, RBF: inside {level:.0%} intervals, levels fitted on validation tasks"
        facts = {"nominal_levels": [round(each["levels"][place], 3) for each in found]}
        rows.append(measured(name, "percent of query points", values, 0.0, facts=facts))
    return rows


def _scores(work: Work, case: Case, params: Mapping[int, Params], kernel: str, control: str = "") -> list[Json]:
    """What `_kept` makes of the scores of each seed."""
    tasks = ShuffledLabels(source(work.quick, kernel)) if control == "shuffled" else source(work.quick, kernel)

    def measure(seed: int) -> Json:
        return _kept(evaluate_density(case.learner, params[seed], tasks, _episodes(work), SEED_OF_TEST_TASKS))

    settings = {"learner": repr(case.learner), "options": repr(case.options), "episodes": _episodes(work)}
    label = "-".join([case.label, kernel, *([control] if control else [])])
    return [work.once(f"{label}-{seed}", settings, partial(measure, seed)) for seed in params]


def _kept(scores: DensityScores) -> Json:
    """Scores as JSON: `log_likelihood` and each level -> [task], `calibration_error`."""
    values = {str(level): each for level, each in scores.coverage.items()} | {"log_likelihood": scores.log_likelihood}
    lists = {name: [round(value, 5) for value in each.tolist()] for name, each in values.items()}
    return {**lists, "calibration_error": scores.calibration_error}


def _row(name: str, scores: list[Json], seconds: float, facts: Json, **more: Any) -> Row:
    values = {seed: torch.tensor(each["log_likelihood"]) for seed, each in enumerate(scores)}
    return measured(name, METRIC, values, seconds, facts=facts, **more)


def _facts(scores: list[Json]) -> dict[str, Json]:
    """Coverage and calibration, the mean over seeds."""
    found = {f"coverage_{level}": _mean(*scores, name=str(level)) for level in LEVELS}
    return {**found, "calibration_error": sum(each["calibration_error"] for each in scores) / len(scores)}


def _mean(*scores: Json, name: str = "log_likelihood") -> float:
    return float(torch.tensor([each[name] for each in scores], dtype=torch.float64).mean())


def _functions(count: int) -> list[tuple[Process, Episode]]:
    """Functions to draw, with few points of support."""
    generator = torch.Generator().manual_seed(SEED_OF_TEST_TASKS)
    source = GaussianProcesses(context=(4, 10), points=POINTS, lengthscale=(0.2, 0.5), scale=(0.6, 1.0))
    return [source.draw(generator) for _ in range(count)]


def _draw_bands(work: Work, fitted: Mapping[str, Mapping[int, Fitted]]) -> None:
    """A row for each function, a column for each learner: its mean and 95 % band over those of the oracle."""
    functions, shown = _functions(3), cases(work.quick, work.device)
    grid = torch.linspace(-2, 2, 201)[:, None]

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(functions), len(shown), sharex=True, sharey="row", squeeze=False)
        for line, (process, episode) in zip(axes, functions, strict=True):
            exact = oracle_prediction(process, episode.support, grid)
            for axis, case in zip(line, shown, strict=True):
                found = _answer(work, case.learner, fitted[case.name][0].params, episode, grid)
                _draw_panel(axis, grid, found, exact, episode)
        for axis, case in zip(axes[0], shown, strict=True):
            axis.set_title(case.name)
        axes[0][0].legend(fontsize=7)

    work.picture(draw, size=(3.0 * len(shown), 2.4 * len(functions)))


def _answer(work: Work, learner: Learner, params: Params, episode: Episode, grid: Tensor) -> Prediction:
    support = replace(
        episode.support,
        inputs=torch.as_tensor(episode.support.inputs, device=work.device),
        targets=episode.support.targets.to(work.device),
        weights=episode.support.weights.to(work.device),
    )
    with torch.no_grad():
        found = learner.predict(params, learner.adapt(params, support), grid.to(work.device))
    assert found.variance is not None
    return Prediction(found.mean.cpu(), found.variance.cpu())


def _draw_panel(axis: Any, grid: Tensor, found: Prediction, exact: Prediction, episode: Episode) -> None:
    x = grid[:, 0].numpy()

    def band(prediction: Prediction) -> tuple[Any, Any, Any]:
        assert prediction.variance is not None
        mean, half = prediction.mean[:, 0], 1.96 * prediction.variance[:, 0].sqrt()
        return mean.numpy(), (mean - half).numpy(), (mean + half).numpy()

    mean, low, high = band(found)
    axis.fill_between(x, low, high, alpha=0.3, color="tab:blue", label="95 %")
    axis.plot(x, mean, color="tab:blue", linewidth=1)
    for line in band(exact):
        axis.plot(x, line, color="black", linewidth=0.6, linestyle="--", label=None)
    axis.plot([], [], color="black", linewidth=0.6, linestyle="--", label="exact posterior")
    for batch, mark in ((episode.query, "."), (episode.support, "o")):
        real = batch.weights > 0
        inputs = torch.as_tensor(batch.inputs)[real]
        size, color = (2, "grey") if mark == "." else (4, "black")
        axis.plot(inputs.numpy(), batch.targets[real].numpy(), mark, markersize=size, color=color)
    axis.set_ylim(-2.5, 2.5)


def _draw_learning(work: Work, fitted: Mapping[str, Mapping[int, Fitted]]) -> None:
    """The training log-likelihood by steps, averaged over a hundredth of the run."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for name, runs in fitted.items():
            losses = torch.tensor([row["loss"] for row in runs[0].history])
            width = max(len(losses) // 100, 1)
            smooth = -losses[: len(losses) // width * width].reshape(-1, width).mean(1)
            axis.plot(torch.arange(1, len(smooth) + 1).mul(width).numpy(), smooth.numpy(), label=name)
        axis.set_xlabel("steps")
        axis.set_ylabel("training " + METRIC)
        axis.set_ylim(bottom=-1)
        axis.legend()

    work.picture(draw, "learning")


GP_REGRESSION = Reproduction(
    "gp_regression",
    "neural processes on functions of Gaussian processes, beside the exact posterior",
    run,
    hours=1.6,
)
