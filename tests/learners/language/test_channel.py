"""MetaICL's two objectives: which side of an example is asked for, and choosing a completion by either."""

from dataclasses import dataclass, replace

import pytest
import torch
from ciphers import Ciphers

from quickstudy.backbones import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.types import Episode
from quickstudy.deltas import Full, Head, LoRA
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.writing import choose, log_probabilities, write
from quickstudy.tasks.text_tasks import EncodedTextTasks, Pair, TextTask, TextTaskSource
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

PAIRS = [("ab>", "bc"), ("cd>", "de"), ("abcd>", "bcde")]
OBJECTIVES = ["direct", "channel"]
FROM = "abc"
TO = ("x", "yy", "zzz")


@dataclass(frozen=True)
class Sides(TextTaskSource):
    """A text of one of three letters, and which one it is in other letters."""

    def draw(self, generator):
        pairs = {}
        while len(pairs) < 6:
            number = int(torch.randint(3, (), generator=generator))
            pairs[FROM[number] * int(torch.randint(1, 6, (), generator=generator))] = TO[number]
        found = tuple(Pair(prompt, completion) for prompt, completion in pairs.items())
        return TextTask("sides", "", found[:3], found[3:])


@pytest.fixture(params=OBJECTIVES)
def backbone(request, language_model):
    return CausalLM(language_model("llama"), max_tokens=60, between="=", objective=request.param)


def encoded(backbone, pairs):
    return backbone.batch([prompt for prompt, _ in pairs], [completion for _, completion in pairs])


def by_hand(backbone, demonstrations, prompt, completion):
    """Log-probabilities of each token of the side that is asked for, and its end, from one plain text of tokens."""
    plain = replace(backbone, objective="direct")
    sides = [(x, y) if backbone.objective == "direct" else (y, x) for x, y in [*demonstrations, (prompt, completion)]]
    tokens = []
    for first, second in sides:
        tokens += [*plain.begun([first])[0], *plain.begun([second])[0][:-1], backbone.end]
    count = len(plain.begun([sides[-1][1]])[0])
    ids = torch.tensor([tokens])
    places = torch.arange(len(tokens) - count, len(tokens))[None]
    row = {"input_ids": ids, "segments": torch.ones_like(ids), "asked": places}
    with torch.no_grad():
        logits = Network(backbone, Head())({}, row)[0]
    return torch.log_softmax(logits, -1).gather(1, ids[0, -count:, None])[:, 0]


def test_the_loss_and_the_scores_are_those_of_texts_put_together_by_hand(backbone):
    learner = Demonstrations(Network(backbone, Head()))
    query = [("abe", "bcf"), ("h", "a"), ("bad", "cbe")]
    episode = Episode(encoded(backbone, PAIRS), encoded(backbone, query))
    tokens = [by_hand(backbone, PAIRS, *pair) for pair in query]
    assert float(learner.loss({}, episode)) == pytest.approx(-float(torch.cat(tokens).mean()), rel=1e-5)
    adapter = learner.adapt({}, episode.support)
    found = log_probabilities(learner, {}, adapter, *zip(*query, strict=True))
    torch.testing.assert_close(found, torch.stack([each.sum() for each in tokens]), atol=1e-4, rtol=1e-5)
    for prompt in ("abe", "h"):
        options = ["bcf", "a", "gggg"]
        scored = [float(by_hand(backbone, PAIRS, prompt, option).sum()) for option in options]
        assert choose(learner, {}, adapter, [prompt], options) == [options[scored.index(max(scored))]]


def test_the_two_objectives_ask_for_different_sides(language_model):
    direct = CausalLM(language_model("llama"), between="=")
    channel = replace(direct, objective="channel")
    one, other = direct.batch(["ab"], ["xyz"]), channel.batch(["xyz"], ["ab"])
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.inputs["input_ids"], other.inputs["input_ids"])
    assert not torch.equal(one.targets, channel.batch(["ab"], ["xyz"]).targets)


def test_a_likely_choice_with_either_objective_after_meta_training(backbone):
    tasks = EncodedTextTasks(Sides(), backbone.batch)
    learner = Demonstrations(Network(backbone, Full()))
    fitted = fit(learner, tasks, FitOptions(60, 4, lr=5e-3, mode="loop", clip=1.0, progress=False))
    draws, right, before, total = torch.Generator().manual_seed(7), 0, 0, 0
    start = learner.init(torch.Generator().manual_seed(0))
    for _ in range(12):
        task = Sides().draw(draws)
        prompts, wanted = zip(*((pair.prompt, pair.completion) for pair in task.query), strict=True)
        support = encoded(backbone, [(pair.prompt, pair.completion) for pair in task.support])
        for params in (fitted.params, start):
            found = choose(learner, params, learner.adapt(params, support), prompts, TO)
            hits = sum(one == other for one, other in zip(found, wanted, strict=True))
            right, before = (right + hits, before) if params is fitted.params else (right, before + hits)
        total += len(prompts)
    assert right >= 0.9 * total > total / 2 > before


@pytest.mark.parametrize("select", ["nearest", "diverse"])
def test_the_nearest_are_chosen_by_prompts_with_either_objective(select, backbone):
    learner = Demonstrations(Network(backbone, Head()), select, most=1)
    adapter = learner.adapt({}, encoded(backbone, [("aa", "x"), ("bb", "y"), ("cc", "x")]))
    for prompt, expected in (("aab", 0), ("bba", 1), ("c", 2)):
        for completion in ("x", "y"):
            rows = encoded(backbone, [(prompt, completion)]).inputs
            assert learner._order(adapter, rows).tolist() == [[expected]]


def test_other_learners_score_and_choose_too(backbone):
    learner = MAML(Network(backbone, LoRA(2, 4, ("q_proj", "v_proj"))))
    params = learner.init(torch.Generator().manual_seed(0))
    adapter = learner.adapt(params, EncodedTextTasks(Ciphers(), backbone.batch).sample(torch.Generator()).support)
    still = log_probabilities(learner, params, replace(adapter, tensors={}), ["ab"], ["bc"])
    assert float(still) == pytest.approx(float(by_hand(backbone, [], "ab", "bc").sum()), rel=1e-4)
    assert log_probabilities(learner, params, adapter, ["ab"], ["bc"]) != still
    assert choose(learner, params, adapter, ["ab", "cd"], ["bc"]) == ["bc", "bc"]


def test_bad_input_has_a_clear_error(language_model):
    channel = CausalLM(language_model("llama"), max_tokens=10, objective="channel")
    learner = Demonstrations(Network(channel, Head()))
    adapter = learner.adapt({}, encoded(channel, [("a", "b")]))
    with pytest.raises(InputError, match="writes nothing; `choose`"):
        write(learner, {}, adapter, ["a"])
    with pytest.raises(InputError, match="what is asked for has 13 tokens"):
        channel.batch(["abcdefghijkl"], ["a"])
    with pytest.raises(InputError, match="no candidates"):
        choose(learner, {}, adapter, ["a"], [])
    with pytest.raises(InputError, match="no language model"):
        choose(ProtoNet(None), {}, adapter, ["a"], ["b"])
    with pytest.raises(ValueError, match="objective is 'both'"):
        CausalLM(language_model("llama"), objective="both").batch(["a"], ["b"])
