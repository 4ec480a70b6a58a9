"""Amazon review sentiment (ARSC, Yu et al. 2018, arXiv 1805.07513): adapt to a new domain and star threshold from 5 + 5
reviews.

A task asks whether a review has at least 2, 4 or 5 stars, in a domain that training never saw, and does not say which.
Two stages, both on the train tasks only:

1. Warm start. MiniLM's upper layers and one output per threshold learn all thresholds of all train domains at once.
2. Meta-training. Meta-SGD learns, on episodes of reviews that stage 1 did not see, a start and rates from which a few
   steps on 10 reviews tell which threshold is meant. Class 1 always has more stars, and queries come as they fall,
   mostly positive, as in the test tasks.

Test tasks are touched once, at the end: their 10 fixed support reviews and their test split. Weights trained on these
reviews are not shipped.

    python -m recipes.arsc --folder runs/arsc --out docs/results/arsc.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.backbones import MLP, TextEncoder
from quickstudy.backbones.text_encoder import buckets
from quickstudy.core import SGD, InnerLoop
from quickstudy.core.files import read_json, read_tensors, write_json, write_tensors
from quickstudy.core.types import Batch, Episode, Json, Params
from quickstudy.deltas import Full
from quickstudy.learners import Learner, Network
from quickstudy.learners.optimisation.meta_sgd import MetaSGD
from quickstudy.tasks import TaskSource
from quickstudy.tasks.data_folder import data_file
from quickstudy.tasks.reviews import FILE, THRESHOLDS
from quickstudy.tasks.table import text_key
from quickstudy.training import FitOptions, fit
from recipes.arsc_controls import looked_up, meta_rows, star_rows, text_rows, whole_tests

VALIDATION = ("cell_phones_service", "magazines", "music", "video")
"""Train domains that neither stage learns from: what settings are chosen on."""

MOST_POSITIVE = {"t2": 1500, "t4": 3500, "t5": 7000}
"""Most reviews of stage 1 that are positive at this threshold and know no higher one. Five of six reviews are good ones
and say little; all negative ones are taken."""

STARS, READING, TEXT_ROWS = "stars_{}.safetensors", "reading_{}.safetensors", "text_rows.json"
"""In the folder of a run, by the number of the start: parameters of stage 1; key -> its outputs; rows of controls."""

ROWS = 150
"""Reviews of each task that stage 2 may draw from."""


def warm_options() -> FitOptions:
    """Of stage 1."""
    rates = FitOptions(tasks_per_step=1, lr=2e-4, weight_decay=0.01, schedule="linear", warmup=40, clip=1.0)
    return replace(rates, steps=2152, mode="loop", precision="bfloat16")


def meta_options() -> FitOptions:
    """Of stage 2."""
    return FitOptions(steps=1500, tasks_per_step=16, lr=3e-3, schedule="linear", mode="vmap", validate_every=300)


@dataclass(frozen=True)
class Settings:
    """What both stages do.

    Attributes:
        frozen: lowest layers that stay as they are.
        tokens: where stage 1 cuts a review.
        read: where reviews are cut afterwards.
        batch: reviews in an update of stage 1.
        warm: stage 1.
        meta: stage 2.
        inner: the steps on the support, in stage 2 and in the test.
        width: features of the network that stage 2 learns.
        starts: runs of stage 1, whose outputs are averaged.
        seed: of the draws of reviews.
    """

    frozen: int = 2
    tokens: int = 64
    read: int = 96
    batch: int = 32
    warm: FitOptions = field(default_factory=warm_options)
    meta: FitOptions = field(default_factory=meta_options)
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(steps=5, optimiser=SGD(0.1)))
    width: int = 32
    starts: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Stars:
    """Stage 1 as something that `fit` trains: a logit for each threshold, the unknown ones left out of the loss."""

    network: Network

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Mean binary cross-entropy over the answers that are known; `targets` [review, threshold] has NaN else."""
        logits = self.network(params, episode.query.inputs).float()
        known = ~episode.query.targets.isnan()
        return functional.binary_cross_entropy_with_logits(logits[known], episode.query.targets[known])


