"""Prompts, prefixes and AdaLoRA of language models go both ways between this package and PEFT."""

import json
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from peft_folders import change, retensor
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from quickstudy.backbones import CausalLM
from quickstudy.backbones.generation import generate
from quickstudy.core.errors import FileRefused
from quickstudy.core.functional import Functional
from quickstudy.deltas import AdaLoRA, Full, Prefix, Prompt, as_lora, read_peft, vllm_problems, write_peft
from quickstudy.deltas.adalora import ranks
from quickstudy.deltas.peft_folder import UNSUPPORTED

peft = pytest.importorskip("peft", reason="the optional package peft is not installed")

TARGETS = {"llama": ("q_proj", "v_proj", "down_proj"), "gpt2": ("c_attn", "mlp.c_proj"), "qwen3": ("k_proj",)}
IDS = torch.tensor([[3, 9, 4, 12, 7]])
ROW = {"input_ids": IDS, "segments": torch.ones_like(IDS), "asked": torch.arange(1, 6)[None]}


def deltas(kind):
    return [Prompt(3), Prefix(4), AdaLoRA(4, 6, TARGETS[kind])]


def body(kind, delta, language_model):
    backbone = CausalLM(language_model(kind), max_tokens=40)
    return backbone, Functional(lambda: delta.attach(backbone.module()))


