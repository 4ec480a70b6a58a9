"""Texts to token numbers."""

from __future__ import annotations

from quickstudy.backbones.pretrained import Base


def tokenise(base: Base, texts: list[str], limit: int) -> tuple[list[list[int]], int]:
    """Token numbers of each text, special tokens included, at most `limit`; and how many texts were cut to that."""
    with base.lock:
        rows: list[list[int]] = base.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
        long = [index for index, row in enumerate(rows) if len(row) > limit]
        if long:
            cut = base.tokenizer([texts[index] for index in long], truncation=True, max_length=limit)["input_ids"]
            for index, row in zip(long, cut, strict=True):
                rows[index] = row
    return rows, len(long)


def position_limit(base: Base) -> int:
    """The most tokens that the encoder has positions for; RoBERTa and its kin count them from the padding number on."""
    config = base.model.config
    positions = int(getattr(config, "max_position_embeddings", None) or base.tokenizer.model_max_length)
    counted_from = getattr(getattr(base.model, "embeddings", None), "padding_idx", -1) + 1
    return min(positions - counted_from, int(base.tokenizer.model_max_length))
