"""Meta-training on files of examples: from tables of tasks to an initialisation that adapting can start from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import InputError
from quickstudy.core.types import Json
from quickstudy.deltas.lora import LoRA
from quickstudy.learners.names import learner_names
from quickstudy.lifecycle.adapting import TableColumns, read_split
from quickstudy.lifecycle.initialisation import Initialisation, save_initialisation
from quickstudy.lifecycle.methods import METHODS, Method, MethodSpec, build_method
from quickstudy.lifecycle.trained_files import FACTS
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.episodes import TableTasks
from quickstudy.tasks.folder import FolderTasks
from quickstudy.tasks.hard import HardClasses
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions
from quickstudy.training.tracking import Mlflow, TensorBoard, Tracker, WeightsAndBiases

RUN_ENDING = ".run"
"""Checkpoints and figures of a training lie beside its result, in a folder of this ending."""

PROJECT = "quickstudy"
"""What a run belongs to at Weights & Biases and MLflow."""

_TRACKERS: Mapping[str, Callable[[Path], Tracker]] = MappingProxyType(
    {
        "tensorboard": lambda place: TensorBoard(run_place(place) / "tensorboard"),
        "wandb": lambda place: WeightsAndBiases(PROJECT, place.name),
        "mlflow": lambda _: Mlflow(PROJECT),
    }
)
"""By name; each is made for the place of an initialisation."""

_HEADED: Mapping[str, int] = MappingProxyType({"maml": 0, "anil": 0, "reptile": 0, "meta_sgd": 0})
"""Learners that adapt a head of the network, and so need to know the largest number of classes."""


@dataclass(frozen=True)
class Trained:
    """What is trained.

    Attributes:
        learner: row of `learners.names`.
        rank: of the LoRA matrices.
        layers: how many of the encoder's layers they are in, from the last one down.
        outputs: the most classes of a later task, for learners that adapt a head; 0 for as many as the tasks here have.
    """

    learner: str = "protonet"
    rank: int = 8
    layers: int = 2
    outputs: int = 0


@dataclass(frozen=True)
class TaskPlan:
    """Which tasks are drawn.

    Attributes:
        columns: where the files hold what.
        split: the rows to train on; None for all.
        validation_split: the rows of validation tasks; None for no validation.
        ways: classes of a task; not for a folder, whose files are tasks.
        shots: examples of each class to adapt to.
        queries: examples of each class to be judged on.
        class_names: whether class names join the support.
        hard: the part of tasks whose classes the base finds close to each other; the others are drawn uniformly.
        domain_column: where given, the classes of a task are of one domain, and this column holds it.
    """

    columns: TableColumns = field(default_factory=TableColumns)
    split: str | None = None
    validation_split: str | None = None
    ways: int = 5
    shots: int = 5
    queries: int = 5
    class_names: bool = True
    hard: float = 0.0
    domain_column: str | None = None


@dataclass(frozen=True)
class Going:
    """How a training goes.

    Attributes:
        resume: go on from the last checkpoint.
        trackers: who is told the figures of each step: of "tensorboard", "wandb" and "mlflow".

    Raises:
        InputError: a tracker is none of these.
    """

    resume: bool = False
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.trackers if name not in _TRACKERS]
        if unknown:
            raise InputError(f"there is no tracker {unknown[0]!r}; give one of {', '.join(_TRACKERS)}")


def training_place(name: str, out: Path | str, force: bool, resume: bool) -> Path:
    """The folder of the initialisation called `name` in `out`.

    Raises:
        InputError: there is something in this place or in that of its run, and neither `force` nor `resume` is set.
    """
    place = Path(out) / name
    if not name or Path(name).name != name or name.startswith("."):
        raise InputError(f"the name {name!r} cannot be a folder; give a plain name")
    if place.exists() and not (place / FACTS).is_file():
        raise InputError(f"{place}: is there already and is no initialisation; give another name")
    if place.exists() and not force:
        raise InputError(f"{place}: there is an initialisation of this name; give another name, or --force")
    run = run_place(place)
    if run.exists() and not resume:
        raise InputError(f"{run}: holds an earlier run; go on with it by --resume, remove it, or give another name")
    return place


def run_place(place: Path) -> Path:
    """Where the checkpoints and figures of the training of `place` lie."""
    return place.with_name(f"{place.name}{RUN_ENDING}")


def trackers_for(going: Going, place: Path) -> list[Tracker]:
    """Those that are told the figures of the training of `place`."""
    return [_TRACKERS[name](place) for name in going.trackers]


def data_files(source: Path) -> Json:
    """Name and SHA-256 of the file, or of each file in the folder."""
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]
    return [{"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in files]


def train_file(
    source: Path,
    place: Path,
    trained: Trained,
    plan: TaskPlan,
    options: FitOptions,
    encoder: TextEncoder,
    going: Going = Going(),
) -> Json:
    """What was trained and measured, as JSON; the initialisation is in the folder `place`, whole or not at all.

    Args:
        source: a file of examples, or a folder of files each of which is a task.
        place: see `training_place`.
        trained: what is trained.
        plan: which tasks.
        options: of `training.fit`; their folder is set here.
        encoder: the base.
        going: whether it goes on from the last checkpoint, and who is told the figures.

    Raises:
        QuickstudyError: as `read_table` and `training.fit`.
    """
    method = _method(trained, plan, encoder)
    tasks, validation = _sources(source, plan, method, encoder)
    options = replace(options, folder=run_place(place))
    trackers = trackers_for(going, place)
    fitted = fit(method.learner, tasks, options, validation, trackers=trackers, resume=going.resume)
    provenance = {
        "data": data_files(source),
        "tasks": {**asdict(plan), "columns": asdict(plan.columns)},
        "options": {**asdict(options), "folder": None, "betas": list(options.betas)},
        "values": dict(fitted.info.values),
    }
    save_initialisation(
        place, Initialisation(method.spec, encoder, encoder.fingerprint, fitted.best_params, provenance)
    )
    last = fitted.history[-1] if fitted.history else {}
    return {
        "name": place.name,
        "folder": str(place),
        "run": str(options.folder),
        "learner": trained.learner,
        "base": encoder.fingerprint.name,
        "class_names": plan.class_names,
        "loss": last.get("loss"),
        **dict(fitted.info.values),
        "notes": list(fitted.info.notes),
    }


def _method(trained: Trained, plan: TaskPlan, encoder: TextEncoder) -> Method:
    if trained.learner not in learner_names():
        raise InputError(f"there is no learner {trained.learner!r}; give one of {', '.join(learner_names())}")
    depth = encoder.depth
    if not 1 <= trained.layers <= depth or trained.rank < 1:
        raise InputError(
            f"{trained.layers} layers of rank {trained.rank} were asked for; give 1 to {depth} layers, a rank from 1"
        )
    if trained.outputs and trained.learner in METHODS:
        raise InputError(f"the learner {trained.learner!r} computes its head from the examples; leave the outputs out")
    lora = LoRA(trained.rank, 2.0 * trained.rank, layers=tuple(range(depth - trained.layers, depth)))
    outputs = (trained.outputs or plan.ways) if trained.learner in _HEADED else trained.outputs
    known = METHODS.get(trained.learner, MethodSpec(trained.learner))
    return build_method(replace(known, lora=lora, outputs=outputs), encoder)


def _sources(
    source: Path, plan: TaskPlan, method: Method, encoder: TextEncoder
) -> tuple[TaskSource, TaskSource | None]:
    if not source.is_dir():
        hard = HardClasses(embed=encoder.embed, share=plan.hard) if plan.hard else None
        tasks = _table_tasks(source, plan, method, plan.split, hard)
        validated = plan.validation_split
        return tasks, _table_tasks(source, plan, method, validated, hard) if validated else None
    if plan.split or plan.validation_split:
        raise InputError(f"{source}: is a folder, whose files are tasks, so it has no splits; leave them out")
    if plan.hard or plan.domain_column:
        raise InputError(f"{source}: is a folder, whose files are tasks as they are; leave hard tasks and domains out")
    columns = (plan.columns.text, plan.columns.label)
    weight = method.spec.name_weight
    folder = FolderTasks(source, method.backbone.inputs, plan.shots, plan.queries, plan.class_names, weight, columns)
    return folder, None


def _table_tasks(
    source: Path, plan: TaskPlan, method: Method, split: str | None, hard: HardClasses | None
) -> TableTasks:
    table = read_split(source, plan.columns, split, plan.domain_column)
    return TableTasks(
        table,
        method.backbone.inputs,
        plan.ways,
        plan.shots,
        plan.queries,
        plan.class_names,
        method.spec.name_weight,
        within="domain" if plan.domain_column else None,
        hard=hard,
    )
