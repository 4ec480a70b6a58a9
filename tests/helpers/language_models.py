"""Tiny causal language models of several types, written to folders as their users keep them; a letter is a token."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz =>"
VOCABULARY = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", *LETTERS])}

SMALL = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
COMMON = {**SMALL, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
WIDE = {**COMMON, "intermediate_size": 64, "num_key_value_heads": 2}
NEAR = {"head_dim": 8, "sliding_window": 4}
CONFIGS = {
    "llama": lambda: LlamaConfig(**WIDE),
    "qwen2": lambda: Qwen2Config(**WIDE),
    "qwen3": lambda: Qwen3Config(**WIDE, head_dim=8),
    "mistral": lambda: MistralConfig(**WIDE, sliding_window=None),
    "mistral-near": lambda: MistralConfig(**WIDE, sliding_window=4),
    "gemma2": lambda: Gemma2Config(**WIDE, **NEAR),
    "gemma3": lambda: Gemma3TextConfig(**WIDE, **NEAR),
    "gpt2": lambda: GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt-neox": lambda: GPTNeoXConfig(**COMMON, intermediate_size=64),
    "opt": lambda: OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=32),
}

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role[0] }}={{ message.content }}>{% endfor %}"
    "{% if add_generation_prompt %}a={% endif %}"
)


def write_language_model(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder with a random model of type `kind` and a tokeniser over `LETTERS`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind]())
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, std=1.0 if "lm_head" in name or "embed" in name else 0.3)
    model.save_pretrained(folder)
    tokenizer = letter_tokeniser()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def letter_tokeniser() -> PreTrainedTokenizerFast:
    """A tokeniser over `LETTERS`."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
