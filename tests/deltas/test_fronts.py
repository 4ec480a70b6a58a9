"""Prompts and prefixes of language models: as if tokens stood in front of each text."""

import pytest
import torch
from fronts import DELTAS, FRONT
from language_models import CONFIGS, VOCABULARY
from torch.nn.functional import cross_entropy

from quickstudy.backbones import CausalLM
from quickstudy.backbones.generation import generate
from quickstudy.core.functional import Functional
from quickstudy.deltas import LoRA, Prefix, Prompt, gather_adapters
from quickstudy.deltas import conformance as checks

PROMPTS, COMPLETIONS = ["abc", "defghijklmno", "q"], ["xyz", "pq", "rstuvw"]
FRONTS = [Prompt(3, FRONT), Prefix(3, FRONT)]


def tokens(text):
    return [VOCABULARY[letter] for letter in text]


def attached(backbone, delta):
    return Functional(lambda: delta.attach(backbone.module()))


def begun(backbone, delta, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return delta.init(attached(backbone, delta).module(), backbone.start(generator), generator)


def drawn(backbone, delta, seed):
    draws = torch.Generator().manual_seed(seed)
    start = begun(backbone, delta, seed)
    return {name: tensor + 0.5 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}


def stacked(adapters, index):
    return gather_adapters({name: torch.stack([each[name] for each in adapters]) for name in adapters[0]}, index)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("delta", DELTAS, ids=str)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, delta, kind, language_model):
    backbone = CausalLM(language_model(kind))
    check(delta, backbone.module, backbone.batch(PROMPTS, COMPLETIONS).inputs)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("delta", FRONTS, ids=str)
def test_a_start_of_tokens_is_as_if_they_were_read(delta, kind, language_model):
    backbone = CausalLM(language_model(kind))
    batch = backbone.batch(PROMPTS, COMPLETIONS)
    inputs = batch.inputs
    longer = {
        "input_ids": torch.cat([torch.tensor(FRONT).expand(3, 3), inputs["input_ids"]], 1),
        "segments": torch.cat([torch.ones(3, 3, dtype=torch.int64), inputs["segments"]], 1),
        "asked": inputs["asked"] + 3,
    }
    real = inputs["asked"] > 0
    with torch.no_grad():
        found = attached(backbone, delta)(begun(backbone, delta), inputs)[real]
        expected = Functional(backbone.module)({}, longer)[real]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("delta", DELTAS, ids=str)
def test_all_texts_of_a_packed_row_see_it(delta, kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=18)
    body, params = attached(backbone, delta), drawn(backbone, delta, 1)
    batches = [backbone.batch(PROMPTS, COMPLETIONS, pack=pack) for pack in (False, True)]
    assert [len(batch.weights) for batch in batches] == [3, 2]
    losses = []
    for batch in batches:
        asked = batch.inputs["asked"] > 0
        losses.append(cross_entropy(body(params, batch.inputs)[asked], batch.targets[asked]))
    torch.testing.assert_close(losses[0], losses[1])
    assert not torch.allclose(losses[0], cross_entropy(body({}, batch.inputs)[asked], batch.targets[asked]))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral-near"])
@pytest.mark.parametrize("delta", DELTAS[:1] + DELTAS[3:], ids=str)
def test_rows_of_different_adapters_are_as_each_alone_also_when_they_write(delta, kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=40)
    body, index = attached(backbone, delta), torch.tensor([2, 0, 1, 1, 0, 2])
    adapters = [drawn(backbone, delta, seed) for seed in range(3)]
    prompts, mixed = 2 * PROMPTS, stacked(adapters, index)
    inputs = backbone.batch(prompts, 2 * COMPLETIONS).inputs
    together = generate(backbone, body, mixed, backbone.begin(prompts), most=10)
    with torch.no_grad():
        logits = body(mixed, inputs)
    for row, number in enumerate(index.tolist()):
        alone = {name: leaf[row : row + 1] for name, leaf in inputs.items()}
        with torch.no_grad():
            torch.testing.assert_close(logits[row : row + 1], body(adapters[number], alone), atol=1e-4, rtol=1e-4)
        text = generate(backbone, body, adapters[number], backbone.begin([prompts[row]]), most=10)
        assert text == [together[row]]
    assert together != generate(backbone, Functional(backbone.module), {}, backbone.begin(prompts), most=10)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("delta", DELTAS, ids=str)
