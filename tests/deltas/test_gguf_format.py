"""The file of llama.cpp computes what the LoRA does: by its matrices, and in llama.cpp where xllamacpp is installed."""

import builtins
import subprocess
import sys
import textwrap

import pytest
import torch
from decoder_loras import SHAPES, SIZES, beside_nothing, write_base, write_lora

from quickstudy.backbones import CausalLM
from quickstudy.core.errors import FileRefused, InputError, NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.deltas import LoRA, write_gguf, write_peft
from quickstudy.deltas.decoder_lora import KINDS

gguf = pytest.importorskip("gguf", reason="the optional package gguf is not installed")

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def read(path):
    """Fields and tensors of a file of GGUF."""
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors


def added(fields, tensors, name, x):
    """What llama.cpp adds to the layer's output for `x`: alpha over the rank, times the product."""
    down, up = tensors[f"{name}.weight.lora_a"], tensors[f"{name}.weight.lora_b"]
    return fields["adapter.lora.alpha"] / len(down) * (x @ down.T @ up.T)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_matrices_give_the_product_of_the_lora(kind, rslora, tmp_path):
    lora = LoRA(4, 6, rslora=rslora)
    params = write_lora(tmp_path / "peft", lora, layers=(0, 2))
    write_gguf(tmp_path / "peft", write_base(tmp_path / "base", model_type=kind), tmp_path / "out" / "a.gguf")
    fields, tensors = read(tmp_path / "out" / "a.gguf")
    assert (fields["general.type"], fields["adapter.type"]) == ("adapter", "lora")
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(kind, kind)
    assert fields["general.architecture"] == architecture
    ends = [f"{layer}.{name}.weight.lora_{which}" for layer in (0, 2) for name in NAMES.values() for which in "ab"]
    assert sorted(tensors) == sorted(f"blk.{end}" for end in ends)
    for layer in (0, 2):
        for module, name in NAMES.items():
            x = torch.randn(5, SHAPES[module][0], generator=torch.Generator().manual_seed(1))
            found = added(fields, tensors, f"blk.{layer}.{name}", x)
            expected = beside_nothing(lora, params, f"model.model.layers.{layer}.{module}", x)
            if architecture == "llama" and name in ("attn_q", "attn_k"):
                found, expected = found.sort(dim=1).values, expected.sort(dim=1).values
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def halves(heads):
    """Rotated as transformers rotates, [head, position, size]: value i with value i + size / 2."""
    first, second = heads.chunk(2, dim=-1)
    cos, sin = angles(heads)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def neighbours(heads):
    """Rotated as llama.cpp rotates in its architecture llama: value 2 i with value 2 i + 1."""
    first, second = heads[..., 0::2], heads[..., 1::2]
    cos, sin = angles(heads)
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)


def angles(heads):
    size = heads.shape[-1]
    rates = 10000.0 ** (-torch.arange(0, size, 2) / size)
    turned = torch.arange(heads.shape[1])[:, None] * rates
    return turned.cos(), turned.sin()


