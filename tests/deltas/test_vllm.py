"""What vLLM takes, and what to do about the rest."""

import json

import pytest
from decoder_loras import write_lora

from quickstudy.deltas import LoRA, vllm_problems


@pytest.fixture
def plain(tmp_path):
    """The configuration of a plain LoRA."""
    write_lora(tmp_path, LoRA(2))
    return json.loads((tmp_path / "adapter_config.json").read_text())


def test_takes_a_plain_lora(plain):
    assert vllm_problems(plain) == []
    for entries in (
        {"r": 16, "target_modules": "all-linear"},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 16}, "alpha_pattern": {"q_proj": 4}},
        {"rank_pattern": None},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"modules_to_save": ["score"]},
        {"target_modules": ["qkv_proj", "model.layers.0.mlp.fc1"]},
    ):
        assert vllm_problems(plain | entries) == []
    del plain["bias"]
    assert vllm_problems(plain) == []
    assert vllm_problems(plain | {"r": 1}, cap=1) == []
    assert vllm_problems(plain | {"r": 400}, cap=512) == []


PROBLEMS = [
    ({"r": 17}, "start vLLM with --max-lora-rank 32"),
    ({"rank_pattern": {"q_proj": 33}}, "start vLLM with --max-lora-rank 64"),
    ({"r": 513}, "smaller one"),
    ({"r": None}, "whole number"),
    ({"rank_pattern": {"q_proj": 0}}, "whole number"),
    ({"lora_alpha": None}, "give a number"),
    ({"use_dora": True}, "use_dora=False"),
    ({"bias": "lora_only"}, 'bias="none"'),
    ({"bias": None}, 'bias="none"'),
    ({"lora_bias": True}, "lora_bias=False"),
    ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
    ({"modules_to_save": ["lm_head"]}, "without modules_to_save"),
    ({"modules_to_save": ["score", "lm_head"]}, "without modules_to_save"),
    ({"alora_invocation_tokens": [1]}, "activated"),
    ({"layer_replication": [[0, 2]]}, "repeated"),
    ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
    ({"use_qalora": True}, "QALoRA"),
    ({"trainable_token_indices": [1]}, "trained tokens"),
    ({"target_modules": ["h.0.attn.c_attn"]}, "c_attn: vLLM puts LoRA on q_proj"),
    ({"target_modules": []}, "name the layers"),
    ({"peft_type": "ADALORA"}, "as_lora"),
    ({"peft_type": "PROMPT_TUNING"}, "train a LoRA instead"),
    ({"peft_type": "PREFIX_TUNING"}, "train a LoRA instead"),
    ({"peft_type": "IA3"}, "train a LoRA"),
    ({"peft_type": None}, "train a LoRA"),
]


@pytest.mark.parametrize(("entries", "words"), PROBLEMS)
def test_says_what_to_do_about(entries, words, plain):
    (found,) = vllm_problems(plain | entries)
    assert words in found


def test_says_all_of_it_at_once(plain):
    assert len(vllm_problems(plain | {"r": 400, "use_dora": True, "bias": "all"})) == 3


def test_refuses_a_cap_that_vllm_does_not_take(plain):
    with pytest.raises(ValueError, match="cap is 20"):
        vllm_problems(plain, cap=20)