def test_writing_with_kept_keys_is_writing_without(delta, kind, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=40)
    body, params = attached(backbone, delta), drawn(backbone, delta, 3)
    text = generate(backbone, body, params, backbone.begin(["abc"]), most=8)[0]
    ids = tokens("abc")
    with torch.no_grad():
        while len(ids) < 11:
            row = torch.tensor([ids])
            inputs = {"input_ids": row, "segments": torch.ones_like(row), "asked": torch.tensor([[len(ids)]])}
            following = int(body(params, inputs)[0, 0].argmax())
            if following == backbone.end:
                break
            ids.append(following)
    assert text == backbone.text(ids[3:])


def test_the_network_of_a_prefix_settles_into_its_keys_and_values(language_model):
    backbone, delta = CausalLM(language_model("llama")), Prefix(3, "random", through=8)
    body, params = attached(backbone, delta), drawn(backbone, delta, 0)
    settled = delta.settled(body.module(), params)
    plain = Prefix(3, "random")
    assert {name: t.shape for name, t in settled.items()} == {n: t.shape for n, t in begun(backbone, plain).items()}
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    torch.testing.assert_close(attached(backbone, plain)(settled, inputs), body(params, inputs))
    assert plain.settled(attached(backbone, plain).module(), settled) is settled


def test_a_drawn_start_is_of_common_tokens_of_the_vocabulary(language_model):
    backbone = CausalLM(language_model("llama"))
    table = backbone.start(torch.Generator())["model.model.embed_tokens.weight"]
    rows = begun(backbone, Prompt(50))["prompt.embeddings"]
    assert all((table == row).all(-1).any() for row in rows)
    random = begun(backbone, Prompt(500, "random"))["prompt.embeddings"]
    assert float(random.std()) == pytest.approx(float(table.std()), rel=0.05)


def test_a_front_in_float32_moves_a_base_in_bfloat16(language_model):
    backbone = CausalLM(language_model("llama"), dtype="bfloat16")
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    base = Functional(backbone.module)({}, inputs)
    for delta in (Prompt(2), Prefix(2)):
        params = begun(backbone, delta)
        assert {tensor.dtype for tensor in params.values()} == {torch.float32}
        found = attached(backbone, delta)(params, inputs)
        assert found.dtype == torch.bfloat16
        assert not torch.equal(found, base)


@pytest.mark.parametrize("delta", FRONTS, ids=str)
def test_an_encoder_and_a_second_front_are_refused(delta, factory, language_model):
    backbone = CausalLM(language_model("llama"))
    with pytest.raises(ValueError, match=r"give a (causal )?language model"):
        delta.attach(factory())
    with pytest.raises(ValueError, match="no free place"):
        delta.attach(delta.attach(backbone.module()))


def test_a_prompt_and_lora_stand_on_one_module(language_model):
    backbone = CausalLM(language_model("llama"))
    module = Prompt(2).attach(Prefix(3).attach(LoRA(2, targets=("q_proj",)).attach(backbone.module())))
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    assert module(inputs).shape == backbone.module()(inputs).shape


def test_bad_fields_have_a_clear_error(language_model):
    backbone = CausalLM(language_model("gpt2"), max_tokens=64)
    module = backbone.module()
    bad = [
        (Prompt(0), "tokens is 0"),
        (Prefix(2, "zero"), "start is 'zero'"),
        (Prompt(2, ()), "start is"),
        (Prefix(2, through=4), 'start="random"'),
        (Prefix(2, "random", through=0), "through is 0"),
    ]
    for delta, words in bad:
        with pytest.raises(ValueError, match=words):
            delta.attach(module)
    for delta in (Prompt(2, (3, 900)), Prefix(2, (3, -1))):
        with pytest.raises(ValueError, match="numbers from 0 to 31"):
            begun(backbone, delta)
    with pytest.raises(ValueError, match=r"no starting value for 'model\.transformer\.wte\.weight'"):
        Prompt(2).init(Prompt(2).attach(module), {}, torch.Generator())
    inputs = backbone.batch(PROMPTS, COMPLETIONS).inputs
    for delta in (Prompt(60), Prefix(60)):
        with pytest.raises(ValueError, match="more than the 64 places"):
            attached(backbone, delta)({}, inputs)
    for delta in (Prompt(2), Prefix(2)):
        two = stacked([begun(backbone, delta)], torch.tensor([0, 0]))
        with pytest.raises(ValueError, match="2 rows were given, but the batch has 3"):
            attached(backbone, delta)(two, inputs)
