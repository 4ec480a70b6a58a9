"""Scores of known learners; nothing changes, nothing grows."""

import gc
import statistics
import time
from dataclasses import dataclass

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Adapter, InnerLoop, Prediction
from quickstudy.core.stacking import stack_episodes
from quickstudy.deltas import Full
from quickstudy.evaluation import evaluate
from quickstudy.evaluation.intervals import interval
from quickstudy.evaluation.protocol import query_score, query_scores
from quickstudy.learners import Learner, Network
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids

BLOBS = GaussianBlobs(ways=3, shots=(1, 4), queries=(3, 6), width=4)
PROTONET = ProtoNet(Network(MLP((4, 8)), Full()))
MODES = ["auto", "vmap", "chunks", "loop", "threads"]


@dataclass(frozen=True)
class Always(Learner):
    """Answers with the first class, or with nought; adapting takes a while."""

    name = "always"

    seconds: float = 0.0

    def init(self, generator):
        return {}

    def loss(self, params, episode):
        return torch.zeros(())

    def adapt(self, params, support):
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        return Adapter({}, self.name, facts={"ways": support.ways})

    def predict(self, params, adapter, inputs):
        outputs = torch.zeros(len(inputs), adapter.facts["ways"] or 1)
        if adapter.facts["ways"]:
            outputs[:, 0] = 1.0
        return Prediction(outputs)


def start(learner):
    return learner.init(torch.Generator().manual_seed(0))


def drawn(tasks, episodes, seed):
    generator = torch.Generator().manual_seed(seed)
    return [tasks.sample(generator) for _ in range(episodes)]


@pytest.mark.parametrize("mode", MODES)
def test_accuracy_is_the_share_of_right_answers_without_padding(mode):
    scores = evaluate(Always(), {}, BLOBS, 70, seed=3, mode=mode)
    expected = [float((e.query.targets[e.query.weights > 0] == 0).float().mean()) for e in drawn(BLOBS, 70, seed=3)]
    assert scores.metric == "accuracy"
    assert scores.values.tolist() == pytest.approx(expected)
    assert scores.mean == pytest.approx(statistics.mean(expected))
    assert scores.ci95 == pytest.approx(1.96 * statistics.stdev(expected) / 70**0.5)
    assert scores.interval == interval(scores.values)


@pytest.mark.parametrize("mode", MODES)
def test_regression_is_scored_by_squared_error(mode):
    waves = Sinusoids()
    scores = evaluate(Always(), {}, waves, 5, seed=3, mode=mode)
    assert scores.metric == "mse"
    expected = [float(episode.query.targets.square().mean()) for episode in drawn(waves, 5, seed=3)]
    assert scores.values.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("sizes", "outputs", "tasks"), [((4, 8), 3, BLOBS), ((1, 8), 1, Sinusoids())])
def test_scores_of_a_stack_are_those_of_its_tasks(sizes, outputs, tasks):
    learner = MAML(Network(MLP(sizes), Full(), outputs), InnerLoop(1))
    params, episodes = start(learner), drawn(tasks, 9, seed=2)
    found = query_scores(learner, params, stack_episodes(episodes))
    torch.testing.assert_close(found, evaluate(learner, params, tasks, 9, seed=2).values)
    torch.testing.assert_close(found[4], query_score(learner, params, episodes[4]))


@pytest.mark.parametrize("mode", MODES[:3])
def test_modes_agree(mode):
    found, loop = (evaluate(PROTONET, start(PROTONET), BLOBS, 70, mode=each) for each in (mode, "loop"))
    torch.testing.assert_close(found.values, loop.values)


def test_the_seed_chooses_the_tasks():
    one, same, other = (evaluate(PROTONET, start(PROTONET), BLOBS, 20, seed=s, mode="vmap") for s in (1, 1, 2))
    assert torch.equal(one.values, same.values)
    assert not torch.equal(one.values, other.values)


def test_tasks_do_not_see_the_padded_classes_of_others():
    """A head that always likes class 4 is wrong where a task has 5 ways and cannot say so where it has 2."""
    learner = MAML(Network(MLP((4, 8)), Full(), 5), InnerLoop(0))
    params = start(learner)
    params["head.weight"] = torch.zeros(5, 8)
    params["head.bias"] = torch.tensor([0.0, 1.0, 0.0, 0.0, 9.0])

    class Mixed(GaussianBlobs):
        """Two ways, then five, and so on, without padding to the larger."""

        def sample(self, generator):
            ways = 2 + 3 * int(torch.randint(2, (), generator=generator))
            return GaussianBlobs(ways, 2, 4, 4).sample(generator)

    scores = evaluate(learner, params, Mixed(), 30, mode="vmap")
    expected = [0.5 if episode.query.ways == 2 else 0.2 for episode in drawn(Mixed(), 30, seed=0)]
    assert scores.values.tolist() == pytest.approx(expected)
    assert len(set(expected)) == 2


@pytest.mark.parametrize("mode", MODES)
def test_parameters_stay_to_the_bit_and_no_gradient_is_left(mode):
    learner = MAML(Network(MLP((4, 8)), Full(), 3), InnerLoop(2, SGD(0.5)))
    params = {name: tensor.requires_grad_() for name, tensor in start(learner).items()}
    before = {name: tensor.detach().clone() for name, tensor in params.items()}
    evaluate(learner, params, BLOBS, 20, mode=mode)
    assert all(torch.equal(params[name], before[name]) for name in before)
    assert all(tensor.grad is None for tensor in params.values())


@dataclass(frozen=True)
class Watched(TaskSource):
    """Sine waves that count, before every 64th, how many tensors there are."""

    counts: list

    def sample(self, generator):
        if len(self.counts) % 64 == 0:
            gc.collect()
            self.counts.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))
        else:
            self.counts.append(0)
        return Sinusoids().sample(generator)


@pytest.mark.parametrize("mode", ["vmap", "loop"])
def test_memory_does_not_grow_with_the_tasks(mode):
    learner = MAML(Network(MLP((1, 8)), Full(), 1), InnerLoop(2))
    params = {name: tensor.requires_grad_() for name, tensor in start(learner).items()}
    counts = []
    scores = evaluate(learner, params, Watched(counts), 260, mode=mode)
    assert max(counts[64:]) <= max(counts[64:128]) + 20
    assert not scores.values.requires_grad


def test_the_time_to_adapt_is_that_of_one_task():
    scores = evaluate(Always(seconds=0.01), {}, BLOBS, 4, mode="loop")
    assert scores.adapt_seconds_median >= 0.01


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="episodes is 0"):
        evaluate(Always(), {}, BLOBS, 0)
