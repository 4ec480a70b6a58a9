"""The loss of a support in parts is that of the whole, whatever its weights and padding, and holds less at a time."""

import pytest
import torch
from ciphers import Ciphers
from language_models import write_language_model

from quickstudy.backbones import MLP, CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.memory_watch import MemoryWatch
from quickstudy.core.optimisers import SGD
from quickstudy.core.types import Batch
from quickstudy.deltas import Full, LoRA
from quickstudy.learners.losses import support_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.text_tasks import EncodedTextTasks


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return CausalLM(str(write_language_model(tmp_path_factory.mktemp("base"), "llama")), max_tokens=32)


@pytest.mark.parametrize("rows", [1, 2, 4, 9])
def test_parts_of_a_writing_task_are_the_whole(base, rows):
    network = Network(base, LoRA(4, 8, base.linears))
    params = network.init(torch.Generator().manual_seed(0))
    support = EncodedTextTasks(Ciphers(shots=5, queries=1), base.batch).sample(torch.Generator().manual_seed(0)).support
    support = Batch(support.inputs, support.targets, torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0]))
    torch.testing.assert_close(support_loss(network, support, rows)(params), support_loss(network, support)(params))
    moved = [MAML(network, InnerLoop(2, SGD(0.1), order="first", rows=n)).adapt(params, support) for n in (rows, None)]
    for name, tensor in moved[0].tensors.items():
        torch.testing.assert_close(tensor, moved[1].tensors[name])


def test_parts_of_other_tasks_are_the_whole():
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0])
    for outputs, support in (
        (3, Batch(rows, torch.tensor([0, 1, 2, 1, 0]), weights, 3)),
        (1, Batch(rows, rows[:, :1], weights)),
    ):
        network = Network(MLP((3, 4)), Full(), outputs)
        params = network.init(torch.Generator().manual_seed(0))
        torch.testing.assert_close(support_loss(network, support, 2)(params), support_loss(network, support)(params))


def test_less_is_held_at_a_time(base):
    network = Network(base, LoRA(4, 8, base.linears))
    params = network.init(torch.Generator().manual_seed(0))
    tasks = EncodedTextTasks(Ciphers(shots=12, queries=1), base.batch)
    support = tasks.sample(torch.Generator().manual_seed(0)).support
    peaks = []
    for rows in (None, 2):
        learner = MAML(network, InnerLoop(1, order="first", rows=rows))
        learner.adapt(params, support)
        with MemoryWatch() as watch:
            learner.adapt(params, support)
        peaks.append(watch.peak)
    assert peaks[1] < 0.4 * peaks[0]
