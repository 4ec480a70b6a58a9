import gc
import math
import threading
from dataclasses import dataclass, field, replace

import pytest
import torch

from quickstudy.core.errors import Diverged, InputError, NotAvailable
from quickstudy.core.files import read_tensors
from quickstudy.core.types import Adapter, Batch, Episode, Prediction
from quickstudy.training import FitOptions, fit
from quickstudy.training.episodes import draw
from quickstudy.training.schedule import learning_rate

TRUTH = torch.tensor([1.0, -2.0, 3.0])
OPTIONS = FitOptions(steps=20, tasks_per_step=4, lr=0.1, mode="loop", progress=False, validation_episodes=6)


@dataclass(frozen=True)
class Line:
    """Linear regression; the support set corrects the offset."""

    noise: float = 0.0

    def init(self, generator):
        return {"weight": torch.randn(3, generator=generator), "count": torch.tensor(7)}

    def loss(self, params, episode):
        offset = (episode.support.targets - self._line(params, episode.support.inputs)).mean()
        error = self._line(params, episode.query.inputs) + offset - episode.query.targets
        return (error**2).mean() + self.noise * torch.rand(()) * params["weight"].sum()

    def adapt(self, params, support):
        offset = (support.targets - self._line(params, support.inputs)).mean()
        return Adapter({"offset": offset}, "line")

    def predict(self, params, adapter, inputs):
        return Prediction((self._line(params, inputs) + adapter.tensors["offset"])[:, None])

    def _line(self, params, inputs):
        return inputs @ params["weight"]


@dataclass(frozen=True)
class Lines:
    """Tasks that share a slope and differ in offset. Task `bad_at` holds a value that is none."""

    slope: tuple = tuple(TRUTH.tolist())
    bad: float = 0.0
    bad_at: int = -1
    shuffled: bool = False
    count: list = field(default_factory=list)

    def sample(self, generator):
        self.count.append(1)
        sides = [torch.randn(5, 3, generator=generator) for _ in range(2)]
        offset = torch.randn((), generator=generator)
        targets = [side @ torch.tensor(self.slope) + offset for side in sides]
        if self.shuffled:
            targets = [torch.randn(5, generator=generator) for _ in range(2)]
        if len(self.count) == self.bad_at:
            targets[1] = targets[1] + self.bad
        support, query = (Batch(x, y, torch.ones(5)) for x, y in zip(sides, targets, strict=True))
        return Episode(support, query, task=f"line {len(self.count)}")


class Listener:
    def __init__(self, then=lambda step: None):
        self.rows, self.calls, self._then = [], [], then

    def start(self, description):
        self.calls.append("start")
        self.description = description

    def log(self, step, values):
        self.rows.append(dict(values))
        self._then(step)

    def close(self):
        self.calls.append("close")


def options(**changes):
    return replace(OPTIONS, **changes)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_slope_is_found_and_not_from_shuffled_targets():
    found = fit(Line(), Lines(), options(steps=300, schedule="cosine"))
    assert torch.allclose(found.params["weight"], TRUTH, atol=1e-3)
    lost = fit(Line(), Lines(shuffled=True), options(steps=300, schedule="cosine"))
    assert found.history[-1]["loss"] < 1e-5
    assert lost.history[-1]["loss"] > 0.3


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_it_is_adamw_on_the_mean_loss_of_the_tasks(accumulate):
    learner, setting = Line(), options(schedule="linear", warmup=5, weight_decay=0.1, clip=2.0, accumulate=accumulate)
    start = {"weight": torch.tensor([5.0, 5.0, 5.0])}
    weight = start["weight"].clone().requires_grad_()
    optimiser = torch.optim.AdamW([weight], betas=setting.betas, weight_decay=0.1)
    losses, norms = [], []
    for step in range(setting.steps):
        episodes = [draw(Lines(), 0, "episode", number) for number in range(4 * step, 4 * step + 4)]
        loss = torch.stack([learner.loss({"weight": weight}, episode) for episode in episodes]).mean()
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(float(torch.nn.utils.clip_grad_norm_([weight], 2.0)))
        optimiser.param_groups[0]["lr"] = learning_rate(setting, step)
        optimiser.step()
    found = fit(learner, Lines(), setting, start=start)
    assert max(norms) > 2
    assert torch.allclose(found.params["weight"], weight.detach(), atol=1e-5)
    assert [row["loss"] for row in found.history] == pytest.approx(losses, rel=1e-4)
    assert [row["grad_norm"] for row in found.history] == pytest.approx(norms, rel=1e-4)
    assert [row["step"] for row in found.history] == list(range(1, 21))


