"""The meta-training loop: for anything with `init` and `loss`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from quickstudy.core.errors import Diverged, InputError, Interrupted
from quickstudy.core.files import write_json
from quickstudy.core.types import Episode, Info, Params
from quickstudy.core.vectorise import Choices
from quickstudy.training.checkpoint import Kept, read_kept, restored, write_best, write_checkpoint
from quickstudy.training.description import described, first_difference, params_digest
from quickstudy.training.episodes import Source, draw, drawn, generator_for
from quickstudy.training.interrupt import stop_asked
from quickstudy.training.measuring import Measuring, gradients_of, held_out_loss, in_precision
from quickstudy.training.metrics import Metrics, Row
from quickstudy.training.options import FREE, FitOptions, check_options
from quickstudy.training.progress import ProgressBar
from quickstudy.training.schedule import learning_rate
from quickstudy.training.state import Position, State, copied, new_state, update
from quickstudy.training.tracking import Tracker
from quickstudy.version import VERSION

RUN = "run.json"
"""What the run is, for people; a resumed run compares with the checkpoint, not with this."""


class Trainable(Protocol):
    """What `fit` needs of a learner."""

    def init(self, generator: torch.Generator) -> Params:
        """Meta-parameters to start from; `state.UPDATES` among them counts the updates."""
        ...

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """A scalar, for one episode."""
        ...


@dataclass(frozen=True)
class Fitted:
    """What a run leaves behind.

    Attributes:
        params: the meta-parameters after the last step.
        best_params: those with the lowest validation loss, the start included; the last ones without validation.
        history: a row a step: `step` (updates made), `loss`, `lr`, `grad_norm`, and `validation_loss` where measured;
            with validation a first row tells that of the start.
        info: steps made, seconds and tasks per second of this call, best step and loss, and notes.
    """

    params: Params
    best_params: Params
    history: tuple[Row, ...] = ()
    info: Info = field(default_factory=Info)


@dataclass(frozen=True)
class _Run:
    """What stays the same from step to step."""

    measuring: Measuring
    held_out: tuple[Episode, ...]
    metrics: Metrics
    description: Mapping[str, str]
    trackers: Sequence[Tracker]
    stopping: Callable[[], bool]

    @property
    def options(self) -> FitOptions:
        return self.measuring.options


def fit(
    learner: Trainable,
    tasks: Source,
    options: FitOptions,
    validation: Source | None = None,
    start: Params | None = None,
    trackers: Sequence[Tracker] = (),
    resume: bool = False,
) -> Fitted:
    """Meta-parameters that lower the mean of `learner.loss` over `tasks`.

    Equal arguments give results equal to the bit on one machine, resumed or not (see `FitOptions.mode`). torch's global
    generator is seeded at each step, for what `loss` draws, and left as it was. The first Ctrl-C ends the run after its
    step, with a checkpoint; the second ends it at once.

    Args:
        learner: its `loss` is called with one episode, also under `torch.vmap`.
        tasks: where training episodes come from.
        options: everything else.
        validation: where validation episodes come from.
        start: meta-parameters to start from; None for `learner.init`. They are not changed.
        trackers: who else is told the figures.
        resume: go on from the checkpoint in `options.folder`.

    Raises:
        InputError: an option is wrong, the folder holds something and `resume` is not set, or the run in it was of
            another learner, tasks or options; the message names the field.
        FileRefused: there is no checkpoint to resume, or it is damaged.
        Diverged: a loss or gradient is not finite; the checkpoint before is kept.
        Interrupted: Ctrl-C was pressed.
        NotAvailable: a tracker's package is missing.
    """
    check_options(options, validation is not None)
    start = learner.init(generator_for(options.seed, "init")) if start is None else start
    parts = {"learner": learner, "tasks": tasks, "validation": validation, "options": options}
    description = _description(parts, start)
    state, kept = _begun(options, start, description, resume)
    if state.optimiser is None:
        note = "this learner has no meta-parameters that can move, so there was nothing to train"
        return Fitted(state.params, copied(state.params), info=Info(notes=(note,)))
    began = time.perf_counter()
    device = next(iter(state.params.values())).device
    measuring = Measuring(in_precision(learner.loss, options.precision, device), options, device, Choices(kept.choices))
    held_out = () if validation is None else tuple(_held_out(validation, options))
    with ExitStack() as stack:
        told = _told(stack, options, trackers, description, state.position)
        metrics = Metrics(_folder(options), kept.metrics_bytes)
        stopping = stack.enter_context(stop_asked())
        run = _Run(measuring, held_out, metrics, description, told, stopping)
        stack.enter_context(_own_noise(device))
        todo = range(state.position.step * options.tasks_per_step, options.steps * options.tasks_per_step)
        episodes = stack.enter_context(drawn(tasks, options.seed, todo, options.workers, options.processes))
        ended = _trained(run, state, episodes, resume)
    return _fitted(run, ended, ended.position.step - kept.position.step, time.perf_counter() - began)


def _trained(run: _Run, state: State, episodes: Iterator[Episode], resume: bool) -> State:
    """The state at the end; `state.params` are changed in place."""
    options = run.options
    if not resume:
        _save(run, state)
        _save_description(run)
    if run.held_out and state.position.best_loss is None:
        loss, state = _validated(run, state)
        _tell(run, {"step": 0, "validation_loss": loss})
    while not state.position.ended(options):
        if run.stopping():
            break
        row, state = _stepped(run, state, episodes)
        if run.held_out and (state.position.step % options.validate_every == 0 or state.position.step == options.steps):
            row["validation_loss"], state = _validated(run, state)
        _tell(run, row)
        if state.position.step % options.checkpoint_every == 0 and not state.position.ended(options):
            _save(run, state)
    _save(run, state)
    if not state.position.ended(options):
        raise Interrupted(state.position.step, _folder(options))
    return state


def _stepped(run: _Run, state: State, episodes: Iterator[Episode]) -> tuple[Row, State]:
    options, step = run.options, state.position.step
    parts = [list(islice(episodes, run.measuring.part)) for _ in range(options.accumulate)]
    loss, gradients, norm = gradients_of(run.measuring, state.params, step, parts)
    rate = learning_rate(options, step)
    update(state, gradients, rate)
    row = {"step": step + 1, "loss": loss, "lr": rate, "grad_norm": norm}
    return row, replace(state, position=replace(state.position, step=step + 1))


def _validated(run: _Run, state: State) -> tuple[float, State]:
    position = state.position
    loss = held_out_loss(run.measuring, state.params, position.step, run.held_out)
    if position.best_loss is not None and not loss < position.best_loss:
        return loss, replace(state, position=replace(position, stale=position.stale + 1))
    position = replace(position, best_step=position.step, best_loss=loss, stale=0)
    state = replace(state, position=position, best=copied(state.params))
    folder = _folder(run.options)
    if folder is not None:
        write_best(folder, state.best)
    return loss, state


def _tell(run: _Run, row: Row) -> None:
    run.metrics.append(row)
    for tracker in run.trackers:
        tracker.log(int(row["step"]), row)


def _save(run: _Run, state: State) -> None:
    """Replaces the last checkpoint, unless the latest update was one too many."""
    for name, tensor in state.params.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Diverged(state.position.step - 1, f"any; the update of {name} overflowed", float("nan"))
    folder = _folder(run.options)
    if folder is None:
        return
    choices = run.measuring.choices.chosen()
    write_checkpoint(folder, state, Kept(state.position, run.metrics.settled(), choices, run.description))
    if not run.held_out and state.position.ended(run.options):
        write_best(folder, state.params)


def _save_description(run: _Run) -> None:
    folder = _folder(run.options)
    if folder is not None:
        write_json(folder / RUN, {"quickstudy": VERSION, **run.description})


def _begun(options: FitOptions, start: Params, description: Mapping[str, str], resume: bool) -> tuple[State, Kept]:
    """The state to go on from and what its checkpoint says. Writes nothing."""
    folder = _folder(options)
    state = new_state(start, options)
    if not resume:
        if folder is not None and folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: holds something already; choose a new folder, or resume the run in it")
        return state, Kept(state.position, 0, {}, description)
    if folder is None:
        raise InputError("resume needs options.folder; give the folder of the run that was stopped")
    tensors, kept = read_kept(folder)
    difference = first_difference(kept.description, description)
    if difference:
        raise InputError(f"{folder}: holds a run that differs: {difference}; resume it as it was, or start a new one")
    return restored(folder, state, tensors, kept), kept


def _description(parts: Mapping[str, object], start: Params) -> dict[str, str]:
    texts = {key: text for name, part in parts.items() for key, text in described(part, name).items()}
    free = {f"options.{name}" for name in FREE}
    return {name: text for name, text in texts.items() if name not in free} | {"start": params_digest(start)}


def _held_out(validation: Source, options: FitOptions) -> Iterator[Episode]:
    return (draw(validation, options.seed, "validation", index) for index in range(options.validation_episodes))


def _told(
    stack: ExitStack,
    options: FitOptions,
    trackers: Sequence[Tracker],
    description: Mapping[str, str],
    position: Position,
) -> list[Tracker]:
    """The trackers and the bar, started; `stack` closes them."""
    bar = [ProgressBar(options.steps, options.tasks_per_step, position.step)] if options.progress else []
    told: list[Tracker] = [*trackers, *bar]
    for tracker in told:
        stack.callback(tracker.close)
        tracker.start(description)
    return told


@contextmanager
def _own_noise(device: torch.device) -> Iterator[None]:
    """Leaves torch's global generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


def _fitted(run: _Run, state: State, steps: int, seconds: float) -> Fitted:
    position = state.position
    values = {"steps": position.step, "seconds": seconds}
    values["tasks_per_second"] = steps * run.options.tasks_per_step / seconds
    if position.best_loss is not None:
        values |= {"best_step": position.best_step, "best_loss": position.best_loss}
    notes = run.measuring.choices.info().notes
    if position.exhausted(run.options):
        notes += (f"stopped at step {position.step}: {position.stale} validations in a row without a lower loss",)
    best = state.best or state.params
    return Fitted(copied(state.params), copied(best), run.metrics.rows(), Info(values, notes))


def _folder(options: FitOptions) -> Path | None:
    return None if options.folder is None else Path(options.folder)
