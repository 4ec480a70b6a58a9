"""A published result that can be measured again: its name, what it is, and the function that measures it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.core.errors import FileRefused, NotAvailable
from quickstudy.core.files import read_json, write_json
from quickstudy.core.types import Json, Params
from quickstudy.evaluation.intervals import interval
from quickstudy.reproduce.timing import Spent, spent, timed
from quickstudy.training.checkpoint import LAST
from quickstudy.training.episodes import Source
from quickstudy.training.loop import Fitted, Trainable, fit
from quickstudy.training.options import FitOptions

SEED_OF_TEST_TASKS = 1_000_003
"""Far from the seeds of training runs, whose tasks come from streams of their own in any case."""

SEED_OF_VALIDATION_TASKS = 2_000_003
"""Of the tasks on which rates are chosen."""


@dataclass(frozen=True)
class Row:
    """One measured figure beside the published one.

    Attributes:
        name: what was measured, e.g. "ProtoNet, 5-way 1-shot".
        metric: what the figure is and its unit, e.g. "accuracy, percent".
        mean: over tasks and seeds.
        ci95: half the width of the 95 % interval over tasks, of the seeds' mean; None for a single number.
        tasks: number of test tasks.
        seeds: the mean of each training seed.
        seconds: training and measuring, all seeds together.
        published: the value of the paper; None for controls and what was never published.
        published_source: author, year, arXiv; ends in "unverified" where nobody has seen the number in its source.
        facts: settings that a reader needs.
    """

    name: str
    metric: str
    mean: float
    ci95: float | None
    tasks: int
    seeds: tuple[float, ...]
    seconds: float
    published: float | None = None
    published_source: str = ""
    facts: Mapping[str, Json] = field(default_factory=dict)


def measured(name: str, metric: str, values: Mapping[int, Tensor], seconds: float, **more: Any) -> Row:
    """The row of `values`: training seed -> [task], the same test tasks in the same order for each seed.

    Args:
        name: as in `Row`.
        metric: as in `Row`.
        values: at least one seed.
        seconds: as in `Row`.
        more: `published`, `published_source` and `facts` of `Row`.
    """
    found = interval(torch.stack([each.double() for each in values.values()]).mean(0))
    means = tuple(float(each.double().mean()) for each in values.values())
    width = found.ci95 if math.isfinite(found.ci95) else None
    return Row(name, metric, found.mean, width, found.tasks, means, seconds, **more)


Draw: TypeAlias = Callable[[Any], None]
"""Draws on a matplotlib figure."""


@dataclass(frozen=True)
class Work:
    """What a reproduction is given: its size, and where finished pieces are kept so that a stopped run goes on.

    Attributes:
        folder: checkpoints and finished pieces.
        pictures: the path of a PNG without its ending; a label and the ending are added.
        quick: a small version, seconds long, that shows the same property.
        seeds: number of training runs.
        device: where tensors lie.
        progress: show bars.
        tell: says one line to the user.
    """

    folder: Path
    pictures: Path
    quick: bool = False
    seeds: int = 1
    device: str = "cpu"
    progress: bool = True
    tell: Callable[[str], None] = print

    def trained(
        self,
        label: str,
        learner: Trainable,
        tasks: Source,
        options: FitOptions,
        validation: Source | None = None,
        start: Params | None = None,
    ) -> Fitted:
        """What `fit` gives; a run that was stopped goes on from its checkpoint, a finished one is read.

        Args:
            label: name of the run, one for each seed; a folder of that name is made.
            learner: as in `fit`.
            tasks: as in `fit`.
            options: as in `fit`; folder and progress are set here.
            validation: as in `fit`.
            start: as in `fit`.
        """
        self.tell(f"training {label}")
        folder = self.folder / label
        options = replace(options, folder=folder, progress=self.progress)
        with timed(self.folder, label):
            return fit(learner, tasks, options, validation, start, resume=(folder / LAST).exists())

    def spent(self, labels: Iterable[str]) -> Spent:
        """What `trained` took for these labels together, all pieces of stopped runs included."""
        return spent(self.folder, labels)

    def once(self, label: str, settings: Json, make: Callable[[], Json]) -> Json:
        """What `make()` returned, now or, where a stopped run had finished it with the same `settings`, then."""
        path = self.folder / f"{label}.json"
        try:
            kept = read_json(path)
        except (FileNotFoundError, FileRefused):
            kept = None
        if kept is not None and kept["settings"] == settings:
            return kept["result"]
        self.tell(f"measuring {label}")
        result = make()
        write_json(path, {"settings": settings, "result": result})
        return result

    def row(self, label: str, settings: Json, make: Callable[[], Row]) -> Row:
        """`once` for a row."""
        kept = self.once(label, settings, lambda: asdict(make()))
        return Row(**{**kept, "seeds": tuple(kept["seeds"])})

    def picture(self, draw: Draw, label: str = "", size: tuple[float, float] = (6.4, 4.0)) -> Path:
        """The path of a PNG that `draw(figure)` made.

        Raises:
            NotAvailable: matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise NotAvailable("plots need matplotlib; install quickstudy[plots]") from error
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        ending = f"-{label}.png" if label else ".png"
        path = self.pictures.with_name(self.pictures.name + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
        return path


@dataclass(frozen=True)
class Reproduction:
    """A published result.

    Attributes:
        name: what `quickstudy reproduce` is given.
        about: one line.
        needs: what it takes beside the package, e.g. "QUICKSTUDY_DATA"; empty for nothing.
        hours: a full run on two CPU cores, roughly.
        run: measures the rows, controls included.
    """

    name: str
    about: str
    run: Callable[[Work], list[Row]]
    needs: str = ""
    hours: float = 0.1