@dataclass(frozen=True, eq=False)
class StarBatches(TaskSource):
    """Batches of stage 1: reviews of like length, so that little is padded. They stand in `query`; there is no support.

    Attributes:
        encode: texts to what the network reads.
        texts: reviews, by length.
        targets: [review, threshold], NaN where unknown.
        batch: reviews in a batch.
        near: a batch is drawn from so many neighbours.
    """

    encode: Callable[[Sequence[str]], Mapping[str, Tensor]]
    texts: tuple[str, ...]
    targets: Tensor
    batch: int = 32
    near: int = 320

    def sample(self, generator: torch.Generator) -> Episode:
        """One batch."""
        near = min(self.near, len(self.texts))
        begin = int(torch.randint(len(self.texts) - near + 1, (), generator=generator))
        rows = begin + torch.randperm(near, generator=generator)[: self.batch]
        inputs = dict(self.encode([self.texts[row] for row in rows.tolist()]))
        batch = Batch(inputs, self.targets[rows], torch.ones(len(rows)))
        return Episode(batch, batch, "stars")


@dataclass(frozen=True, eq=False)
class Rated:
    """One task's reviews, read by stage 1.

    Attributes:
        name: such as `books.t2`.
        outputs: [review, column] what stage 1 says of each.
        labels: [review] 1 for at least so many stars.
    """

    name: str
    outputs: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class RatedTasks(TaskSource):
    """Episodes of stage 2: equal numbers of both classes in the support, queries as they fall.

    Attributes:
        tasks: each equally often.
        shots: reviews of each class in the support.
        queries: reviews of the query.
    """

    tasks: tuple[Rated, ...]
    shots: int = 5
    queries: int = 40

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode of two ways."""
        task = self.tasks[int(torch.randint(len(self.tasks), (), generator=generator))]
        order = torch.randperm(len(task.labels), generator=generator)
        bad, good = (order[task.labels[order] == label][: self.shots] for label in (0, 1))
        support = torch.cat([bad, good])
        query = order[~torch.isin(order, support)][: self.queries]
        return Episode(_batch(task, support), _batch(task, query), task.name)


def _batch(task: Rated, rows: Tensor) -> Batch:
    return Batch(task.outputs[rows], task.labels[rows], torch.ones(len(rows)), 2)


def review_rows(folder: Path | str | None = None) -> pd.DataFrame:
    """The reviews with a column `key` for equal texts; a train task keeps none that is in a test task too."""
    frame = pd.read_parquet(data_file(FILE, folder))
    frame = frame.assign(key=[text_key(text) for text in frame["text"]])
    tested = set(frame[frame["role"] == "test_task"]["key"])
    shared = (frame["role"] == "train_task") & frame["key"].isin(tested)
    return frame[~shared]


def star_targets(rows: pd.DataFrame) -> tuple[list[str], Tensor]:
    """Each text once, and whether it has at least 2, 4, 5 stars: [text, threshold], NaN where no row tells."""
    wide = rows.pivot_table(index="key", columns="threshold", values="label", aggfunc="max").reindex(columns=THRESHOLDS)
    texts = rows.drop_duplicates("key").set_index("key")["text"].loc[wide.index].tolist()
    known = torch.tensor(wide.to_numpy(), dtype=torch.float32)
    targets = known.clone()
    for column in range(len(THRESHOLDS)):
        above, below = (known[:, column + 1 :] == 1).any(1), (known[:, :column] == 0).any(1)
        targets[above, column], targets[below, column] = 1.0, 0.0
    return texts, targets


def star_batches(rows: pd.DataFrame, encoder: TextEncoder, settings: Settings) -> StarBatches:
    """What stage 1 learns from: the training reviews of `rows`."""
    texts, targets = star_targets(rows[rows["split"] == "train"])
    generator = torch.Generator().manual_seed(settings.seed)
    keep = torch.ones(len(texts), dtype=torch.bool)
    for column, threshold in enumerate(THRESHOLDS):
        highest = (targets[:, column] == 1) & targets[:, column + 1 :].isnan().all(1)
        found = highest.nonzero()[:, 0]
        keep[found[torch.randperm(len(found), generator=generator)[MOST_POSITIVE[threshold] :]]] = False
    order = sorted(keep.nonzero()[:, 0].tolist(), key=lambda row: len(texts[row]))
    return StarBatches(encoder.inputs, tuple(texts[row] for row in order), targets[order], settings.batch)


@torch.no_grad()
def read_reviews(network: Network, params: Params, texts: Sequence[str]) -> Tensor:
    """[text, threshold]: what stage 1 says of each text."""
    outputs = torch.empty(len(texts), network.outputs)
    for rows in buckets([len(text) for text in texts], 12000):
        inputs = network.backbone.inputs([texts[row] for row in rows])  # type: ignore[attr-defined] # a text encoder
        with torch.autocast("cpu", torch.bfloat16):
            outputs[rows] = network(params, inputs).float()
    return outputs


def rated_tasks(rows: pd.DataFrame, reading: Mapping[str, Tensor], least: int = 8) -> tuple[Rated, ...]:
    """The tasks of `rows` that have `least` reviews of each class; `reading` is key -> outputs of stage 1."""
    found = []
    for name, part in rows.groupby("task"):
        labels = torch.tensor(part["label"].tolist())
        if min(int(labels.sum()), int((1 - labels).sum())) >= least:
            found.append(Rated(str(name), torch.stack([reading[key] for key in part["key"]]), labels))
    return tuple(found)


def stage_two_rows(rows: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Reviews of the dev and test splits of the train tasks that no text of stage 1 equals, so many of each task."""
    train = rows[rows["role"] == "train_task"]
    seen = set(train[train["split"] == "train"]["key"])
    fresh = train[(train["split"] != "train") & ~train["key"].isin(seen)]
    shuffled = fresh.sample(frac=1.0, random_state=settings.seed)
    return shuffled.groupby("task").head(ROWS)


