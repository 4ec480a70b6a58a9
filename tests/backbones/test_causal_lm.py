"""Language models against transformers itself: logits, losses, generation, in batches, packed, and with adapters."""

import pytest
import torch
from language_models import CONFIGS, VOCABULARY
from loras import drawn_loras
from torch.nn.functional import cross_entropy, pad
from transformers import AutoModelForCausalLM

from quickstudy.backbones import CausalLM
from quickstudy.backbones import conformance as checks
from quickstudy.backbones.completions import Example, packed
from quickstudy.backbones.generation import generate
from quickstudy.backbones.packing import packing_of
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.deltas.lora import LoRA, gather_adapters
from quickstudy.learners.losses import weighted_loss

PROMPTS, COMPLETIONS = ["abc", "defghijklmno", "q"], ["xyz", "pq", "rstuvw"]


def tokens(text):
    return [VOCABULARY[letter] for letter in text]


def written(backbone, body, params, prompts, *more, **options):
    return generate(backbone, body, params, backbone.begin(prompts), *more, **options)


def before(backbone, texts):
    """What `generate` is to read before the rows."""
    begun = backbone.begin(texts)
    return {"before_ids": begun["input_ids"], "before_segments": begun["segments"]}


def theirs(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_are_those_of_the_model_alone(kind, language_model):
    backbone = CausalLM(language_model(kind))
    batch = backbone.batch(PROMPTS, COMPLETIONS)
    model = theirs(language_model(kind))
    with torch.no_grad():
        found = Functional(backbone.module)({}, batch.inputs)
        for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
            whole = torch.tensor([[*tokens(prompt + completion), VOCABULARY["</s>"]]])
            expected = model(input_ids=whole).logits[0, len(prompt) - 1 : -1]
            torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)
            assert batch.targets[row, : len(expected)].tolist() == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", CONFIGS)
def test_generation_is_that_of_transformers(kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=40)
    found = written(backbone, Functional(backbone.module), {}, PROMPTS, most=12)
    model = theirs(language_model(kind))
    for prompt, text in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([tokens(prompt)])
        with torch.no_grad():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert text == backbone.text(whole[0, len(prompt) :].tolist())
    assert any(found)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_stands_before_all_rows_or_each_is_read_as_their_beginning(kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=40)
    body = Functional(backbone.module)
    texts = ["hgfedcba", "bad", "ijkl"]
    each = before(backbone, texts)
    one = {name: tensor[:1] for name, tensor in each.items()}

    def asked(prompts, after=()):
        """The logits of each token written; those of reading what stands before come first and are left out."""
        found = []

        def run(params, inputs, cache):
            logits = body(params, inputs, cache)
            found.append(logits[:, 0])
            return logits

        generate(backbone, run, {}, {**backbone.begin(prompts), **dict(after)}, 5)
        return torch.stack(found[bool(after) :])

    whole = [text + prompt for text, prompt in zip(texts, PROMPTS, strict=True)]
    torch.testing.assert_close(asked(PROMPTS, each), asked(whole), atol=1e-5, rtol=1e-5)
    whole = [texts[0] + prompt for prompt in PROMPTS]
    torch.testing.assert_close(asked(PROMPTS, one), asked(whole), atol=1e-5, rtol=1e-5)
    assert (asked(PROMPTS) - asked(whole)).abs().max() > 1e-3


def test_what_stands_before_all_rows_is_computed_once(language_model):
    backbone = CausalLM(language_model("llama"), max_tokens=40)
    body, computed = Functional(backbone.module), []

    def counted(params, inputs, cache):
        computed.append(inputs["input_ids"].numel())
        return body(params, inputs, cache)

    generate(backbone, counted, {}, backbone.begin(PROMPTS) | before(backbone, ["hgfedcba"]), 1)
    assert computed == [8, 3 * 12]


def test_what_stands_before_rows_takes_room(language_model):
    backbone = CausalLM(language_model("llama"), max_tokens=12)
    body = Functional(backbone.module)
    inputs = backbone.begin(PROMPTS) | before(backbone, ["hgfedcb"])
    with pytest.raises(InputError, match="8 tokens too long"):
        generate(backbone, body, {}, inputs, 1)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_packed_rows_give_the_loss_of_single_ones(kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=18)
    body = Functional(backbone.module)
    batches = [backbone.batch(PROMPTS, COMPLETIONS, pack=pack) for pack in (False, True)]
    assert [len(batch.weights) for batch in batches] == [3, 2]
    losses = []
    for batch in batches:
        asked = batch.inputs["asked"] > 0
        assert int(asked.sum()) == sum(len(each) + 1 for each in COMPLETIONS)
        losses.append(cross_entropy(body({}, batch.inputs)[asked], batch.targets[asked]))
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("pack", [False, True])
def test_activations_of_a_text_do_not_depend_on_what_is_in_the_batch(pack, kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=60)
    prompts, completions = ["a" * 30, *PROMPTS, "bc"], ["b" * 20, *COMPLETIONS, "d"]
    batch = {name: pad(tensor, (0, 50)) for name, tensor in backbone.batch(prompts, completions, pack).inputs.items()}
    assert packing_of(batch["segments"]) is not None
    found = backbone.activations(batch)
    for ids, segments, activations in zip(batch["input_ids"], batch["segments"], found, strict=True):
        for number in range(1, int(segments.max()) + 1):
            mine = segments == number
            one = {"input_ids": ids[mine][None], "segments": torch.ones_like(ids[mine][None])}
            torch.testing.assert_close(activations[mine], backbone.activations(one)[0], atol=1e-5, rtol=1e-4)


