"""NTM, DNC and MANN pass the public checks, and write, carry on and tell one row late as they say."""

from dataclasses import replace

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.backbones.memory import DNCCell, LRUCell, LSTMCell, NTMCell
from quickstudy.core import Batch
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full
from quickstudy.learners import Network, learner_class
from quickstudy.learners import conformance as checks
from quickstudy.learners.memory.dnc import DNC
from quickstudy.learners.memory.mann import MANN
from quickstudy.learners.memory.ntm import NTM
from quickstudy.learners.sequences import ask_rows, tell_rows
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.copying import Copying
from quickstudy.training.options import FitOptions

WAYS = 3
BLOBS = GaussianBlobs(ways=WAYS, shots=(2, 4), queries=2, width=4, spread=2.0)
BITS = Copying((1, 4), 3)
BODY = Network(MLP((4, 5)), Full())

LEARNERS = {
    "ntm": NTM(NTMCell(4 + WAYS + 1, WAYS, rows=8, columns=5, hidden=9)),
    "ntm, lstm, two heads, network": NTM(
        NTMCell(5 + WAYS + 1, WAYS, rows=8, columns=5, hidden=9, heads=2, controller="lstm"), BODY
    ),
    "lstm": NTM(LSTMCell(4 + WAYS + 1, WAYS, 9)),
    "dnc": DNC(DNCCell(4 + WAYS + 1, WAYS, rows=8, columns=5, hidden=9)),
    "dnc, feedforward, network": DNC(
        DNCCell(5 + WAYS + 1, WAYS, rows=8, columns=5, hidden=9, reads=1, controller="feedforward"), BODY
    ),
    "mann": MANN(LRUCell(4 + WAYS, WAYS, rows=9, columns=5, hidden=9, heads=2)),
    "mann, network": MANN(LRUCell(5 + WAYS, WAYS, rows=9, columns=5, hidden=9, heads=1), BODY),
    "lstm, told late": MANN(LSTMCell(4 + WAYS, WAYS, 9)),
}
BITWISE = {
    "ntm": NTM(NTMCell(1 + 3 + 1, 3, rows=8, columns=5, hidden=9), bits=True),
    "dnc": DNC(DNCCell(1 + 3 + 1, 3, rows=8, columns=5, hidden=9), bits=True),
    "mann": MANN(LRUCell(1 + 3, 3, rows=9, columns=5, hidden=9, heads=2)),
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_classes(learner, check):
    check(learner, BLOBS)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", BITWISE.values(), ids=BITWISE)
def test_bits(learner, check):
    check(learner, BITS)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_rows_of_weight_0_in_between_change_nothing(learner):
    episode = BLOBS.sample(torch.Generator().manual_seed(0))
    params = learner.init(torch.Generator().manual_seed(0))
    rows = torch.tensor([0, 1, 0, 2, 3, 0, 4, 5])
    kept = torch.tensor([1.0, 1, 0, 1, 1, 0, 1, 1])
    plain = take(episode.support, torch.arange(6))
    gaps = replace(take(episode.support, rows), weights=kept)
    answers = [
        learner.predict(params, learner.adapt(params, part), episode.query.inputs).mean for part in (plain, gaps)
    ]
    torch.testing.assert_close(*answers)


def take(batch, rows):
    return Batch(batch.inputs[rows], batch.targets[rows], batch.weights[rows], batch.ways)


def test_the_order_of_writing_and_of_asking_matters_where_it_is_declared():
    episode = BITS.sample(torch.Generator().manual_seed(1))
    query = torch.rand(4, 1, generator=torch.Generator().manual_seed(2))
    for learner in (BITWISE["ntm"], BITWISE["dnc"]):
        params = learner.init(torch.Generator().manual_seed(0))
        adapter = learner.adapt(params, episode.support)
        together = learner.predict(params, adapter, query).mean
        alone = torch.cat([learner.predict(params, adapter, row[None]).mean for row in query])
        torch.testing.assert_close(together[0], alone[0])
        assert not torch.allclose(together[1:], alone[1:])
        turned = learner.adapt(params, take(episode.support, torch.arange(3, -1, -1)))
        assert not torch.allclose(learner.predict(params, turned, query).mean, together)


def test_no_answer_knows_the_target_of_its_own_row():
    """Another target of row 2 changes the answers from row 3 on and no earlier one."""
    learner = LEARNERS["mann"]
    params = learner.init(torch.Generator().manual_seed(0))
    support = take(BLOBS.sample(torch.Generator().manual_seed(0)).support, torch.arange(6))
    targets = support.targets.clone()
    targets[2] = (targets[2] + 1) % WAYS
    one, _ = tell_rows(learner.cell, None, params, support)
    other, _ = tell_rows(learner.cell, None, params, replace(support, targets=targets))
    assert torch.equal(one[:3], other[:3])
    assert (one[3:] != other[3:]).any(1).all()


def test_a_query_is_answered_as_the_next_row_of_the_sequence_would_be():
    learner = LEARNERS["mann"]
    params = learner.init(torch.Generator().manual_seed(0))
    support = take(BLOBS.sample(torch.Generator().manual_seed(0)).support, torch.arange(6))
    along, _ = tell_rows(learner.cell, None, params, support)
    _, state = tell_rows(learner.cell, None, params, take(support, torch.arange(5)))
    torch.testing.assert_close(ask_rows(learner.cell, None, params, state, support.inputs[5:])[0], along[5])


def test_adapters_hold_the_memory_and_no_gradient_is_taken():
    episode = BLOBS.sample(torch.Generator().manual_seed(0))
    wanted = {"ntm": {"memory", "weights"}, "dnc": {"memory", "usage", "link"}, "mann": {"memory", "usage", "told"}}
    for name, tensors in wanted.items():
        learner = LEARNERS[name]
        with torch.inference_mode():
            adapter = learner.adapt(learner.init(torch.Generator().manual_seed(0)), episode.support)
        assert tensors <= set(adapter.tensors)
        assert adapter.learner == name
        assert learner_class(name) is type(learner)


def test_tasks_that_do_not_fit_are_refused(points):
    learner = LEARNERS["ntm"]
    params = learner.init(torch.Generator().manual_seed(0))
    with pytest.raises(TaskError, match="5 classes, the cell has 3 outputs"):
        learner.adapt(params, points(ways=5))
    with pytest.raises(TaskError, match="is 6 wide and the cell reads 8; make a cell of inputs=6"):
        learner.adapt(params, points(width=2))
    with pytest.raises(TaskError, match="targets are 2 wide, the cell has 3 outputs"):
        learner.adapt(params, Batch(torch.zeros(3, 4), torch.zeros(3, 2), torch.ones(3)))
    with pytest.raises(TaskError, match="the inputs are named"):
        learner.adapt(params, Batch({"ids": torch.zeros(3, 4)}, torch.zeros(3).long(), torch.ones(3), 3))


@pytest.mark.parametrize("name", ["ntm", "dnc", "mann"])
def test_learns_blobs(name):
    tasks = GaussianBlobs(ways=2, shots=2, queries=2, width=2, spread=3.0)
    cells = {
        "ntm": NTMCell(2 + 2 + 1, 2, rows=8, columns=8, hidden=32),
        "dnc": DNCCell(2 + 2 + 1, 2, rows=8, columns=8, hidden=32, reads=1),
        "mann": LRUCell(2 + 2, 2, rows=8, columns=8, hidden=32, heads=1),
    }
    options = FitOptions(steps=80, tasks_per_step=32, lr=1e-2, clip=1.0, mode="vmap", progress=False)
    checks.check_learns(learner_class(name)(cells[name]), tasks, options)
