"""Adapters of language models go both ways between this package and PEFT."""

import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM

from quickstudy.backbones import CausalLM
from quickstudy.core.functional import Functional
from quickstudy.deltas import LoRA, read_peft, write_peft

peft = pytest.importorskip("peft", reason="the optional package peft is not installed")

TARGETS = {
    "llama": ("q_proj", "v_proj", "down_proj"),
    "qwen3": ("k_proj", "o_proj"),
    "gemma3": ("gate_proj",),
    "gpt2": ("c_attn", "mlp.c_proj"),
    "opt": ("fc1", "out_proj"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_peft_computes_what_we_do_and_we_read_what_it_writes(kind, language_model, tmp_path):
    backbone, delta = CausalLM(language_model(kind)), LoRA(3, 5, TARGETS[kind])
    body = Functional(lambda: delta.attach(backbone.module()))
    draws = torch.Generator().manual_seed(0)
    start = delta.init(body.module(), {}, draws)
    params = {name: 0.3 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    write_peft(tmp_path / "ours", params, delta, language_model(kind), "CAUSAL_LM")
    ids = torch.tensor([[3, 9, 4, 12, 7]])
    row = {"input_ids": ids, "segments": torch.ones_like(ids), "asked": torch.arange(1, 6)[None]}
    with warnings.catch_warnings(), torch.no_grad():
        # PEFT 0.21 with transformers 5.23 warns of a renamed attribute, and says that it sees how GPT-2 keeps weights.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
        base = AutoModelForCausalLM.from_pretrained(language_model(kind))
        model = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
        found = model(input_ids=ids).logits
        model.save_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(body(params, row), found, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(body({}, row), found, atol=1e-2)
    again, loaded = read_peft(tmp_path / "theirs")
    assert (again.rank, again.scale) == (delta.rank, delta.scale)
    assert all(torch.equal(loaded[name], params[name]) for name in params)
