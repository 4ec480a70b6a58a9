"""Prompts before what an encoder reads and prefixes before what its decoder writes; PEFT's folders both ways."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from encoder_decoders import CONFIGS
from fronts import DELTAS, FRONT
from language_models import VOCABULARY
from loras import drawn_loras
from peft_folders import change
from transformers import AutoModelForSeq2SeqLM

from quickstudy.backbones import Seq2SeqLM
from quickstudy.backbones.generation import generate
from quickstudy.core.errors import FileRefused
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.deltas import LoRA, Prefix, Prompt, gather_adapters, read_peft, write_peft
from quickstudy.deltas import conformance as checks
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML

PROMPTS, COMPLETIONS = ["abc", "defghijk", "q"], ["xyz", "pq", "rstuvw"]
KINDS = pytest.mark.parametrize("delta", [Prompt(3), Prefix(3)], ids=["prompt", "prefix"])
END = VOCABULARY["</s>"]
IDS = torch.tensor([[3, 9, 4, 12, END]])
WRITTEN = torch.tensor([[0, 7, 8, 6]])


@contextmanager
def quiet():
    """PEFT 0.21 warns of an attribute that transformers renamed."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        yield


def attached(backbone, delta):
    return Functional(lambda: delta.attach(backbone.module()))


def drawn(backbone, delta, seed=0):
    draws = torch.Generator().manual_seed(seed)
    start = delta.init(attached(backbone, delta).module(), backbone.start(draws), draws)
    return {name: tensor + 0.5 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}


def row():
    return {
        "input_ids": IDS,
        "segments": torch.ones_like(IDS),
        "decoder_ids": WRITTEN,
        "asked": torch.arange(1, WRITTEN.shape[1] + 1)[None],
    }


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("delta", DELTAS, ids=str)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, delta, kind, encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder(kind))
    check(delta, backbone.module, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_start_of_tokens_is_as_if_the_encoder_read_them(kind, encoder_decoder):
    backbone, delta = Seq2SeqLM(encoder_decoder(kind)), Prompt(3, FRONT)
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    longer = inputs | {
        "input_ids": torch.cat([torch.tensor(FRONT).expand(3, 3), inputs["input_ids"]], 1),
        "segments": torch.cat([torch.ones(3, 3, dtype=torch.int64), inputs["segments"]], 1),
    }
    body, draws = attached(backbone, delta), torch.Generator()
    params = delta.init(body.module(), backbone.start(draws), draws)
    real = inputs["asked"] > 0
    with torch.no_grad():
        expected = Functional(backbone.module)({}, longer)[real]
        torch.testing.assert_close(body(params, inputs)[real], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_prefix_of_tokens_begins_as_what_the_decoder_keeps_of_them(kind, encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder(kind))
    model, ids = AutoModelForSeq2SeqLM.from_pretrained(encoder_decoder(kind)), torch.tensor([FRONT])
    params = Prefix(3, FRONT).init(attached(backbone, Prefix(3)).module(), {}, torch.Generator())
    with torch.no_grad():
        kept = model(input_ids=ids, decoder_input_ids=ids, use_cache=True).past_key_values.self_attention_cache
    for number, layer in enumerate(kept.layers):
        torch.testing.assert_close(params[f"prefix.layers.{number}.keys"], layer.keys[0])
        torch.testing.assert_close(params[f"prefix.layers.{number}.values"], layer.values[0])
    assert len(params) == 2 * len(kept.layers) > 0


@KINDS
@pytest.mark.parametrize("kind", CONFIGS)
def test_tokens_one_by_one_with_kept_keys_are_as_all_at_once(kind, delta, encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder(kind))
    body, params, inputs = attached(backbone, delta), drawn(backbone, delta), row()
    cache = backbone.new_cache()
    with torch.no_grad():
        logits = [body(params, backbone.after(inputs, token), cache) for token in WRITTEN.split(1, 1)]
        torch.testing.assert_close(torch.cat(logits, 1), body(params, inputs), atol=1e-4, rtol=1e-4)


@KINDS
@pytest.mark.parametrize("kind", CONFIGS)
def test_rows_of_different_adapters_are_as_each_alone_also_when_they_write(kind, delta, encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder(kind))
    body, index = attached(backbone, delta), torch.tensor([1, 0, 1])
    adapters = [drawn(backbone, delta, seed) for seed in range(2)]
    stacked = {name: torch.stack([each[name] for each in adapters]) for name in adapters[0]}
    mixed, inputs = gather_adapters(stacked, index), backbone.batch(PROMPTS, COMPLETIONS).inputs
    together = generate(backbone, body, mixed, backbone.begin(PROMPTS), 10)
    for number, which in enumerate(index.tolist()):
        alone = generate(backbone, body, adapters[which], backbone.begin([PROMPTS[number]]), 10)
        assert alone == [together[number]]
    with torch.no_grad():
        found, each = body(mixed, inputs), [body(adapter, inputs) for adapter in adapters]
    for number, which in enumerate(index.tolist()):
        torch.testing.assert_close(found[number], each[which][number], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(each[0], each[1], atol=1e-2)


@KINDS
@pytest.mark.parametrize("kind", ["t5", "t5-three", "bart"])
def test_peft_computes_and_writes_what_we_do_and_we_read_what_it_writes(kind, delta, encoder_decoder, tmp_path):
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    folder = encoder_decoder(kind)
    backbone = Seq2SeqLM(folder)
    body, params = attached(backbone, delta), drawn(backbone, delta)
    write_peft(tmp_path / "ours", params, delta, folder, "SEQ_2_SEQ_LM")
    with quiet():
        model = peft.PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(folder), tmp_path / "ours").eval()
        mask = torch.ones_like(IDS)
        found = model(input_ids=IDS, attention_mask=mask, decoder_input_ids=WRITTEN).logits
        text = model.generate(input_ids=IDS, attention_mask=mask, max_new_tokens=8, do_sample=False)
        model.save_pretrained(tmp_path / "theirs")
        torch.testing.assert_close(body(params, row()), found, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(Functional(backbone.module)({}, row()), found, atol=1e-2)
    inputs = row() | {"decoder_ids": backbone.begin(["a"])["decoder_ids"], "asked": torch.ones(1, 1, dtype=torch.int64)}
    assert generate(backbone, body, params, inputs, 8) == [backbone.text(text[0, 1:].tolist())]
    again, loaded = read_peft(tmp_path / "theirs")
    assert again == delta
    torch.testing.assert_close(loaded, params)


@pytest.mark.parametrize("through", [False, True], ids=["plain", "through a network"])
@pytest.mark.parametrize("kind", ["t5", "t5-three", "bart"])
def test_we_compute_what_peft_trained_of_prefixes(kind, through, encoder_decoder, tmp_path):
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    task = {"task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": 3}
    config = peft.PrefixTuningConfig(**task, prefix_projection=through, encoder_hidden_size=8)
    with quiet():
        model = peft.get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(encoder_decoder(kind)), config).eval()
        for parameter in model.prompt_encoder.parameters():
            parameter.normal_()
        expected = model(input_ids=IDS, decoder_input_ids=WRITTEN).logits
        model.save_pretrained(tmp_path)
        delta, params = read_peft(tmp_path)
        found = attached(Seq2SeqLM(encoder_decoder(kind)), delta)(params, row())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_we_compute_what_peft_trained_which_keeps_twice_as_many(kind, encoder_decoder, tmp_path):
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    with quiet():
        model = peft.get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(encoder_decoder(kind)), config).eval()
        expected = model(input_ids=IDS, decoder_input_ids=WRITTEN).logits
        model.save_pretrained(tmp_path)
    delta, params = read_peft(tmp_path)
    assert params["prompt.embeddings"].shape == (3, 32)
    with torch.no_grad():
        found = attached(Seq2SeqLM(encoder_decoder(kind)), delta)(params, row())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_lora_is_written_for_an_encoder_decoder_too(encoder_decoder, tmp_path):
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    folder, delta = encoder_decoder("t5"), LoRA(2, 4, ("q", "v"))
    backbone = Seq2SeqLM(folder)
    body = attached(backbone, delta)
    params = drawn_loras(delta, body, 1)[0][0]
    write_peft(tmp_path, params, delta, folder, "SEQ_2_SEQ_LM")
    with quiet():
        model = peft.PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(folder), tmp_path).eval()
        found = model(input_ids=IDS, decoder_input_ids=WRITTEN).logits
        torch.testing.assert_close(body(params, row()), found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("delta", "rate"), [(Prompt(6), 0.1), (Prefix(6), 0.3)], ids=["prompt", "prefix"])
