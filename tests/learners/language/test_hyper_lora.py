"""A hypernetwork that writes LoRA: it learns to, what it writes is ordinary LoRA, and notes tell it the task."""

from dataclasses import dataclass, replace

import pytest
import torch
from ciphers import Ciphers

from quickstudy.backbones import MLP, CausalLM
from quickstudy.core.errors import TaskError
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Batch, Episode
from quickstudy.core.vectorise import mean_loss_and_gradients
from quickstudy.deltas import Full, LoRA
from quickstudy.learners.blackbox.hyper_lora import HyperLoRA
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.transformer import Transformer
from quickstudy.learners.writing import write
from quickstudy.tasks.text_tasks import EncodedTextTasks
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

SMALL = Transformer(16, 1, 2, 32)
DELTA = LoRA(2, 4, ("q_proj", "up_proj", "down_proj"))
READS = ["examples", "notes", "both"]


@pytest.fixture
def backbone(language_model):
    return CausalLM(language_model("llama"), max_tokens=60)


def learner(backbone, reads="both", **options):
    return HyperLoRA(Network(backbone, DELTA), reads, SMALL, **options)


def noisy(learner, seed=1):
    generator = torch.Generator().manual_seed(seed)
    start = learner.init(torch.Generator().manual_seed(0))
    return {name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator) for name, tensor in start.items()}


def drawn(backbone, count=1, seed=2):
    generator = torch.Generator().manual_seed(seed)
    tasks = EncodedTextTasks(Ciphers(), backbone.batch, describe=True)
    return [tasks.sample(generator) for _ in range(count)]


def adapted(learner, params, support):
    return learner.adapt(params, support).tensors


def same(one, other, tolerance=1e-5):
    return all(torch.allclose(one[name], other[name], atol=tolerance) for name in one)


def test_what_is_written_is_lora_of_the_network_and_little_at_first(backbone):
    found, episode = learner(backbone), drawn(backbone)[0]
    start = found.init(torch.Generator().manual_seed(0))
    network = found.network.init(torch.Generator().manual_seed(0))
    written = adapted(found, start, episode.support)
    assert {name: tensor.shape for name, tensor in written.items()} == {n: t.shape for n, t in network.items()}
    assert all(float((written[name] - network[name]).abs().max()) < 0.3 for name in network)
    assert not same(written, network, 1e-4)


@pytest.mark.parametrize("reads", READS)
def test_the_order_of_the_support_changes_nothing_and_what_is_not_read_neither(backbone, reads):
    found, episode = learner(backbone, reads), drawn(backbone)[0]
    params, support = noisy(found), episode.support
    written = adapted(found, params, support)
    rows = torch.tensor([2, 0, 4, 1, 3])
    inputs = {name: tensor[rows] for name, tensor in support.inputs.items()}
    assert same(written, adapted(found, params, replace(support, inputs=inputs, targets=support.targets[rows])))
    examples, note = slice(0, 4), slice(4, 5)
    for part, matters in ((examples, reads != "notes"), (note, reads != "examples")):
        ids = support.inputs["input_ids"].clone()
        ids[part] = torch.where(ids[part] > 2, 3 + (ids[part] - 2) % 20, ids[part])
        other = replace(support, inputs={**support.inputs, "input_ids": ids})
        assert same(written, adapted(found, params, other), 1e-4) != matters


def test_rows_of_weight_0_and_padding_change_nothing(backbone):
    found, episode = learner(backbone), drawn(backbone)[0]
    params, support = noisy(found), episode.support
    wider = {name: torch.nn.functional.pad(tensor, (0, 3, 0, 2)) for name, tensor in support.inputs.items()}
    wider["input_ids"][-2:] = 7
    wider["segments"][-2:] = 1
    targets = torch.nn.functional.pad(support.targets, (0, 3, 0, 2))
    weights = torch.nn.functional.pad(support.weights, (0, 2))
    assert same(adapted(found, params, support), adapted(found, params, Batch(wider, targets, weights)))


