"""In-context learning: what stands before a prompt, that queries do not see each other, and that it can be trained."""

from dataclasses import replace

import pytest
import torch
from ciphers import Ciphers

from quickstudy.backbones import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Adapter, Episode
from quickstudy.core.vectorise import mean_loss_and_gradients
from quickstudy.deltas import Full, Head, LoRA
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.network import Network
from quickstudy.learners.writing import write
from quickstudy.tasks.text_tasks import EncodedTextTasks
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

PAIRS = [("ab>", "bc"), ("cd>", "de"), ("abcd>", "bcde"), ("fgh>", "gha")]
WAYS = ["all", "nearest", "diverse"]


@pytest.fixture
def backbone(language_model):
    return CausalLM(language_model("llama"), max_tokens=60)


def encoded(backbone, pairs):
    return backbone.batch([prompt for prompt, _ in pairs], [completion for _, completion in pairs])


def logits(learner, backbone, support, query):
    adapter = learner.adapt({}, encoded(backbone, support))
    with torch.no_grad():
        return learner.predict({}, adapter, encoded(backbone, query).inputs).mean


@pytest.mark.parametrize("choose", WAYS)
def test_a_query_is_answered_as_one_text_with_the_demonstrations_before_it(backbone, choose):
    learner = Demonstrations(Network(backbone, Head()), choose, most=4)
    adapter = learner.adapt({}, encoded(backbone, PAIRS))
    query = [("abe>", "bcf"), ("h>", "a")]
    found = logits(learner, backbone, PAIRS, query)
    rows = encoded(backbone, query).inputs
    order = [[0, 1, 2, 3]] * 2 if choose == "all" else learner._order(adapter, rows).tolist()
    assert [sorted(row) for row in order] == [[0, 1, 2, 3]] * 2
    for number, (prompt, completion) in enumerate(query):
        written = [PAIRS[place] for place in order[number]]
        tokens = [token for before, after in written for token in alone(backbone, before, after)]
        whole = [*tokens, *alone(backbone, prompt, completion)]
        asked = torch.arange(len(completion) + 1) + len(whole) - len(completion) - 1
        row = {
            "input_ids": torch.tensor([whole]),
            "segments": torch.ones(1, len(whole), dtype=torch.int64),
            "asked": asked[None],
        }
        with torch.no_grad():
            expected = learner.network({}, row)[0]
        torch.testing.assert_close(found[number, : len(expected)], expected, atol=1e-4, rtol=1e-4)


def alone(backbone, prompt, completion):
    row = backbone.batch([prompt], [completion]).inputs
    return row["input_ids"][0].tolist()


@pytest.mark.parametrize("choose", WAYS)
def test_a_query_sees_no_other_query_and_no_padding(backbone, choose):
    learner = Demonstrations(Network(backbone, Head()), choose, most=2)
    query = [("abe>", "bcf"), ("h>", "a"), ("bad>", "cbe")]
    together = logits(learner, backbone, PAIRS, query)
    for number, pair in enumerate(query):
        found = logits(learner, backbone, PAIRS, [pair])[0]
        torch.testing.assert_close(together[number, : len(found)], found, atol=1e-4, rtol=1e-4)


def test_the_nearest_share_tokens_and_stand_last(backbone):
    support = encoded(backbone, [("aaaa>", "b"), ("cccc>", "b"), ("abab>", "b"), ("dddd>", "b")])
    learner = Demonstrations(Network(backbone, Head()), "nearest", most=3)
    order = learner._order(learner.adapt({}, support), backbone.begin(["aaa>"]))
    assert order[0].tolist()[1:] == [2, 0]


def test_diverse_ones_are_unlike_each_other(backbone):
    support = encoded(backbone, [("aabb>", "b"), ("aabb>", "b"), ("aaab>", "b"), ("ccdd>", "b")])
    orders = {
        choose: Demonstrations(Network(backbone, Head()), choose, most=2)
        ._order(learner_adapter(backbone, support), backbone.begin(["aabbc>"]))[0]
        .tolist()
        for choose in ("nearest", "diverse")
    }
    assert sorted(orders["nearest"]) == [0, 1]
    assert orders["diverse"][-1] in (0, 1)
    assert orders["diverse"][0] == 3


def learner_adapter(backbone, support):
    return Demonstrations(Network(backbone, Head())).adapt({}, support)