def learner(settings: Settings) -> MetaSGD:
    """What stage 2 meta-trains: a small network on the outputs of stage 1; all of it moves in the inner loop."""
    return MetaSGD(Network(MLP((len(THRESHOLDS), settings.width), "tanh"), Full(), outputs=2), settings.inner)


def reader(settings: Settings) -> Network:
    """The network of stage 1 for reading: it computes the frozen layers anew and keeps nothing."""
    return Network(reading_encoder(settings), Full(), outputs=len(THRESHOLDS))


def reading_encoder(settings: Settings) -> TextEncoder:
    """MiniLM as it comes."""
    return TextEncoder(max_tokens=settings.read, normalise=False, attention="sdpa")


def warm_start(rows: pd.DataFrame, settings: Settings, seed: int) -> Params:
    """Stage 1: what MiniLM and three outputs learn from the train domains that are not held out."""
    encoder = TextEncoder(max_tokens=settings.tokens, prefix=settings.frozen, normalise=False, dtype="auto")
    network = Network(encoder, Full(), outputs=len(THRESHOLDS))
    train = rows[(rows["role"] == "train_task") & ~rows["domain"].isin(VALIDATION)]
    held = set(rows[(rows["role"] == "train_task") & rows["domain"].isin(VALIDATION)]["key"])
    batches = star_batches(train[~train["key"].isin(held)], encoder, settings)
    return fit(Stars(network), batches, replace(settings.warm, seed=seed)).params


def read_all(rows: pd.DataFrame, network: Network, params: Params, settings: Settings) -> dict[str, Tensor]:
    """Key -> outputs of stage 1, of the reviews that stage 2 and the test need."""
    tested = rows[(rows["role"] == "test_task") & (rows["split"] != "dev")]
    wanted = pd.concat([stage_two_rows(rows, settings), tested]).drop_duplicates("key")
    outputs = read_reviews(network, params, wanted["text"].tolist())
    return dict(zip(wanted["key"], outputs.unbind(), strict=True))


