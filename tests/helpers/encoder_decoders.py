"""Tiny encoder-decoders of several types, written to folders as their users keep them; a letter is a token."""

from pathlib import Path

import torch
from language_models import VOCABULARY, letter_tokeniser
from tokenizers import processors
from transformers import AutoModelForSeq2SeqLM, BartConfig, MarianConfig, T5Config

SMALL = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "eos_token_id": 2}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
LAYERS = {
    "d_model": 32,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
CONFIGS = {
    "t5": lambda: T5Config(**SMALL, **T5, decoder_start_token_id=0),
    "t5-three": lambda: T5Config(**SMALL, **T5 | {"num_layers": 3}, decoder_start_token_id=0),
    "bart": lambda: BartConfig(**SMALL, **LAYERS),
    "marian": lambda: MarianConfig(**SMALL, **LAYERS),
}


def write_encoder_decoder(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder with a random model of type `kind` and a tokeniser that ends each text."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(CONFIGS[kind]())
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, std=1.0 if "shared" in name else 0.3)
    model.save_pretrained(folder)
    tokenizer = letter_tokeniser()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", VOCABULARY["</s>"])]
    )
    tokenizer.save_pretrained(folder)
    return folder