def test_stacked_tasks_give_the_loss_of_each_alone(backbone):
    found, episodes = learner(backbone, sparsity=0.1), drawn(backbone, 3)
    params = noisy(found)
    losses, _ = mean_loss_and_gradients(found.loss, params, stack_episodes(episodes), "vmap")
    alone = torch.stack([found.loss(params, episode).detach() for episode in episodes])
    torch.testing.assert_close(losses, alone, atol=1e-4, rtol=1e-4)


def test_a_closed_gate_takes_its_rank_away_and_is_cheaper(backbone):
    found, episode = learner(backbone, sparsity=1.0), drawn(backbone)[0]
    params = noisy(found)
    network = {name: tensor for name, tensor in params.items() if not name.startswith("hyper.")}
    zero = {name: torch.zeros_like(tensor) if name.endswith("lora_B") else tensor for name, tensor in network.items()}
    closed = {**params, **zero, "hyper.gate": 0 * params["hyper.gate"], "hyper.gate_bias": torch.tensor(-30.0)}
    written = adapted(found, closed, episode.support)
    assert all(float(tensor.abs().max()) < 1e-6 for name, tensor in written.items() if name.endswith("lora_B"))
    opened = {**closed, "hyper.gate_bias": torch.tensor(30.0)}
    free = replace(found, sparsity=0.0)
    assert float(found.loss(closed, episode)) == pytest.approx(float(free.loss(closed, episode)), abs=1e-4)
    assert float(found.loss(opened, episode)) == pytest.approx(1 + float(free.loss(opened, episode)), abs=1e-3)


def test_gradient_steps_from_what_was_written_lower_the_loss_on_the_support(backbone):
    still, moving = learner(backbone), learner(backbone, inner=InnerLoop(5, SGD(0.1)))
    params, support = noisy(still, 3), drawn(backbone)[0].support
    losses = [
        float(weighted_loss(each.predict(params, each.adapt(params, support), support.inputs).mean, support))
        for each in (still, moving)
    ]
    assert losses[1] < losses[0] - 0.05


@dataclass(frozen=True)
class TwoTasks(Ciphers):
    """The task is told by the note alone, or by the examples."""

    def draw(self, generator):
        while (task := super().draw(generator)).description not in {"shift 1", "shift 5"}:
            pass
        return replace(task, description={"shift 1": "one", "shift 5": "other"}[task.description])


@pytest.mark.parametrize("reads", ["examples", "notes"])
def test_it_learns_to_write_for_a_task_and_needs_to_know_which(backbone, reads):
    network = Network(backbone, LoRA(4, 16, ("q_proj", "v_proj", "up_proj", "down_proj")))
    found = HyperLoRA(network, reads, Transformer(32, 2, 2, 64))
    tasks = EncodedTextTasks(TwoTasks(longest=1, shots=3, queries=3), backbone.batch, describe=True)
    options = FitOptions(120, 8, lr=3e-3, mode="vmap", clip=1.0, schedule="cosine", progress=False)
    params = fit(found, tasks, options).params
    generator, right, wrong = torch.Generator().manual_seed(9), [], []
    episodes = [tasks.sample(generator) for _ in range(16)]
    for episode in episodes:
        other = next(each for each in episodes if each.task != episode.task)
        for support, losses in ((episode.support, right), (other.support, wrong)):
            losses.append(float(found.loss(params, Episode(support, episode.query))))
    assert sum(right) < 0.6 * sum(wrong)


def test_it_writes_text_with_what_it_wrote(backbone):
    found, episodes = learner(backbone), drawn(backbone, 2)
    params = {name: 3 * tensor for name, tensor in noisy(found).items()}
    texts = [write(found, params, found.adapt(params, each.support), ["abc>", "h>"], 8) for each in episodes]
    assert texts[0] != texts[1]


def test_bad_settings_are_refused(backbone):
    for wrong in ({"reads": "tea"}, {"sparsity": -1.0}):
        with pytest.raises(ValueError, match="give"):
            learner(backbone, **wrong)
    with pytest.raises(ValueError, match="writes LoRA"):
        HyperLoRA(Network(backbone, Full()))
    with pytest.raises(TaskError, match="language model"):
        HyperLoRA(Network(MLP((4, 4)), LoRA(2, 4, ("0",)))).init(torch.Generator())
