import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from quickstudy.core.errors import FileRefused, InputError, Interrupted
from quickstudy.core.types import Batch, Episode
from quickstudy.training import FitOptions, fit

OPTIONS = FitOptions(
    steps=12,
    tasks_per_step=4,
    accumulate=2,
    lr=0.1,
    schedule="cosine",
    weight_decay=0.01,
    mode="loop",
    validate_every=3,
    validation_episodes=4,
    checkpoint_every=5,
    progress=False,
)
FILES = ("last.safetensors", "best.safetensors", "metrics.jsonl", "run.json")


class Counter:
    """Calls `act` at the given call; equal to every other, so that it is no part of what a run is."""

    def __init__(self, at=0, act=lambda: None):
        self._at, self._act, self._calls = at, act, 0
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            self._calls += 1
            due = self._calls == self._at
        if due:
            self._act()


@dataclass(frozen=True)
class Noisy:
    """Linear regression on inputs with dropout, so that what `loss` draws counts."""

    scale: float = 1.0
    called: Counter = field(default_factory=Counter)

    def init(self, generator):
        return {"weight": torch.randn(3, generator=generator), "bias": torch.zeros(())}

    def loss(self, params, episode):
        self.called()
        inputs = torch.nn.functional.dropout(episode.query.inputs, 0.2)
        error = inputs @ params["weight"] + params["bias"] - episode.query.targets
        return self.scale * (error**2).mean()


@dataclass(frozen=True)
class Lines:
    slope: tuple = (1.0, -2.0, 3.0)
    called: Counter = field(default_factory=Counter)

    def sample(self, generator):
        self.called()
        inputs = torch.randn(5, 3, generator=generator)
        batch = Batch(inputs, inputs @ torch.tensor(self.slope), torch.ones(5))
        return Episode(batch, batch)


class Listener:
    def __init__(self, at=0, act=lambda: None):
        self._called = Counter(at, act)

    def start(self, description):
        pass

    def log(self, step, values):
        self._called()

    def close(self):
        pass


class PowerCut(Exception):
    pass


def cut():
    raise PowerCut


def press():
    signal.raise_signal(signal.SIGINT)


def press_twice():
    press()
    press()


def run(folder, resume=False, learner=0, tasks=0, validation=0, tracker=0, act=cut, **changes):
    """A run whose nth call of the named thing does `act`."""
    return fit(
        Noisy(called=Counter(learner, act)),
        Lines(called=Counter(tasks, act)),
        replace(OPTIONS, folder=folder, **changes),
        validation=Lines(called=Counter(validation, act)),
        trackers=[Listener(tracker, act)],
        resume=resume,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, run(folder)


def assert_same(folder, fitted, whole):
    whole_folder, wanted = whole
    for name in FILES:
        assert (folder / name).read_bytes() == (whole_folder / name).read_bytes(), name
    assert sorted(os.listdir(folder)) == sorted(FILES)
    for name in wanted.params:
        assert torch.equal(fitted.params[name], wanted.params[name])
        assert torch.equal(fitted.best_params[name], wanted.best_params[name])
    assert fitted.history == wanted.history
    assert fitted.info.values["best_step"] == wanted.info.values["best_step"]


# 4 validation losses come first, then 4 of each step and 4 of each validation, after steps 3, 6, 9 and 12.
WHERE = [
    {"tracker": 1},
    {"tracker": 2},
    {"tracker": 6},
    {"tracker": 13},
    {"tasks": 1},
    {"tasks": 23},
    {"tasks": 48},
    {"learner": 2},
    {"learner": 7},
    {"learner": 19},
    {"learner": 31},
    {"learner": 45},
    {"learner": 68},
]
FEW = [{"tracker": 6}, {"tasks": 23}, {"learner": 7}, {"learner": 19}, {"learner": 31}]


@pytest.mark.parametrize("where", WHERE, ids=str)
def test_resumed_equals_uninterrupted_after_a_power_cut(tmp_path, whole, where):
    with pytest.raises(PowerCut):
        run(tmp_path / "run", **where)
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("where", FEW, ids=str)
def test_resumed_equals_uninterrupted_after_ctrl_c(tmp_path, whole, where):
    with pytest.raises(Interrupted) as caught:
        run(tmp_path / "run", act=press, **where)
    assert caught.value.checkpoint == tmp_path / "run"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == caught.value.step + 1
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("where", [{"tracker": 13}, {"tasks": 48}, {"learner": 68}], ids=str)
def test_ctrl_c_in_the_last_step_comes_too_late(tmp_path, whole, where):
    assert_same(tmp_path / "run", run(tmp_path / "run", act=press, **where), whole)


@pytest.mark.parametrize("where", FEW, ids=str)
def test_a_second_ctrl_c_stops_at_once_and_files_stay_whole(tmp_path, whole, where):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", act=press_twice, **where)
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True), whole)


def test_the_step_in_which_ctrl_c_came_is_finished(tmp_path):
    for number, where in enumerate(({"learner": 4 + 6}, {"tasks": 7}, {"tracker": 3})):
        with pytest.raises(Interrupted) as caught:
            run(tmp_path / str(number), act=press, **where)
        assert caught.value.step == 2


def test_many_stops(tmp_path, whole):
    folder, fitted, resume, stops = tmp_path / "run", None, False, 0
    while fitted is None:
        try:
            fitted = run(folder, resume=resume, tracker=2, act=press)
        except Interrupted:
            resume, stops = True, stops + 1
    assert stops == 6
    assert_same(folder, fitted, whole)


