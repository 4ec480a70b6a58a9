"""Tiny encoders of several types, written to folders as their users keep them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["my", "card", "is", "lost", "where", "order", "a", "new", "one", "please", "cancel", "it", "now", "thanks"],
]

SMALL = {"vocab_size": len(WORDS), "pad_token_id": 0, "max_position_embeddings": 24}
DEEP = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {
    "bert": lambda: BertConfig(**SMALL, **DEEP),
    "roberta": lambda: RobertaConfig(**SMALL, **DEEP),
    "distilbert": lambda: DistilBertConfig(**SMALL, dim=16, n_layers=3, n_heads=2, hidden_dim=32),
    "mpnet": lambda: MPNetConfig(**SMALL, **DEEP),
}


def write_encoder(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder with a random encoder of type `kind` and a tokeniser over `WORDS`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModel.from_config(CONFIGS[kind]())
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Type of model -> folder that holds a tiny one."""
    made: dict[str, str] = {}

    def folder(kind: str) -> str:
        if kind not in made:
            made[kind] = str(write_encoder(tmp_path_factory.mktemp(kind), kind))
        return made[kind]

    return folder