def test_equal_arguments_give_equal_bits_and_another_seed_does_not():
    first, second = (fit(Line(noise=1.0), Lines(), OPTIONS, validation=Lines()) for _ in range(2))
    assert same(first.params, second.params)
    assert first.history == second.history
    assert not same(first.params, fit(Line(noise=1.0), Lines(), options(seed=1)).params)


def test_workers_change_nothing():
    alone, together = (fit(Line(noise=1.0), Lines(), options(workers=workers)) for workers in (0, 3))
    assert same(alone.params, together.params)
    assert alone.history == together.history


@pytest.mark.parametrize("mode", ["vmap", "chunks", "auto"])
def test_the_modes_agree(mode):
    found = fit(Line(), Lines(), options(mode=mode, chunk=2), validation=Lines())
    wanted = fit(Line(), Lines(), OPTIONS, validation=Lines())
    assert torch.allclose(found.params["weight"], wanted.params["weight"], atol=1e-5)
    assert found.info.values["best_loss"] == pytest.approx(wanted.info.values["best_loss"], rel=1e-3)


def test_start_is_not_changed_and_no_gradient_stays():
    start = {"weight": torch.ones(3), "count": torch.tensor(7)}
    found = fit(Line(), Lines(), OPTIONS, start=start, validation=Lines())
    assert torch.equal(start["weight"], torch.ones(3))
    assert not torch.equal(found.params["weight"], start["weight"])
    assert torch.equal(found.params["count"], start["count"])
    for tensor in (*start.values(), *found.params.values(), *found.best_params.values()):
        assert tensor.grad is None
        assert not tensor.requires_grad


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit(Line(noise=1.0), Lines(), OPTIONS)
    assert torch.equal(before, torch.get_rng_state())


def test_a_learner_without_moving_parameters_trains_nothing(tmp_path):
    for start in ({}, {"count": torch.tensor(7)}):
        found = fit(Line(), Lines(), options(folder=tmp_path / "run"), start=start)
        assert same(found.params, start)
        assert "nothing to train" in found.info.notes[0]
        assert found.history == ()


def test_no_steps_return_the_start():
    start = Line().init(torch.Generator().manual_seed(0))
    found = fit(Line(), Lines(), options(steps=0), start=start, validation=Lines())
    assert same(found.params, start)
    assert same(found.best_params, start)
    assert [row["step"] for row in found.history] == [0]


def test_validation_sees_the_same_tasks_and_draws_each_time():
    source = Lines()
    found = fit(Line(noise=1.0), Lines(), options(lr=0.0, validate_every=4), validation=source)
    measured = {row["step"]: row["validation_loss"] for row in found.history if "validation_loss" in row}
    assert list(measured) == [0, 4, 8, 12, 16, 20]
    assert len(set(measured.values())) == 1
    assert len(source.count) == 6


def test_validation_is_the_mean_over_its_tasks_and_changes_no_training():
    found = fit(Line(), Lines(), options(validate_every=7), validation=Lines())
    episodes = [draw(Lines(), 0, "validation", number) for number in range(6)]
    wanted = torch.stack([Line().loss(found.params, episode) for episode in episodes]).mean()
    assert found.history[-1]["validation_loss"] == pytest.approx(wanted.item(), rel=1e-5)
    assert same(found.params, fit(Line(), Lines(), OPTIONS).params)


def test_the_best_parameters_are_those_of_the_lowest_validation_loss(tmp_path):
    away = Lines(slope=tuple((-TRUTH).tolist()))
    start = {"weight": TRUTH - 0.3}
    setting = options(steps=30, validate_every=1, folder=tmp_path / "run", lr=0.03)
    found = fit(Line(), away, setting, start=start, validation=Lines())
    assert found.info.values["best_step"] == 0
    assert same(found.best_params, start)
    assert same(read_tensors(tmp_path / "run" / "best.safetensors"), start)
    assert not same(found.params, start)


def test_best_is_the_end_where_every_step_helps():
    found = fit(Line(), Lines(), options(validate_every=5, lr=0.02), validation=Lines())
    assert found.info.values["best_step"] == 20
    assert same(found.best_params, found.params)


def test_patience_stops_the_run():
    away = Lines(slope=tuple((-TRUTH).tolist()))
    setting = options(steps=1000, validate_every=3, patience=4)
    found = fit(Line(), away, setting, start={"weight": TRUTH.clone()}, validation=Lines())
    assert found.info.values["steps"] == 12
    assert "stopped at step 12" in found.info.notes[-1]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_step_and_task(tmp_path, bad, accumulate):
    setting = options(folder=tmp_path / "run", checkpoint_every=2, accumulate=accumulate)
    listener = Listener()
    with pytest.raises(Diverged) as caught:
        fit(Line(), Lines(bad=bad, bad_at=4 * 5 + 3), setting, trackers=[listener])
    assert (caught.value.step, caught.value.task) == (5, "line 23")
    assert not math.isfinite(caught.value.value)
    assert listener.calls == ["start", "close"]
    kept = read_tensors(tmp_path / "run" / "last.safetensors")
    wanted = fit(Line(), Lines(), options(steps=4)).params
    assert torch.equal(kept["params/weight"], wanted["weight"])