def meta_train(
    rows: pd.DataFrame, reading: Mapping[str, Tensor], settings: Settings, seed: int = 0
) -> tuple[MetaSGD, Params]:
    """Stage 2: the learner and its meta-parameters, those with the lowest loss on the held-out train domains."""
    chosen = stage_two_rows(rows, settings)
    held = chosen["domain"].isin(VALIDATION)
    tasks, validation = RatedTasks(rated_tasks(chosen[~held], reading)), RatedTasks(rated_tasks(chosen[held], reading))
    method = learner(settings)
    return method, fit(method, tasks, replace(settings.meta, seed=seed), validation).best_params


def averaged(readings: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Key -> the mean of the outputs of several starts."""
    return {key: torch.stack([each[key] for each in readings]).mean(0) for key in readings[0]}


def recipe(folder: Path | str, settings: Settings) -> tuple[Learner, TaskSource, FitOptions]:
    """The learner, tasks and options of stage 2 on what `main` kept of stage 1 in `folder`."""
    chosen = stage_two_rows(review_rows(), settings)
    reading = averaged([read_tensors(Path(folder) / READING.format(seed)) for seed in range(settings.starts)])
    tasks = rated_tasks(chosen[~chosen["domain"].isin(VALIDATION)], reading)
    return learner(settings), RatedTasks(tasks), settings.meta


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What the file holds; without one, what `make` returns, written there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, make())
    return read_tensors(path)


def reading_of(seed: int, rows: pd.DataFrame, folder: Path, settings: Settings) -> dict[str, Tensor]:
    """What one start says of the reviews, from `folder` where it holds that."""
    stars = kept(folder / STARS.format(seed), lambda: warm_start(rows, settings, seed))
    return kept(folder / READING.format(seed), lambda: read_all(rows, reader(settings), stars, settings))


def main() -> None:
    """Runs both stages and the controls and writes the table. What `--folder` holds already is not made again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="where weights and readings are kept; not for release"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results/arsc.json"))
    parser.add_argument("--seeds", type=int, default=2, help="seeds of stage 2")
    parser.add_argument("--text-queries", type=int, default=0, help="queries of a task for controls that train MiniLM")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings, rows, began = Settings(), review_rows(), time.perf_counter()
    readings = [reading_of(seed, rows, arguments.folder, settings) for seed in range(settings.starts)]
    reading = averaged(readings)
    runs = [meta_train(rows, reading, settings, seed) for seed in range(arguments.seeds)]
    for seed, (_, params) in enumerate(runs):
        write_tensors(arguments.folder / f"meta_{seed}.safetensors", params)
    encode = looked_up(reading)
    train = RatedTasks(rated_tasks(stage_two_rows(rows, settings), reading))
    tests = whole_tests(encode)
    table = [*meta_rows(runs, tests), *star_rows(learner(settings), tests, train)]
    write_json(arguments.out, _result(table, settings, time.perf_counter() - began))
    kept_rows = arguments.folder / TEXT_ROWS
    if not kept_rows.exists():
        write_json(kept_rows, text_rows(reading_encoder(settings), arguments.text_queries))
    table += read_json(kept_rows)
    write_json(arguments.out, _result(table, settings, time.perf_counter() - began))
    for each in table:
        print(f"{each['mean']:6.2f} +- {each['ci95']:5.2f}  {each['what']}")


def _result(table: Sequence[Json], settings: Settings, seconds: float) -> Json:
    return {
        "name": "ARSC, 12 test tasks, 2-way 5-shot, whole test sets",
        "metric": "accuracy, percent; the interval is over tasks",
        "rows": list(table),
        "class_names": "not used",
        "seconds": round(seconds),
        "device": f"CPU, 1 thread, torch {torch.__version__}",
        "command": "python -m recipes.arsc --folder runs/arsc --out docs/results/arsc.json",
        "settings": {
            "warm_steps": settings.warm.steps,
            "warm_batch": settings.batch,
            "meta_steps": settings.meta.steps,
        },
    }


if __name__ == "__main__":
    main()