def test_packing_fills_rows_and_loses_no_example():
    examples = [Example([1] * prompt, [2] * rest) for prompt, rest in [(1, 1), (5, 4), (2, 1), (3, 3), (1, 2)]]
    rows = packed(examples, 10)
    assert sorted(len(example) for row in rows for example in row) == sorted(map(len, examples))
    assert all(sum(map(len, row)) <= 10 for row in rows)
    assert len(rows) == 3


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, kind, language_model):
    backbone = CausalLM(language_model(kind))
    check(backbone, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_rows_of_different_adapters_are_written_as_each_alone(kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=40)
    targets = ("c_attn", "c_proj") if kind == "gpt2" else ("q_proj", "v_proj", "down_proj")
    delta = LoRA(4, 8, targets)
    body = Functional(lambda: delta.attach(backbone.module()))
    adapters, stacked = drawn_loras(delta, body, 3)
    index = torch.tensor([2, 0, 1, 1, 0, 2])
    prompts = 2 * PROMPTS
    together = written(backbone, body, gather_adapters(stacked, index), prompts, most=10)
    alone = [
        written(backbone, body, adapters[number], [prompt], most=10)[0]
        for number, prompt in zip(index.tolist(), prompts, strict=True)
    ]
    assert together == alone
    assert together != written(backbone, body, {}, prompts, most=10)


def test_an_adapter_in_float32_moves_a_base_in_bfloat16(language_model):
    backbone = CausalLM(language_model("llama"), dtype="bfloat16")
    delta = LoRA(2, 4, ("q_proj",))
    body = Functional(lambda: delta.attach(backbone.module()))
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    params = {name: tensor + 0.5 for name, tensor in delta.init(body.module(), {}, torch.Generator()).items()}
    found = body(params, inputs)
    assert found.dtype == torch.bfloat16
    assert not torch.equal(found, body({}, inputs))


def test_draws_follow_the_temperature(language_model):
    backbone = CausalLM(language_model("llama"))
    body = Functional(backbone.module)

    def drawn(temperature, seed):
        generator = torch.Generator().manual_seed(seed)
        return written(backbone, body, {}, PROMPTS, 8, temperature, generator)

    assert drawn(5.0, 0) == drawn(5.0, 0) != drawn(5.0, 1)
    assert drawn(1e-4, 0) == written(backbone, body, {}, PROMPTS, 8)


def test_a_chat_is_put_by_the_template(language_model):
    backbone = CausalLM(language_model("llama"), chat=True)
    assert backbone.begun(["ab"]) == [[VOCABULARY["<s>"], *tokens("u=ab>a=")]]
    batch = backbone.batch(["ab"], ["c"])
    assert batch.targets.tolist() == [[VOCABULARY["c"], VOCABULARY["</s>"]]]


def test_what_stands_between_is_put_after_each_prompt(language_model):
    backbone = CausalLM(language_model("llama"), between=" =>")
    assert backbone.begun(["ab"]) == [tokens("ab =>")]


def test_notes_are_rows_that_ask_for_nothing(language_model):
    backbone = CausalLM(language_model("llama"))
    batch = backbone.batch(PROMPTS, COMPLETIONS, notes=["abcabc"])
    assert batch.inputs["input_ids"][3, :6].tolist() == tokens("abcabc")
    assert batch.inputs["segments"][3].sum() == 6
    assert not batch.inputs["asked"][3].any()
    body = Functional(backbone.module)
    losses = [weighted_loss(body({}, each.inputs), each) for each in (batch, backbone.batch(PROMPTS, COMPLETIONS))]
    torch.testing.assert_close(losses[0], losses[1])


def test_a_long_prompt_loses_its_beginning_with_a_warning(language_model):
    backbone = CausalLM(language_model("llama"), max_tokens=8)
    with pytest.warns(UserWarning, match="1 of 2 prompts lost their beginning"):
        batch = backbone.batch(["abcdefghij", "a"], ["xyz", "x"])
    assert batch.inputs["input_ids"][0, :4].tolist() == tokens("ghij")


def test_bad_input_has_a_clear_error(language_model):
    backbone = CausalLM(language_model("llama"), max_tokens=8)
    body = Functional(backbone.module)
    with pytest.raises(InputError, match="2 prompts and 1 completions"):
        backbone.batch(["a", "b"], ["c"])
    with pytest.raises(InputError, match="prompt 1 has no token"):
        backbone.batch(["a", ""], ["c", "d"])
    with pytest.raises(InputError, match="max_tokens is 8"):
        backbone.batch(["a"], ["abcdefghi"])
    with pytest.raises(InputError, match="1 tokens too long"):
        written(backbone, body, {}, ["abcdefgh"])
    with pytest.raises(InputError, match="at least one"):
        written(backbone, body, {}, [])
    with pytest.raises(ValueError, match="most is 0"):
        written(backbone, body, {}, ["a"], most=0)
    with pytest.raises(ValueError, match="attention is 'flash'"):
        CausalLM(language_model("llama"), attention="flash").module()
    with pytest.raises(NotAvailable, match="no language model"):
        CausalLM("no-such-folder").module()
