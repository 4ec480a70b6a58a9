"""An in-context classifier over frozen MiniLM features, trained on intents of other domains, judged on BANKING77.

After prior-fitted networks (Müller et al. 2022, arXiv 2112.10510), with real tasks in place of drawn ones. Nothing is
published for these tasks; class means and logistic regression on the same features stand beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.identity import Identity
from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.files import read_tensors, write_tensors
from quickstudy.core.types import Params
from quickstudy.deltas.head import Head
from quickstudy.evaluation.intervals import paired_difference
from quickstudy.evaluation.protocol import evaluate
from quickstudy.learners.base import Learner
from quickstudy.learners.closed_form.logistic import Logistic
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.in_context.text_transformer import TextTransformer
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.network import Network
from quickstudy.learners.transformer import Transformer
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.feature_classes import FeatureClasses
from quickstudy.tasks.intents import read_intents
from quickstudy.tasks.pools import make_pools
from quickstudy.tasks.table import Table
from quickstudy.training.loop import Fitted
from quickstudy.training.options import FitOptions

METRIC = "accuracy, percent"
MOST, LEAST = 60, 30
"""Texts of a class: more are left out, and classes with fewer."""

TESTED = ("banking", "credit_cards")
VALIDATED = ("kitchen_and_dining",)
LEFT_OUT = ("finance", "oos")
"""Domains of CLINC150 and MultiDoGO. Those on money are not trained on, for BANKING77 is on money too."""

REGULARISATIONS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Among which logistic regression takes its own best one."""

TRAINING = {"ways": (3, 10), "shots": (1, 6), "queries": 2, "within": 1.0, "dropped": 0.8}


@dataclass(frozen=True)
class Data:
    """Classes of features; no class, and no domain, is in two.

    Attributes:
        train: training episodes.
        validation: validation episodes.
        tests: name -> test tasks.
    """

    train: FeatureClasses
    validation: FeatureClasses
    tests: Mapping[str, FeatureClasses]


def learner(width: int, quick: bool, device: str) -> TextTransformer:
    """The in-context classifier on features of that width."""
    size = Transformer(32, 2, 4, 64) if quick else Transformer(64, 2, 4, 128)
    return TextTransformer(on_features(width, device), size)


def options(quick: bool) -> FitOptions:
    """Of its training; the meta-parameters with the lowest validation loss are tested."""
    if quick:
        return FitOptions(300, 16, lr=3e-3, schedule="cosine", warmup=20, clip=1.0, mode="vmap", validation_episodes=32)
    long = FitOptions(1500, 32, lr=1e-3, schedule="cosine", warmup=100, clip=1.0, mode="vmap", weight_decay=0.1)
    return replace(long, validate_every=150, validation_episodes=200, checkpoint_every=150)


def on_features(width: int, device: str) -> Network:
    """Inputs that are features already."""
    return Network(Identity(width), Head(), device=device)


def run(work: Work) -> list[Row]:
    """For each set of test classes the in-context classifier, then its controls; draws the losses."""
    data = drawn_data() if work.quick else text_data(work)
    tested = learner(data.train.features.shape[1], work.quick, work.device)
    fits: dict[int, Fitted] = {}
    for seed in range(work.seeds):
        chosen = replace(options(work.quick), seed=seed)
        fits[seed] = work.trained(f"transformer-{seed}", tested, data.train, chosen, data.validation)
    seconds = work.spent(f"transformer-{seed}" for seed in fits).wall
    params = {seed: found.best_params for seed, found in fits.items()}
    logistic = best_logistic(work, data.validation, tested.network)
    rows: list[Row] = []
    for name, tests in data.tests.items():
        rows += _rows(work, (tested, params, seconds), logistic, (name, tests))
    work.picture(partial(_draw, fits=fits))
    return rows


def text_data(work: Work) -> Data:
    """Features of CLINC150, MultiDoGO and BANKING77, computed once and kept in `work.folder`."""
    encoder = TextEncoder(device=work.device)
    path = work.folder / f"features-{encoder.fingerprint.digest[:16]}.safetensors"
    if not path.exists():
        work.tell("computing features")
        write_tensors(path, _encoded(encoder))
    kept = read_tensors(path)

    def classes(name: str, **sizes: Any) -> FeatureClasses:
        counts, groups = (tuple(kept[f"{name}.{part}"].tolist()) for part in ("counts", "groups"))
        return FeatureClasses(kept[f"{name}.features"], counts, groups=groups, **sizes)

    validation = classes("validation", ways=5, shots=5, queries=5)
    tests = {
        "BANKING77, 5-way 5-shot": classes("banking77", ways=5, shots=5, queries=15),
        "held-out domains of CLINC150, 5-way 5-shot": classes("held-out", ways=5, shots=5, queries=15, within=1.0),
        "BANKING77, 15-way 1-shot": classes("banking77", ways=15, shots=1, queries=5),
    }
    return Data(classes("train", **TRAINING), validation, tests)


def _encoded(encoder: TextEncoder) -> dict[str, Tensor]:
    """`<set>.features` [row, feature], `.counts` and `.groups` [class] of the sets train, validation and tests."""
    clinc, dogo = read_intents("clinc150").where(split="train"), read_intents("multidogo")
    known = {*TESTED, *VALIDATED, *LEFT_OUT}
    sets: dict[str, list[tuple[Table, tuple[str, ...]]]] = {
        "train": [(table, tuple(sorted(set(table.domains) - known))) for table in (clinc, dogo)],
        "validation": [(clinc, VALIDATED)],
        "held-out": [(clinc, TESTED)],
        "banking77": [(read_intents("banking77").where(split="test"), ("banking77",))],
    }
    found: dict[str, Tensor] = {}
    for name, parts in sets.items():
        pools = [rows for table, domains in parts for rows in _pools(table, domains)]
        features = encoder.embed([text for _, texts in pools for text in texts])
        found[f"{name}.features"] = features.cpu()
        found[f"{name}.counts"] = torch.tensor([len(texts) for _, texts in pools])
        domains = sorted({domain for domain, _ in pools})
        found[f"{name}.groups"] = torch.tensor([domains.index(domain) for domain, _ in pools])
    return found


