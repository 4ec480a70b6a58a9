"""Folders go both ways between this package and PEFT."""

import warnings
from dataclasses import replace

import pytest
import torch
from peft_folders import change, retensor
from safetensors.torch import load_file
from torch.func import functional_call

from quickstudy.core.errors import FileRefused
from quickstudy.core.files import REASONS
from quickstudy.deltas import LoRA, read_peft, write_peft
from quickstudy.deltas.peft_folder import UNSUPPORTED

peft = pytest.importorskip("peft", reason="the optional package peft is not installed")


def matrices(delta, factory, seed=0):
    generator = torch.Generator().manual_seed(seed)
    params = delta.init(delta.attach(factory()), {}, generator)
    return {name: torch.randn(tensor.shape, generator=generator) * 0.3 for name, tensor in params.items()}


def ours(delta, params, factory, inputs):
    with torch.no_grad():
        return functional_call(delta.attach(factory()), params, (inputs,))


def in_peft(call):
    """PEFT 0.21 with transformers 5.23 warns of a name that the latter has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        return call()


DELTAS = [
    LoRA(rank=3),
    LoRA(rank=4, alpha=3, rslora=True),
    LoRA(rank=2, targets=("dense",), layers=(0, 2)),
    LoRA(rank=2, targets=("query", "intermediate.dense"), layers=(1,)),
]


@pytest.mark.parametrize("delta", DELTAS, ids=str)
def test_peft_loads_what_we_write(delta, factory, inputs, tmp_path):
    params = matrices(delta, factory)
    write_peft(tmp_path / "adapter", params, delta, "tiny")
    module = factory()
    base = ours(LoRA(), LoRA().init(LoRA().attach(factory()), {}, torch.Generator()), factory, inputs)
    module.model = in_peft(lambda: peft.PeftModel.from_pretrained(module.model, tmp_path / "adapter").eval())
    with torch.no_grad():
        found = module(inputs)
    assert torch.allclose(found, ours(delta, params, factory, inputs), atol=1e-5)
    assert not torch.allclose(found, base, atol=1e-2)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("targets", [["query", "value"], r".*layer\.[02]\..*(key|dense)", "all-linear"])
def test_we_load_what_peft_writes(targets, rslora, factory, inputs, tmp_path):
    module = factory()
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_rslora=rslora, lora_dropout=0.1)
    model = in_peft(lambda: peft.get_peft_model(module.model, config).eval())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        module.model = model
        expected = module(inputs)
    in_peft(lambda: model.save_pretrained(tmp_path))
    delta, params = read_peft(tmp_path)
    assert torch.allclose(ours(delta, params, factory, inputs), expected, atol=1e-5)


def test_round_trip_is_exact(factory, inputs, tmp_path):
    delta = LoRA(rank=3, alpha=7, layers=(1, 2))
    params = matrices(delta, factory)
    write_peft(tmp_path / "a", params, delta, "tiny")
    again, loaded = read_peft(tmp_path / "a")
    assert loaded.keys() == params.keys()
    assert all(torch.equal(loaded[name], params[name]) for name in params)
    assert again.scale == delta.scale
    assert again.init(again.attach(factory()), {}, torch.Generator()).keys() == params.keys()
    write_peft(tmp_path / "a", loaded, again, "tiny")
    assert all(torch.equal(read_peft(tmp_path / "a")[1][name], params[name]) for name in params)


def to_pickle(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def drop_first(tensors):
    return {name: tensors[name] for name in sorted(tensors)[1:]}


def with_extra(tensors):
    return tensors | {"base_model.model.classifier.weight": torch.zeros(2, 2)}


def with_nan(tensors):
    first = sorted(tensors)[0]
    return tensors | {first: torch.full_like(tensors[first], float("nan"))}


def one_axis_less(tensors):
    first = sorted(tensors)[0]
    return tensors | {first: tensors[first][0].clone()}


def cut_short(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def link(folder):
    path = folder / "adapter_model.safetensors"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


BAD = {
    "another method": (change(peft_type="IA3"), "unsupported", "IA3"),
    "no method": (change(peft_type=None), "unsupported", "peft_type"),
    "dora": (change(use_dora=True), "unsupported", "use_dora"),
    "bias": (change(bias="all"), "unsupported", "bias"),
    "ranks by layer": (change(rank_pattern={"query": 2}), "unsupported", "rank_pattern"),
    "scales by layer": (change(alpha_pattern={"query": 2}), "unsupported", "alpha_pattern"),
    "a saved head": (change(modules_to_save=["classifier"]), "unsupported", "modules_to_save"),
    "a changed base": (change(init_lora_weights="pissa"), "unsupported", "init_lora_weights"),
    "no rank": (change(r=None), "unsupported", "r = None"),
    "rank zero": (change(r=0), "unsupported", "r = 0"),
    "alpha as text": (change(lora_alpha="16"), "unsupported", "lora_alpha"),
    "another rank": (change(r=5), "wrong_shape", "expected 5"),
    "a matrix missing": (retensor(drop_first), "missing_keys", "lora_A"),
    "nothing": (retensor(lambda _: {}), "missing_keys", "no LoRA matrices"),
    "a matrix too many": (retensor(with_extra), "extra_keys", "classifier"),
    "NaN": (retensor(with_nan), "not_finite", "NaN"),
    "a vector": (retensor(one_axis_less), "wrong_rank", "1 axes"),
    "cut short": (cut_short, "truncated", "cut short"),
    "a pickle": (to_pickle, "pickle", "safe_serialization"),
    "a link": (link, "symlink", "link"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "missing_file", "no such file"),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), "not_json", "JSON"),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), "not_json", "object"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case, factory, tmp_path):
    damage, reason, words = BAD[case]
    delta = LoRA(rank=3)
    write_peft(tmp_path / "a", matrices(delta, factory), delta, "tiny")
    read_peft(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(FileRefused, match=words) as refusal:
        read_peft(tmp_path / "a")
    assert refusal.value.reason == reason
    assert reason in (*REASONS, UNSUPPORTED)
    assert refusal.value.path.parent == tmp_path / "a"


def test_writing_refuses_what_is_no_lora(factory, tmp_path):
    delta = LoRA(rank=3)
    params = matrices(delta, factory)
    first = next(iter(params))
    bad = [
        ({}, "no matrices"),
        ({name: tensor for name, tensor in params.items() if name != first}, "is not"),
        (params | {"head.weight": torch.zeros(2, 2)}, "head.weight"),
        (params | {first: params[first][:2]}, "rank 3"),
    ]
    for wrong, words in bad:
        with pytest.raises(ValueError, match=words):
            write_peft(tmp_path / "a", wrong, delta, "tiny")
    with pytest.raises(ValueError, match="rank 5"):
        write_peft(tmp_path / "a", params, replace(delta, rank=5), "tiny")
    assert not list(tmp_path.iterdir())