def drawn(backbone, run, delta, seed=0):
    """Tensors of the delta; of the layers of AdaLoRA the first has one pruned rank, the second two, and so on."""
    draws = torch.Generator().manual_seed(seed)
    start = delta.init(run.module(), backbone.start(draws), draws)
    params = {name: tensor + 0.3 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    for number, name in enumerate(sorted(name for name in params if name.endswith("lambda"))):
        params[name][: 1 + number] = 0
    return params


@contextmanager
def quiet():
    """PEFT 0.21 warns of an attribute that transformers 5.23 renamed, of how GPT-2 keeps weights, and of AdaLoRA's own
    rank patterns, which it takes for those of LoRA when it loads what it wrote itself, and of layers without ranks,
    and that it leaves out the places of tokens when it writes after a prompt, which it then counts itself."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
        warnings.filterwarnings("ignore", message=".*Position ids are not supported.*")
        warnings.filterwarnings("ignore", message=".*rank_pattern keys did not match.*")
        warnings.filterwarnings("ignore", message=".*have invalid shape.*")
        yield


def in_peft(kind, folder, language_model):
    base = AutoModelForCausalLM.from_pretrained(language_model(kind))
    return peft.PeftModel.from_pretrained(base, folder).eval()


@pytest.mark.parametrize("number", [0, 1, 2], ids=["prompt", "prefix", "adalora"])
@pytest.mark.parametrize("kind", TARGETS)
def test_peft_computes_what_we_do_and_we_read_what_it_writes(kind, number, language_model, tmp_path):
    delta = deltas(kind)[number]
    backbone, run = body(kind, delta, language_model)
    params = drawn(backbone, run, delta)
    write_peft(tmp_path / "ours", params, delta, language_model(kind), "CAUSAL_LM")
    with quiet():
        model = in_peft(kind, tmp_path / "ours", language_model)
        found = model(input_ids=IDS).logits[:, -5:]
        model.save_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(run(params, ROW), found, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(Functional(backbone.module)({}, ROW), found, atol=1e-2)
    for folder in ("ours", "theirs"):
        again, loaded = read_peft(tmp_path / folder)
        _, other = body(kind, again, language_model)
        start = again.init(other.module(), backbone.start(torch.Generator()), torch.Generator())
        assert {name: tensor.shape for name, tensor in loaded.items()} == {n: t.shape for n, t in start.items()}
        torch.testing.assert_close(other(loaded, ROW), found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["prompt", "prefix", "adalora"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_peft_writes_the_text_that_we_do(kind, number, language_model, tmp_path):
    delta = deltas(kind)[number]
    backbone, run = body(kind, delta, language_model)
    params = drawn(backbone, run, delta, 5)
    write_peft(tmp_path / "a", params, delta, language_model(kind), "CAUSAL_LM")
    ids = torch.tensor(backbone.begun(["abc"]))
    with quiet():
        model = in_peft(kind, tmp_path / "a", language_model)
        text = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, pad_token_id=0
        )
    assert generate(backbone, run, params, backbone.begin(["abc"]), most=10) == [backbone.text(text[0, 3:].tolist())]


CONFIGS = {
    "a prompt": lambda kind: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "a prefix": lambda kind: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "a prefix through a network": lambda kind: peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8
    ),
    "AdaLoRA": lambda kind: peft.AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=4, tfinal=1, total_step=10, lora_alpha=5, target_modules=list(TARGETS[kind])
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_we_compute_what_peft_trained(case, kind, language_model, tmp_path):
    backbone = CausalLM(language_model(kind))
    draws = torch.Generator().manual_seed(0)
    with quiet():
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(language_model(kind)), CONFIGS[case](kind))
        for name, parameter in model.named_parameters():
            if "lora_" in name or "prompt_encoder" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws))
        if case == "AdaLoRA":
            allocator = model.base_model.rankallocator
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draws)
            allocator.update_ipt(model.base_model.model)
            model.peft_config["default"].rank_pattern = allocator.mask_to_budget(model.base_model.model, 7)
        expected = model.eval()(input_ids=IDS).logits[:, -5:]
        model.save_pretrained(tmp_path)
    delta, params = read_peft(tmp_path)
    found = Functional(lambda: delta.attach(backbone.module()))(params, ROW)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    if case == "AdaLoRA":
        assert sum(ranks(params).values()) == 7


def test_pruned_ranks_are_not_in_the_file(language_model, tmp_path):
    delta = AdaLoRA(4, 6, ("q_proj", "v_proj"))
    backbone, run = body("llama", delta, language_model)
    params = drawn(backbone, run, delta)
    write_peft(tmp_path, params, delta, "tiny", "CAUSAL_LM")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert sorted(len(tensor) for name, tensor in tensors.items() if name.endswith("lora_E")) == [1, 2, 3]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert len(config["target_modules"]) == len(config["rank_pattern"]) == 3
    assert sorted(map(sum, config["rank_pattern"].values())) == [1, 2, 3]
    assert config["target_r"] == 2


def test_adalora_becomes_a_lora_that_peft_and_vllm_read(language_model, tmp_path):
    delta = AdaLoRA(4, 6, TARGETS["llama"])
    backbone, run = body("llama", delta, language_model)
    params = drawn(backbone, run, delta)
    lora, matrices = as_lora(delta, params)
    write_peft(tmp_path, matrices, lora, language_model("llama"), "CAUSAL_LM")
    with quiet():
        found = in_peft("llama", tmp_path, language_model)(input_ids=IDS).logits
    torch.testing.assert_close(run(params, ROW), found, atol=1e-4, rtol=1e-4)
    assert vllm_problems(json.loads((tmp_path / "adapter_config.json").read_text())) == []


def first_is(make):
    return retensor(lambda tensors: tensors | {min(tensors): make(tensors[min(tensors)]).contiguous()})


EXTRA = retensor(lambda tensors: tensors | {"base_model.lm_head.weight": torch.zeros(2, 2)})
NOTHING = retensor(lambda _: {})
EACH = {
    "a tensor too many": (EXTRA, "extra_keys", "lm_head"),
    "nothing": (NOTHING, "missing_keys", "lacks"),
    "NaN": (first_is(lambda tensor: tensor * float("nan")), "not_finite", "NaN"),
    "a vector": (first_is(lambda tensor: tensor[0]), "wrong_rank", "axes"),
    "a row less": (first_is(lambda tensor: tensor[1:]), "wrong_shape", "expected"),
    "a saved head": (change(modules_to_save=["lm_head"]), UNSUPPORTED, "modules_to_save"),
}
FRONT = {
    "another task": (change(task_type="TOKEN_CLS"), UNSUPPORTED, "task_type"),
    "no tokens": (change(num_virtual_tokens=0), UNSUPPORTED, "num_virtual_tokens = 0"),
    "other tokens": (change(num_virtual_tokens=9), "wrong_shape", r"expected \[9, "),
    "another width": (change(token_dim=8), "wrong_shape", "expected"),
    "no width": (change(token_dim=None), UNSUPPORTED, "token_dim = None"),
}
BAD = {
    0: EACH | FRONT,
    1: EACH
    | FRONT
    | {
        "heads that do not share": (change(num_attention_heads=3), UNSUPPORTED, "cannot share"),
        "other layers": (change(num_layers=3), "wrong_shape", "expected"),
        "true layers": (change(num_layers=True), UNSUPPORTED, "num_layers = True"),
    },
    2: EACH
    | {
        "a smaller rank": (change(init_r=1, rank_pattern=None), "wrong_shape", "at most init_r = 1"),
        "no rank": (change(init_r=None), UNSUPPORTED, "init_r = None"),
        "another pattern": (change(rank_pattern={}), "wrong_shape", "rank_pattern"),
        "an odd pattern": (change(rank_pattern=[1]), "wrong_shape", "rank_pattern"),
        "no alpha": (change(lora_alpha=0), UNSUPPORTED, "lora_alpha = 0"),
        "bias": (change(bias="all"), UNSUPPORTED, "bias"),
        "a column of lambda": (
            retensor(lambda tensors: {n: t.repeat(1, 2) if n.endswith("_E") else t for n, t in tensors.items()}),
            "wrong_shape",
            "lora_E",
        ),
        "no lambda": (
            retensor(lambda tensors: {n: t for n, t in tensors.items() if not n.endswith("q_proj.lora_E")}),
            "missing_keys",
            "lora_E",
        ),
    },
}


@pytest.mark.parametrize(("number", "case"), [(number, case) for number, cases in BAD.items() for case in cases])
def test_refuses(number, case, language_model, tmp_path):
    delta = deltas("llama")[number]
    backbone, run = body("llama", delta, language_model)
    damage, reason, words = BAD[number][case]
    write_peft(tmp_path / "a", drawn(backbone, run, delta), delta, "tiny", "CAUSAL_LM")
    read_peft(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(FileRefused, match=words) as refusal:
        read_peft(tmp_path / "a")
    assert refusal.value.reason == reason
    assert refusal.value.path.parent == tmp_path / "a"


def test_writing_refuses_what_is_not_of_the_delta(language_model, tmp_path):
    backbone = CausalLM(language_model("llama"))
    tensors = {}
    for number, delta in enumerate([*deltas("llama"), Prefix(4, "random", through=8)]):
        tensors[number] = drawn(backbone, Functional(lambda delta=delta: delta.attach(backbone.module())), delta)
    prompt, prefix, ada = deltas("llama")
    first = min(tensors[2])
    bad = [
        (prompt, {}, "nothing else"),
        (replace(prompt, tokens=4), tensors[0], r"\[4, width\]"),
        (prefix, {}, "keys and .values of each layer"),
        (prefix, tensors[0], "keys and .values of each layer"),
        (replace(prefix, tokens=3), tensors[1], "of 3 tokens"),
        (prefix, tensors[1] | {"prefix.layers.0.keys": torch.zeros(2, 4, 9)}, "PEFT takes one"),
        (Prefix(4, "random", through=8), tensors[3], "settled"),
        (ada, {}, "P, lambda and Q"),
        (ada, {name: tensor for name, tensor in tensors[2].items() if name != first}, "P, lambda and Q"),
        (ada, {n: torch.zeros_like(t) for n, t in tensors[2].items()}, "every rank is pruned"),
        (replace(ada, rank=2), tensors[2], "at most 2"),
        (replace(ada, alpha=0), tensors[2], "alpha is 0"),
        (ada, {name.replace("model.", ""): tensor for name, tensor in tensors[2].items()}, "expected model"),
        (Full(), tensors[0], "PEFT has no folder for Full"),
    ]
    for delta, params, words in bad:
        with pytest.raises(ValueError, match=words):
            write_peft(tmp_path / "a", params, delta, "tiny")
    assert not list(tmp_path.iterdir())