def _pools(table: Table, domains: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Domain and texts of each class that is large enough."""
    pools = make_pools(table, by_domain=True, class_names=False)
    classes = [(domain, rows[:MOST]) for domain in domains for rows in pools.scopes[domain].values()]
    return [(domain, [pools.texts[row] for row in rows.tolist()]) for domain, rows in classes if len(rows) >= LEAST]


def drawn_data() -> Data:
    """Drawn features in place of texts: classes differ in few coordinates, and the others are loud."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]

    def classes(count: int, **sizes: Any) -> FeatureClasses:
        centres = torch.cat([torch.randn(count, 1, 6, generator=generator), torch.zeros(count, 1, 18)], -1)
        loudness = torch.cat([torch.full((6,), 0.5), torch.full((18,), 1.0)])
        rows = centres + loudness * torch.randn(count, 20, 24, generator=generator)
        return FeatureClasses((rows @ mixing).flatten(0, 1), (20,) * count, **sizes)

    sizes = {"ways": 5, "shots": 5, "queries": 5}
    return Data(classes(200, **sizes), classes(20, **sizes), {"drawn features, 5-way 5-shot": classes(60, **sizes)})


def best_logistic(work: Work, validation: FeatureClasses, network: Network) -> Logistic:
    """Logistic regression with the regularisation of `REGULARISATIONS` that is best on validation tasks."""

    def accuracies() -> list[float]:
        found = []
        for strength in REGULARISATIONS:
            tried = Logistic(network, strength)
            start = tried.init(torch.Generator())
            found.append(evaluate(tried, start, validation, 50 if work.quick else 300, mode="vmap").mean)
        return found

    means = work.once("logistic", [list(REGULARISATIONS), repr(network)], accuracies)
    return Logistic(network, REGULARISATIONS[means.index(max(means))])


def _rows(
    work: Work,
    trained: tuple[TextTransformer, Mapping[int, Params], float],
    logistic: Logistic,
    test: tuple[str, FeatureClasses],
) -> list[Row]:
    """The in-context classifier and its controls on one set of test classes."""
    (tested, params, seconds), (name, tests) = trained, test
    drawn = {seed: tested.init(torch.Generator().manual_seed(seed)) for seed in params}
    wanted: dict[str, tuple[Learner, Mapping[int, Params], TaskSource]] = {
        "in-context classifier": (tested, params, tests),
        "control: cosine to class means, which is the untrained classifier": (tested, drawn, tests),
        "control: class means": (ProtoNet(tested.network), {0: {}}, tests),
        "control: logistic regression": (logistic, {0: logistic.init(torch.Generator())}, tests),
        "control: in-context classifier, shuffled labels": (tested, params, ShuffledLabels(tests)),
    }

    def scores(label: str) -> dict[int, Tensor]:
        asked, starts, source = wanted[label]
        count = 100 if work.quick else 1000
        return {
            seed: 100 * evaluate(asked, start, source, count, SEED_OF_TEST_TASKS, mode="vmap").values
            for seed, start in starts.items()
        }

    def made(label: str) -> Row:
        began = time.perf_counter()
        facts: dict[str, Any] = {"regularisation": logistic.regularisation} if "logistic" in label else {}
        values = scores(label)
        spent = time.perf_counter() - began
        if label == "in-context classifier":
            others = scores("control: logistic regression")[0]
            ahead = paired_difference(torch.stack(list(values.values())).mean(0), others)
            spent, facts = spent + seconds, {"ahead_of_logistic_regression": ahead.mean, "ahead_ci95": ahead.ci95}
        return measured(f"{label}, {name}", METRIC, values, spent, facts=facts)

    settings = [repr(tested), repr(options(work.quick)), repr(logistic), str(work.seeds)]
    places = list(wanted)
    short = "".join(letter if letter.isalnum() else "-" for letter in name)
    return [work.row(f"row-{short}-{places.index(label)}", settings, partial(made, label)) for label in wanted]


def _draw(figure: Any, fits: Mapping[int, Fitted]) -> None:
    """Validation losses of each seed, and training losses, each the mean over a hundredth of the run."""
    axes = figure.subplots()
    for seed, found in fits.items():
        told = [(row["step"], row["validation_loss"]) for row in found.history if "validation_loss" in row]
        axes.plot(*zip(*told, strict=True), "o-", label=f"validation, seed {seed}")
        losses = [row["loss"] for row in found.history if "loss" in row]
        width = max(len(losses) // 100, 1)
        means = torch.tensor(losses)[: len(losses) // width * width].reshape(-1, width).mean(1)
        axes.plot(torch.arange(1, len(means) + 1) * width, means, label=f"training, seed {seed}")
    axes.set(xlabel="updates", ylabel="loss")
    axes.legend()


IN_CONTEXT_TEXT = Reproduction(
    "in_context_text",
    "an in-context classifier over frozen text features, beside class means and logistic regression",
    run,
    needs="QUICKSTUDY_DATA",
    hours=0.5,
)