def test_a_learner_lowers_the_loss(delta, rate, encoder_decoder):
    backbone = Seq2SeqLM(encoder_decoder("t5"))
    support = backbone.batch(PROMPTS, COMPLETIONS)
    learner = MAML(Network(backbone, delta), InnerLoop(40, Adam(rate), order="first"))
    params = learner.init(torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = weighted_loss(learner.network(params, support.inputs), support)
        after = weighted_loss(learner.predict(params, learner.adapt(params, support), support.inputs).mean, support)
    assert float(after) < float(before) - 0.2


def test_what_is_not_there_has_a_clear_error(encoder_decoder, tmp_path):
    backbone = Seq2SeqLM(encoder_decoder("bart"))
    for delta in (Prompt(3), Prefix(3)):
        with pytest.raises(ValueError, match="no free place for a pr"):
            delta.attach(delta.attach(backbone.module()))
    for delta in (Prompt(60), Prefix(60)):
        with pytest.raises(ValueError, match="more than the 64 places"):
            attached(backbone, delta)({}, backbone.batch(PROMPTS, COMPLETIONS).inputs)
    write_peft(tmp_path, drawn(backbone, Prompt(3)), Prompt(3), "tiny", "SEQ_2_SEQ_LM")
    change(num_transformer_submodules=2)(tmp_path)
    with pytest.raises(FileRefused, match=r"expected \[6, 32\]"):
        read_peft(tmp_path)
    change(num_transformer_submodules=3)(tmp_path)
    with pytest.raises(FileRefused, match="num_transformer_submodules = 3"):
        read_peft(tmp_path)
    write_peft(tmp_path, drawn(backbone, Prefix(3)), Prefix(3), "tiny", "SEQ_2_SEQ_LM")
    change(num_transformer_submodules=1)(tmp_path)
    with pytest.raises(FileRefused, match="num_transformer_submodules = 1"):
        read_peft(tmp_path)
