"""Texts to token numbers."""

from __future__ import annotations

from quickstudy.backbones.pretrained import Base
from quickstudy.core.errors import InputError

_OFFSET_TYPES = ("roberta", "xlm-roberta", "camembert", "mpnet")


def tokenise(base: Base, texts: list[str], limit: int) -> tuple[list[list[int]], int]:
    """Token numbers of each text, special tokens included, at most `limit`; and how many texts were cut to that.

    Raises:
        InputError: a text holds characters that no encoding has, such as half of a surrogate pair.
    """
    for index, text in enumerate(texts):
        if not _encodable(text):
            raise InputError(f"text {index} is not valid Unicode: read the file as UTF-8 and drop what does not decode")
    with base.lock:
        rows: list[list[int]] = base.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
        long = [index for index, row in enumerate(rows) if len(row) > limit]
        if long:
            cut = base.tokenizer([texts[index] for index in long], truncation=True, max_length=limit)["input_ids"]
            for index, row in zip(long, cut, strict=True):
                rows[index] = row
    return rows, len(long)


def position_limit(base: Base) -> int:
    """The most tokens that the encoder has positions for."""
    config = base.model.config
    positions = int(getattr(config, "max_position_embeddings", None) or base.tokenizer.model_max_length)
    offset = int(config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_TYPES else 0
    return min(positions - offset, int(base.tokenizer.model_max_length))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