def test_queries_meet_keys_as_before_when_neighbours_are_rotated(tmp_path):
    lora = LoRA(4, 6)
    params = write_lora(tmp_path / "peft", lora, layers=(1,))
    write_gguf(tmp_path / "peft", write_base(tmp_path / "base"), tmp_path / "a.gguf")
    fields, tensors = read(tmp_path / "a.gguf")
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(1)) / 10

    def scores(q, k, rotate):
        q, k = (rotate(part.unflatten(1, (-1, SIZES["head_dim"])).transpose(0, 1)) for part in (q, k))
        return torch.einsum("hid,hjd->hij", q, k.repeat_interleave(2, dim=0))

    ours = [beside_nothing(lora, params, f"model.model.layers.1.self_attn.{part}_proj", x) for part in "qk"]
    theirs = [added(fields, tensors, f"blk.1.attn_{part}", x) for part in "qk"]
    expected = scores(*ours, halves)
    torch.testing.assert_close(scores(*theirs, neighbours), expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(scores(*ours, neighbours), expected, rtol=1e-1, atol=1e-1)


def test_replaces_an_adapter_and_nothing_else(tmp_path):
    base, path = write_base(tmp_path / "base"), tmp_path / "a.gguf"
    write_lora(tmp_path / "peft", LoRA(2))
    write_gguf(tmp_path / "peft", base, path)
    write_lora(tmp_path / "peft", LoRA(3))
    write_gguf(tmp_path / "peft", base, path)
    assert len(read(path)[1]["blk.0.attn_q.weight.lora_a"]) == 3
    model = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    model.add_type("model")
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()
    (tmp_path / "empty").touch()
    before = {place: place.read_bytes() for place in tmp_path.rglob("*") if place.is_file()}
    for taken in (tmp_path / "model.gguf", tmp_path / "empty", base / "config.json", base):
        with pytest.raises(InputError, match="would be lost"):
            write_gguf(tmp_path / "peft", base, taken)
    assert {place: place.read_bytes() for place in tmp_path.rglob("*") if place.is_file()} == before


FULL = """
    import resource, sys
    from pathlib import Path
    from quickstudy.core.errors import InputError
    from quickstudy.deltas.gguf_format import write_gguf
    folder, size = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        write_gguf(folder / "peft", folder / "base", folder / "a.gguf")
    except InputError as error:
        print(error)
"""


@pytest.mark.parametrize("size", [100, 10_000])
def test_a_full_disk_leaves_the_old_file_and_says_so(size, tmp_path):
    """A limit on the size of files, which the kernel enforces, stands for the full disk."""
    base = write_base(tmp_path / "base")
    write_lora(tmp_path / "peft", LoRA(2))
    write_gguf(tmp_path / "peft", base, tmp_path / "a.gguf")
    old = (tmp_path / "a.gguf").read_bytes()
    assert len(old) > size
    code = [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL), str(tmp_path), str(size)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    assert not done.stderr
    assert (tmp_path / "a.gguf").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "base", "peft"]


def test_refuses_an_alpha_of_zero_which_llama_cpp_takes_for_none(tmp_path):
    write_lora(tmp_path / "peft", LoRA(2, 0))
    with pytest.raises(FileRefused, match="lora_alpha = 0"):
        write_gguf(tmp_path / "peft", write_base(tmp_path / "base"), tmp_path / "a.gguf")


def test_says_how_to_get_the_package(tmp_path, monkeypatch):
    known = builtins.__import__

    def without(name, *rest):
        if name == "gguf":
            raise ImportError(name)
        return known(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotAvailable, match=r"quickstudy\[gguf\]"):
        write_gguf(tmp_path, tmp_path, tmp_path / "a.gguf")


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_llama_cpp_computes_what_we_do(kind, language_model, tmp_path):
    pytest.importorskip("xllamacpp", reason="the optional package xllamacpp is not installed")
    from gguf_bases import log_probabilities, write_gguf_base

    base = language_model(kind)
    backbone = CausalLM(base)
    delta = LoRA(3, 5, ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"), rslora=True)
    body = Functional(lambda: delta.attach(backbone.module()))
    draws = torch.Generator().manual_seed(0)
    start = delta.init(body.module(), {}, draws)
    params = {name: 0.3 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    write_peft(tmp_path / "peft", params, delta, base, "CAUSAL_LM")
    write_gguf(tmp_path / "peft", base, tmp_path / "a.gguf")
    write_gguf_base(base, tmp_path / "base.gguf")
    ids = torch.tensor([[1, 3, 9, 4, 12, 7]])
    row = {"input_ids": ids, "segments": torch.ones_like(ids), "asked": torch.arange(1, 7)[None]}
    plain = log_probabilities(tmp_path / "base.gguf", ids[0].tolist())
    torch.testing.assert_close(body(start, row)[0, -1].log_softmax(-1), plain, atol=1e-4, rtol=1e-4)
    found = log_probabilities(tmp_path / "base.gguf", ids[0].tolist(), tmp_path / "a.gguf")
    torch.testing.assert_close(body(params, row)[0, -1].log_softmax(-1), found, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, found, atol=1e-2)
