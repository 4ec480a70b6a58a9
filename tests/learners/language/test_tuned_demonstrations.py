"""Tuning on examples that are read in context: what is learned from, what is kept, and that it helps."""

import pytest
import torch
from ciphers import Ciphers
from stacked_tasks import assert_stacked_are_as_alone

from quickstudy.backbones import CausalLM
from quickstudy.core import SGD, Adam, InnerLoop
from quickstudy.core.types import Batch, Episode
from quickstudy.deltas import Head, LoRA
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.in_context.tuned_demonstrations import TunedDemonstrations, _reordered
from quickstudy.learners.losses import query_loss, text_loss, weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.writing import write
from quickstudy.tasks.text_tasks import EncodedTextTasks

PAIRS = [("ab>", "bc"), ("cd>", "de"), ("abcd>", "bcde"), ("fgh>", "gha")]
QUERY = [("h>", "a"), ("bad>", "cbe")]


@pytest.fixture
def backbone(language_model):
    return CausalLM(language_model("llama"), max_tokens=120)


@pytest.fixture
def network(backbone):
    return Network(backbone, LoRA(4, 8, backbone.linears))


def encoded(backbone, pairs):
    return backbone.batch([prompt for prompt, _ in pairs], [completion for _, completion in pairs])


def start(network):
    """Matrices that change something."""
    params = network.init(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    return {name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) for name, tensor in params.items()}


def test_without_a_step_it_reads_the_examples_as_demonstrations_do(backbone, network):
    params, support, query = start(network), encoded(backbone, PAIRS), encoded(backbone, QUERY)
    learners = TunedDemonstrations(network, InnerLoop(0)), Demonstrations(network)
    found = [each.predict(params, each.adapt(params, support), query.inputs).mean for each in learners]
    assert torch.equal(*found)
    texts = [write(each, params, each.adapt(params, support), ["h>", "bad>"], most=6) for each in learners]
    assert texts[0] == texts[1]


def test_a_text_counts_each_completion_after_the_examples_before_it(backbone, network):
    params = start(network)
    total, tokens = 0.0, 0
    for number, pair in enumerate(PAIRS):
        asked = encoded(backbone, [pair])
        if number:
            loss = Demonstrations(network).loss(params, Episode(encoded(backbone, PAIRS[:number]), asked))
        else:
            loss = weighted_loss(network(params, asked.inputs), asked)
        total, tokens = total + float(loss) * (len(pair[1]) + 1), tokens + len(pair[1]) + 1
    assert float(text_loss(network, params, encoded(backbone, PAIRS))) == pytest.approx(total / tokens, rel=1e-5)


def test_a_step_is_one_of_descent_on_that_text(backbone, network):
    params, support = start(network), encoded(backbone, PAIRS)
    gradients = torch.func.grad(lambda current: text_loss(network, current, support))(params)
    adapter = TunedDemonstrations(network, InnerLoop(1, SGD(0.1), order="first")).adapt(params, support)
    for name, gradient in gradients.items():
        torch.testing.assert_close(adapter.tensors[name], params[name] - 0.1 * gradient, atol=1e-6, rtol=1e-4)


def test_each_step_has_an_order_of_its_own_and_padding_changes_none(backbone):
    support = encoded(backbone, PAIRS)
    first = [tuple(_reordered(support, step).inputs["input_ids"][:, 0].tolist()) for step in range(12)]
    assert first[0] == tuple(support.inputs["input_ids"][:, 0].tolist())
    assert len(set(first)) > 4
    padded = Batch(
        {name: torch.cat([tensor, torch.zeros_like(tensor)]) for name, tensor in support.inputs.items()},
        torch.cat([support.targets, torch.zeros_like(support.targets)]),
        torch.cat([support.weights, torch.zeros(4)]),
    )
    for step in range(6):
        found = _reordered(padded, step)
        kept = found.inputs["input_ids"][found.weights > 0]
        assert torch.equal(kept, _reordered(support, step).inputs["input_ids"])


def test_stacked_tasks_of_other_lengths_give_the_loss_of_each_alone(backbone, network):
    learner = TunedDemonstrations(network, InnerLoop(2, SGD(0.1), order="first"))
    params, draws = start(network), torch.Generator().manual_seed(1)
    episodes = [EncodedTextTasks(Ciphers(shots=shots), backbone.batch).sample(draws) for shots in (2, 4)]
    assert_stacked_are_as_alone(learner, params, episodes)


def test_tuning_lowers_the_loss_of_queries_and_what_is_written_is_what_was_predicted(backbone, network):
    draws = torch.Generator().manual_seed(3)
    tasks, source = EncodedTextTasks(Ciphers(8, 8), backbone.batch), Ciphers(8, 8)
    params = network.init(torch.Generator().manual_seed(0))
    learner = TunedDemonstrations(network, InnerLoop(40, Adam(0.005), clip=1.0, order="first"))
    task = source.draw(draws)
    episode = tasks.episode(task)
    with torch.no_grad():
        plain = query_loss(Demonstrations(Network(backbone, Head())), {}, episode)
        adapter = learner.adapt(params, episode.support)
        logits = learner.predict(params, adapter, episode.query.inputs).mean
        assert query_loss(learner, params, episode) < 0.7 * plain
    written = write(learner, params, adapter, [pair.prompt for pair in task.query], most=1)
    first = encoded(backbone, [(pair.prompt, text) for pair, text in zip(task.query, written, strict=True)])
    assert torch.equal(logits[:, 0].argmax(-1), first.targets[:, 0])
