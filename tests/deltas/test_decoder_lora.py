"""What both writers refuse before they write: folders that are no plain LoRA, and bases that it was not made for."""

import json

import pytest
import torch
from decoder_loras import SIZES, write_base, write_lora
from peft_folders import change, retensor

from quickstudy.core.errors import FileRefused, NotAvailable
from quickstudy.deltas import AdaLoRA, LoRA, Prompt, write_gguf, write_mlx, write_peft
from quickstudy.deltas.decoder_lora import read_decoder_lora
from quickstudy.deltas.peft_folder import UNSUPPORTED

pytest.importorskip("gguf", reason="the optional package gguf is not installed")

WRITERS = [write_mlx, write_gguf]


def also(name, *shapes):
    """Matrices beside one more layer."""
    names = (f"base_model.model.{name}.lora_A.weight", f"base_model.model.{name}.lora_B.weight")
    return retensor(lambda tensors: tensors | dict(zip(names, map(torch.zeros, shapes), strict=True)))


def cut(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])


DAMAGES = {
    "DoRA": (change(use_dora=True), UNSUPPORTED, "use_dora"),
    "ranks of its own": (change(rank_pattern={"q_proj": 1}), UNSUPPORTED, "rank_pattern"),
    "scales of its own": (change(alpha_pattern={"q_proj": 1}), UNSUPPORTED, "alpha_pattern"),
    "a trained head": (change(modules_to_save=["lm_head"]), UNSUPPORTED, "modules_to_save"),
    "another kind": (change(peft_type="IA3"), UNSUPPORTED, "IA3"),
    "a layer of no name": (also("lm_head", (2, 32), (99, 2)), UNSUPPORTED, "lm_head"),
    "a layer of another name": (also("model.layers.0.mlp.fc1", (2, 32), (48, 2)), UNSUPPORTED, "fc1"),
    "a layer too far": (also("model.layers.3.mlp.up_proj", (2, 32), (48, 2)), "wrong_base", "has 3 layers"),
    "NaN": (retensor(lambda tensors: {n: t * float("nan") for n, t in tensors.items()}), "not_finite", "NaN"),
    "half a file": (cut, "truncated", "cut short"),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("case", DAMAGES)
def test_refuses_the_adapter_and_writes_nothing(case, write, tmp_path):
    damage, reason, words = DAMAGES[case]
    base = write_base(tmp_path / "base")
    write_lora(tmp_path / "peft", LoRA(2), layers=(0,))
    read_decoder_lora(tmp_path / "peft", base, "")
    damage(tmp_path / "peft")
    with pytest.raises(FileRefused, match=words) as refusal:
        write(tmp_path / "peft", base, tmp_path / "out")
    assert refusal.value.reason == reason
    assert refusal.value.path.parent == tmp_path / "peft"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "peft"]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"hidden_size": 64}, "48 inputs and 32 outputs for mlp.down_proj .* has 48 and 64"),
        ({"intermediate_size": 64}, "in which that has 64 and 32"),
        ({"num_key_value_heads": 4}, "in which that has 32 and 64"),
        ({"num_key_value_heads": None}, "in which that has 32 and 64"),
        ({"head_dim": None}, "in which that has 32 and 16"),
        ({"num_hidden_layers": 2}, "layer 2.*has 2 layers"),
    ],
)
def test_refuses_another_base(entry, words, write, tmp_path):
    write_lora(tmp_path / "peft", LoRA(2))
    write_base(tmp_path / "good")
    read_decoder_lora(tmp_path / "peft", tmp_path / "good", "")
    with pytest.raises(FileRefused, match=words) as refusal:
        write(tmp_path / "peft", write_base(tmp_path / "base", **entry), tmp_path / "out")
    assert refusal.value.reason == "wrong_base"


@pytest.mark.parametrize("write", WRITERS)
def test_refuses_what_is_no_base(write, tmp_path):
    write_lora(tmp_path / "peft", LoRA(2))
    for number, (entry, words) in enumerate(
        [({"hidden_size": None}, "hidden_size = None"), ({"num_hidden_layers": True}, "num_hidden_layers = True")]
    ):
        with pytest.raises(FileRefused, match=words):
            write(tmp_path / "peft", write_base(tmp_path / str(number), **entry), tmp_path / "out")
    with pytest.raises(FileRefused, match="no such file"):
        write(tmp_path / "peft", tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [(write_mlx, "train with mlx-lm"), (write_gguf, r"convert_lora_to_gguf\.py of llama\.cpp takes")],
)
def test_says_what_to_do_for_a_base_of_other_names(write, words, tmp_path):
    write_lora(tmp_path / "peft", LoRA(2))
    for kind in ("gpt2", None):
        with pytest.raises(NotAvailable, match=f"model_type {kind!r}.*{words}"):
            write(tmp_path / "peft", write_base(tmp_path / str(kind), model_type=kind), tmp_path / "out")
    (tmp_path / "gpt2" / "config.json").write_text("[]")
    with pytest.raises(NotAvailable, match="model_type None"):
        write(tmp_path / "peft", tmp_path / "gpt2", tmp_path / "out")


@pytest.mark.parametrize("write", WRITERS)
def test_only_a_lora_is_exported(write, tmp_path):
    base = write_base(tmp_path / "base")
    layer = "model.model.layers.0.self_attn.q_proj"
    ada = {
        f"{layer}.lora_P": torch.ones(64, 2),
        f"{layer}.lora_lambda": torch.ones(2),
        f"{layer}.lora_Q": torch.ones(2, 32),
    }
    write_peft(tmp_path / "ada", ada, AdaLoRA(2, 4, ("q_proj",)), "tiny", "CAUSAL_LM")
    with pytest.raises(FileRefused, match="AdaLoRA becomes one by `as_lora`") as refusal:
        write(tmp_path / "ada", base, tmp_path / "out")
    assert refusal.value.reason == UNSUPPORTED
    prompt = {"prompt.embeddings": torch.ones(2, 32)}
    write_peft(tmp_path / "prompt", prompt, Prompt(2), "tiny")
    with pytest.raises(FileRefused, match="is of Prompt"):
        write(tmp_path / "prompt", base, tmp_path / "out")


def test_old_configurations_do_without_two_entries(tmp_path):
    old = {name: value for name, value in SIZES.items() if name not in ("num_key_value_heads", "head_dim")}
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(old | {"hidden_size": 64}))
    params = {}
    for part in "qk":
        params[f"model.model.layers.0.self_attn.{part}_proj.lora_A"] = torch.ones(2, 64)
        params[f"model.model.layers.0.self_attn.{part}_proj.lora_B"] = torch.ones(64, 2)
    write_peft(tmp_path / "peft", params, LoRA(2), "tiny", "CAUSAL_LM")
    found = read_decoder_lora(tmp_path / "peft", tmp_path / "base", "")
    assert (found.heads, found.key_heads) == (4, 4)
    assert [product.module for product in found.products] == ["self_attn.k_proj", "self_attn.q_proj"]