def test_a_completion_has_no_say_in_the_choice(backbone):
    learner = Demonstrations(Network(backbone, Head()), "nearest", most=1)
    adapter = learner.adapt({}, encoded(backbone, [("aa>", "x"), ("bb>", "x")]))
    orders = [learner._order(adapter, encoded(backbone, [("a>", text)]).inputs) for text in ("a", "bbbb")]
    assert orders[0].tolist() == orders[1].tolist() == [[0]]


@pytest.mark.parametrize(("choose", "along"), [*((choose, False) for choose in WAYS), ("all", True)])
def test_stacked_tasks_of_other_lengths_give_the_loss_of_each_alone(backbone, choose, along):
    learner = Demonstrations(Network(backbone, LoRA(2, 4, ("q_proj",))), choose, most=2, along=along)
    params = learner.init(torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1)
    episodes = [EncodedTextTasks(Ciphers(), backbone.batch).sample(draws) for _ in range(3)]
    found, _ = mean_loss_and_gradients(learner.loss, params, stack_episodes(episodes), "vmap")
    alone = torch.stack([learner.loss(params, episode).detach() for episode in episodes])
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_along_counts_each_completion_after_the_examples_before_it(backbone):
    learner = Demonstrations(Network(backbone, Head()))
    query = [("h>", "a"), ("bad>", "cbe")]
    parts = [(PAIRS[:number], [PAIRS[number]]) for number in range(1, len(PAIRS))] + [(PAIRS, query)]
    total, tokens = 0.0, 0
    first = encoded(backbone, PAIRS[:1])
    with torch.no_grad():
        losses = [(weighted_loss(learner.network({}, first.inputs), first), PAIRS[:1])]
        losses += [
            (learner.loss({}, Episode(encoded(backbone, before), encoded(backbone, after))), after)
            for before, after in parts
        ]
        for loss, pairs in losses:
            count = sum(len(completion) + 1 for _, completion in pairs)
            total, tokens = total + float(loss) * count, tokens + count
        episode = Episode(encoded(backbone, PAIRS), encoded(backbone, query))
        found = replace(learner, along=True).loss({}, episode)
    assert float(found) == pytest.approx(total / tokens, rel=1e-5)


@pytest.mark.parametrize("choose", WAYS)
def test_it_writes_what_the_demonstrations_lead_to(backbone, choose):
    learner = Demonstrations(Network(backbone, Head()), choose, most=2)
    prompts = ["abe>", "h>", "bad>"]
    adapters = [learner.adapt({}, encoded(backbone, pairs)) for pairs in (PAIRS, PAIRS[2:])]
    texts = [write(learner, {}, adapter, prompts, most=8) for adapter in adapters]
    assert texts[0] == [write(learner, {}, adapters[0], [prompt], most=8)[0] for prompt in prompts]
    assert texts[0] != texts[1]


def test_meta_training_lowers_the_loss_with_demonstrations(backbone):
    learner = Demonstrations(Network(backbone, Full()))
    tasks = EncodedTextTasks(Ciphers(longest=2), backbone.batch)
    fitted = fit(learner, tasks, FitOptions(30, 4, lr=3e-3, mode="loop", clip=1.0, progress=False))
    losses = [row["loss"] for row in fitted.history]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_demonstrations_that_leave_no_room_are_refused(language_model):
    backbone = CausalLM(language_model("llama"), max_tokens=30)
    learner = Demonstrations(Network(backbone, Head()))
    adapter = learner.adapt({}, encoded(backbone, PAIRS))
    with pytest.raises(InputError, match="5 tokens too long"):
        write(learner, {}, adapter, ["abc>"])
    shorter = learner.adapt({}, encoded(backbone, PAIRS[:3]))
    assert len(write(learner, {}, shorter, ["a>"], most=500)[0]) <= 6


def test_bad_settings_and_learners_without_a_language_model_are_refused(backbone):
    for wrong in ({"choose": "best"}, {"most": 0}, {"variety": 2.0}, {"choose": "nearest", "along": True}):
        with pytest.raises(ValueError, match="give"):
            Demonstrations(Network(backbone, Head()), **wrong)
    with pytest.raises(InputError, match="no language model"):
        write(ProtoNet(None), {}, Adapter({}, "protonet"), ["a"])
