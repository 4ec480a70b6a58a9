"""Encoder-decoders against transformers itself: logits, losses, generation, adapters, and learners on them."""

import pytest
import torch
from ciphers import Ciphers
from encoder_decoders import CONFIGS
from language_models import VOCABULARY
from loras import drawn_loras
from transformers import AutoModelForSeq2SeqLM

from quickstudy.backbones import Seq2SeqLM
from quickstudy.backbones import conformance as checks
from quickstudy.backbones.generation import generate
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.vectorise import mean_loss_and_gradients
from quickstudy.deltas.lora import LoRA, gather_adapters
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.writing import write
from quickstudy.tasks.text_tasks import EncodedTextTasks

PROMPTS, COMPLETIONS = ["abc", "defghijk", "q"], ["xyz", "pq", "rstuvw"]
END = VOCABULARY["</s>"]


def tokens(text):
    return [*(VOCABULARY[letter] for letter in text), END]


def theirs(folder):
    return AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_and_loss_are_those_of_the_model_alone(kind, encoder_decoder):
    backbone, model = Seq2SeqLM(encoder_decoder(kind)), theirs(encoder_decoder(kind))
    batch = backbone.batch(PROMPTS, COMPLETIONS)
    body, total = Functional(backbone.module), 0.0
    with torch.no_grad():
        found = body({}, batch.inputs)
        for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
            labels = torch.tensor([tokens(completion)])
            expected = model(input_ids=torch.tensor([tokens(prompt)]), labels=labels)
            torch.testing.assert_close(found[row, : labels.shape[1]], expected.logits[0], atol=1e-5, rtol=1e-5)
            total += float(expected.loss) * labels.numel()
    count = sum(len(tokens(completion)) for completion in COMPLETIONS)
    assert float(weighted_loss(found, batch)) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_generation_is_that_of_transformers(kind, encoder_decoder):
    backbone, model = Seq2SeqLM(encoder_decoder(kind)), theirs(encoder_decoder(kind))
    found = generate(backbone, Functional(backbone.module), {}, backbone.begin(PROMPTS), most=12)
    for prompt, text in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([tokens(prompt)])
        with torch.no_grad():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert text == backbone.text(whole[0, 1:].tolist())
    assert any(found)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, kind, encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder(kind))
    check(backbone, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize(("kind", "targets"), [("t5", ("q", "v", "wo")), ("bart", ("q_proj", "fc1"))])
def test_rows_of_different_adapters_are_written_as_each_alone(kind, targets, encoder_decoder):
    backbone, delta = Seq2SeqLM(encoder_decoder(kind)), LoRA(4, 8, targets)
    body = Functional(lambda: delta.attach(backbone.module()))
    adapters, stacked = drawn_loras(delta, body, 2)
    index = torch.tensor([1, 0, 1])
    together = generate(backbone, body, gather_adapters(stacked, index), backbone.begin(PROMPTS), 10)
    for row, number in enumerate(index.tolist()):
        assert generate(backbone, body, adapters[number], backbone.begin([PROMPTS[row]]), 10) == [together[row]]
    assert together != generate(backbone, body, {}, backbone.begin(PROMPTS), 10)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_learner_adapts_it_in_a_stack_as_alone_and_writes(kind, encoder_decoder):
    targets = ("q", "v") if kind == "t5" else ("q_proj", "v_proj")
    backbone = Seq2SeqLM(encoder_decoder(kind))
    learner = MAML(Network(backbone, LoRA(2, 4, targets)), InnerLoop(2, SGD(0.5)))
    params, draws = learner.init(torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    episodes = [EncodedTextTasks(Ciphers(), backbone.batch, describe=True).sample(draws) for _ in range(2)]
    losses, _ = mean_loss_and_gradients(learner.loss, params, stack_episodes(episodes), "vmap")
    alone = torch.stack([learner.loss(params, episode).detach() for episode in episodes])
    torch.testing.assert_close(losses, alone, atol=1e-4, rtol=1e-4)
    adapter = learner.adapt(params, episodes[0].support)
    before = weighted_loss(learner.network(params, episodes[0].support.inputs), episodes[0].support)
    after = learner.predict(params, adapter, episodes[0].support.inputs).mean
    assert float(weighted_loss(after, episodes[0].support)) < float(before)
    assert len(write(learner, params, adapter, ["abc>"], 6)) == 1


def test_bad_input_has_a_clear_error(encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder("t5"), max_tokens=4)
    with pytest.raises(NotAvailable, match="pack=False"):
        backbone.batch(["a"], ["b"], pack=True)
    with pytest.raises(InputError, match="max_tokens is 4"):
        backbone.batch(["a"], ["abcde"])
    with pytest.raises(InputError, match="at least one"):
        backbone.begin([])
    with pytest.warns(UserWarning, match="1 of 2 prompts"):
        backbone.batch(["abcdefgh", "a"], ["b", "c"])
    with pytest.raises(NotAvailable, match="no encoder-decoder"):
        Seq2SeqLM("no-such-folder").module()