def test_a_validation_loss_that_is_not_finite_stops_too():
    with pytest.raises(Diverged) as caught:
        fit(Line(), Lines(), OPTIONS, validation=Lines(bad=math.nan, bad_at=5))
    assert (caught.value.step, caught.value.task) == (0, "line 5")


@dataclass(frozen=True)
class Root(Line):
    """Its loss is finite everywhere, its gradient is not where the query's first target is 0."""

    def loss(self, params, episode):
        return torch.sqrt((params["weight"].sum() * episode.query.targets[0]).abs())


def test_a_gradient_that_is_not_finite_names_its_task():
    class OneIsZero(Lines):
        def sample(self, generator):
            episode = super().sample(generator)
            zero = replace(episode.query, targets=torch.zeros(5))
            return replace(episode, query=zero) if len(self.count) == 7 else episode

    with pytest.raises(Diverged) as caught:
        fit(Root(), OneIsZero(), OPTIONS)
    assert (caught.value.step, caught.value.task) == (1, "line 7")


@dataclass(frozen=True)
class Upwards(Line):
    """Its gradient is 1 everywhere."""

    def loss(self, params, episode):
        return (params["weight"].detach() - params["weight"]).sum()


def test_an_update_that_overflows_reaches_no_checkpoint(tmp_path):
    setting = options(folder=tmp_path / "run", checkpoint_every=1, lr=2e38, betas=(0.0, 0.0), steps=5)
    with pytest.raises(Diverged) as caught:
        fit(Upwards(), Lines(), setting, start={"weight": torch.zeros(3)})
    assert caught.value.step == 1
    kept = read_tensors(tmp_path / "run" / "last.safetensors")["params/weight"]
    assert torch.allclose(kept, torch.full((3,), 2e38))


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds something already"):
        fit(Line(), Lines(), options(folder=tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_what_a_folder_holds_after_a_run(tmp_path):
    found = fit(Line(), Lines(), options(folder=tmp_path / "new" / "run"))
    names = {path.name for path in (tmp_path / "new" / "run").iterdir()}
    assert names == {"last.safetensors", "best.safetensors", "metrics.jsonl", "run.json"}
    assert same(read_tensors(tmp_path / "new" / "run" / "best.safetensors"), found.params)


def test_bfloat16_runs_the_loss_only():
    kinds = set()

    @dataclass(frozen=True)
    class Watched(Line):
        def loss(self, params, episode):
            kinds.add((params["weight"].dtype, (episode.query.inputs @ params["weight"][:, None]).dtype))
            return super().loss(params, episode)

    found = fit(Watched(), Lines(), options(precision="bfloat16", steps=100))
    assert kinds == {(torch.float32, torch.bfloat16)}
    assert found.params["weight"].dtype == torch.float32
    assert torch.allclose(found.params["weight"], TRUTH, atol=0.1)


def test_trackers_hear_every_row_and_are_closed():
    listener = Listener()
    found = fit(Line(), Lines(), options(validate_every=5), validation=Lines(), trackers=[listener])
    assert tuple(listener.rows) == found.history
    assert listener.calls == ["start", "close"]
    assert listener.description["learner.noise"] == "0.0"


def test_a_tracker_that_cannot_start_stops_before_anything_is_written(tmp_path):
    class Missing(Listener):
        def start(self, description):
            raise NotAvailable("not here")

    with pytest.raises(NotAvailable):
        fit(Line(), Lines(), options(folder=tmp_path / "run"), trackers=[Missing()])
    assert list(tmp_path.iterdir()) == []


def test_it_is_silent_where_there_is_no_terminal(capfd, tmp_path):
    fit(Line(), Lines(), options(progress=True, folder=tmp_path / "run"))
    assert capfd.readouterr() == ("", "")


def test_it_runs_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(Line(), Lines(), OPTIONS)))
    thread.start()
    thread.join()
    assert same(results[0].params, fit(Line(), Lines(), OPTIONS).params)


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_memory_is_flat(mode):
    """Tensors that are alive, and their entries, after 50 steps and after 400."""
    alive = {}

    def count(step):
        if step in (50, 400):
            gc.collect()
            tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
            alive[step] = (len(tensors), sum(tensor.numel() for tensor in tensors))

    setting = options(steps=400, tasks_per_step=2, mode=mode, validate_every=25)
    fit(Line(), Lines(), setting, validation=Lines(), trackers=[Listener(count)])
    assert alive[50] == alive[400]