def test_ctrl_c_without_a_folder_keeps_nothing_and_says_so():
    with pytest.raises(Interrupted, match="nothing is kept") as caught:
        run(None, tracker=3, act=press)
    assert caught.value.checkpoint is None


def test_the_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    for where in ({}, {"tracker": 3, "act": press}, {"tasks": 3}):
        with suppress(Interrupted, PowerCut):
            run(None, **where)
        assert signal.getsignal(signal.SIGINT) is before


def test_a_moved_folder_other_workers_and_other_checkpoints_may_go_on(tmp_path, whole):
    with pytest.raises(PowerCut):
        run(tmp_path / "old", learner=45, workers=2, checkpoint_every=3)
    (tmp_path / "old").rename(tmp_path / "run")
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True, workers=1), whole)


def test_a_finished_run_resumes_to_the_same(tmp_path, whole):
    run(tmp_path / "run")
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True, learner=1, tasks=1), whole)


def test_patience_is_remembered(tmp_path):
    setting = {"patience": 2, "steps": 60, "lr": 0.0, "checkpoint_every": 2}
    wanted = run(tmp_path / "whole", **setting)
    assert wanted.info.values["steps"] == 6
    with pytest.raises(PowerCut):
        run(tmp_path / "run", tracker=6, **setting)
    fitted = run(tmp_path / "run", resume=True, **setting)
    assert_same(tmp_path / "run", fitted, (tmp_path / "whole", wanted))
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True, **setting), (tmp_path / "whole", wanted))


def test_auto_keeps_to_the_mode_it_chose(tmp_path):
    with pytest.raises(PowerCut):
        run(tmp_path / "run", mode="auto", tracker=8)
    fitted = run(tmp_path / "run", mode="auto", resume=True)
    assert not [note for note in fitted.info.notes if "chosen" in note]


@pytest.fixture
def stopped(tmp_path):
    with pytest.raises(PowerCut):
        run(tmp_path / "run", tracker=8)
    return tmp_path / "run"


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"options": replace(OPTIONS, lr=0.2)}, "options.lr was 0.1, is now 0.2"),
        ({"options": replace(OPTIONS, steps=13)}, "options.steps was 12, is now 13"),
        ({"options": replace(OPTIONS, seed=1)}, "options.seed"),
        ({"options": replace(OPTIONS, accumulate=1)}, "options.accumulate"),
        ({"learner": Noisy(scale=2.0)}, "learner.scale was 1.0, is now 2.0"),
        ({"tasks": Lines(slope=(1.0, 2.0, 3.0))}, "tasks.slope.1"),
        ({"validation": Lines(slope=(1.0, 2.0, 3.0))}, "validation.slope.1"),
        ({"validation": None}, "validation"),
        ({"start": {"weight": torch.ones(3), "bias": torch.zeros(())}}, "start"),
    ],
)
def test_another_run_is_refused_by_the_field_that_differs(stopped, changes, named):
    arguments = {"learner": Noisy(), "tasks": Lines(), "options": OPTIONS, "validation": Lines(), **changes}
    arguments["options"] = replace(arguments["options"], folder=stopped)
    before = listing(stopped)
    with pytest.raises(InputError, match=named):
        fit(**arguments, resume=True)
    assert listing(stopped) == before


def test_going_on_must_be_asked_for(stopped):
    before = listing(stopped)
    with pytest.raises(InputError, match="resume"):
        run(stopped)
    assert listing(stopped) == before


def test_nothing_to_resume(tmp_path):
    with pytest.raises(InputError, match=r"options\.folder"):
        run(None, resume=True)
    with pytest.raises(FileRefused) as caught:
        run(tmp_path / "run", resume=True)
    assert caught.value.reason == "missing_file"
    assert list(tmp_path.iterdir()) == []


def test_damaged_checkpoints_are_refused(stopped):
    data = (stopped / "last.safetensors").read_bytes()
    for reason, bad in (("truncated", data[:-5]), ("truncated", b""), ("pickle", b"\x80\x04.")):
        (stopped / "last.safetensors").write_bytes(bad)
        with pytest.raises(FileRefused) as caught:
            run(stopped, resume=True)
        assert caught.value.reason == reason
    (stopped / "last.safetensors").write_bytes((stopped / "best.safetensors").read_bytes())
    with pytest.raises(FileRefused) as caught:
        run(stopped, resume=True)
    assert caught.value.reason == "missing_keys"
    (stopped / "last.safetensors").write_bytes(data)
    (stopped / "metrics.jsonl").unlink()
    with pytest.raises(FileRefused) as caught:
        run(stopped, resume=True)
    assert caught.value.reason == "truncated"


CHILD = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location(sys.argv[1], sys.argv[2])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
def wait():
    print("here", flush=True)
    sys.stdin.readline()
act = {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "wait": wait}[sys.argv[3]]
module.run(Path(sys.argv[4]), tracker=int(sys.argv[5]), act=act)
"""


def child(act, folder, step):
    command = [sys.executable, "-c", CHILD, __name__, __file__, act, str(folder), str(step)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_another_process_is_interrupted_from_outside(tmp_path, whole):
    with child("wait", tmp_path / "run", 5) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate("go on\n", timeout=300)
    assert process.returncode == 1
    assert "Interrupted: stopped at step 4: resume from" in errors
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True), whole)


def test_another_process_is_killed(tmp_path, whole):
    with child("kill", tmp_path / "run", 8) as process:
        process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert_same(tmp_path / "run", run(tmp_path / "run", resume=True), whole)


def test_a_run_is_not_the_folder_it_was_in(whole):
    assert str(Path(whole[0]).parent) not in (whole[0] / "run.json").read_text()
