"""Rows of tokens as learners on language models handle them: which tokens are whose, several rows in one, likeness.

Rows are named tensors as `CausalModule.forward` takes them: `input_ids` and `segments` [row, token], `asked` [row,
asked].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quickstudy.backbones.causal_mask import SHARED
from quickstudy.core.transforms import is_mapped
from quickstudy.core.types import Inputs

Rows = dict[str, Tensor]


def rows_of(inputs: Inputs) -> Rows:
    """`inputs`, which must be named tensors.

    Raises:
        TypeError: they are not, for the backbone is no language model.
    """
    if not isinstance(inputs, dict):
        raise TypeError(
            "a language model reads named tensors, and this task has one tensor; encode texts with its batch"
        )
    return inputs


def prompt_tokens(rows: Rows) -> Tensor:
    """bool [row, token]: the tokens up to the first one asked about."""
    places = torch.arange(1, rows["input_ids"].shape[-1] + 1, device=rows["asked"].device)
    return (places <= rows["asked"][:, :1]) & (rows["segments"] != 0)


def is_note(rows: Rows) -> Tensor:
    """bool [row]: whether nothing is asked about a row."""
    return ~(rows["asked"] > 0).any(1)


def one_row(context: Rows, rows: Rows) -> Rows:
    """Tensors [token] and `asked` [row * asked]: all rows behind one copy of the context, where none sees another."""
    tokens = rows["input_ids"].shape[1]
    length = context["input_ids"].numel()
    numbers = torch.arange(1, len(rows["asked"]) + 1, device=rows["asked"].device)[:, None]
    shared = torch.where(context["segments"] != 0, SHARED, 0).flatten()
    return {
        "input_ids": torch.cat([context["input_ids"].flatten(), rows["input_ids"].flatten()]),
        "segments": torch.cat([shared, torch.where(rows["segments"] != 0, numbers, 0).flatten()]),
        "asked": asked_in_one_row(rows["asked"], tokens, length),
    }


def after_all(examples: Rows, rows: Rows) -> Rows:
    """`rows` as `generate` takes them, after all examples, whose `input_ids` and `segments` are [example, token]."""
    kept = examples["segments"] != 0
    ids, segments = (examples[name][kept][None] for name in ("input_ids", "segments"))
    return rows | {"before_ids": ids, "before_segments": segments}


def rows_after(examples: Rows, rows: Rows, order: Tensor) -> Rows:
    """`rows`, each with examples before it.

    Args:
        examples: `input_ids` and `segments` [example, token].
        rows: what is asked.
        order: int64 [row, example], which ones stand before a row, the first first.
    """
    before = {name: examples[name][order].flatten(1) for name in ("input_ids", "segments")}
    found = {name: torch.cat([tensor, rows[name]], 1) for name, tensor in before.items()}
    length = before["input_ids"].shape[1]
    return found | {"asked": torch.where(rows["asked"] > 0, rows["asked"] + length, 0)}


def logits_after(run: Callable[[Rows], Tensor], examples: Rows, rows: Rows) -> Tensor:
    """[row, asked, vocabulary]: what `run` gives for `rows` that all see one copy of `examples` and not each other.

    Args:
        run: logits [row, asked, vocabulary] of rows.
        examples: as in `rows_after`.
        rows: what is asked.
    """
    row = without_padding(one_row(examples, rows))
    logits = run({name: tensor[None] for name, tensor in row.items()})
    return logits.reshape(*rows["asked"].shape, -1)


def asked_in_one_row(asked: Tensor, tokens: int, before: int) -> Tensor:
    """[row * asked]: `asked` [row, asked] of rows of so many tokens, put one after the other behind so many others."""
    rows = torch.arange(len(asked), device=asked.device)[:, None]
    return torch.where(asked > 0, asked + before + tokens * rows, 0).flatten()


def without_padding(row: Rows) -> Rows:
    """`row`, tensors [token] and [asked], without its tokens of padding; as it is under `torch.vmap`, where sizes must
    not depend on values."""
    if is_mapped(row["segments"]):
        return row
    kept = row["segments"] != 0
    # Places are counted from 1, so that of a token is the number of kept ones up to it.
    places = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return {"input_ids": row["input_ids"][kept], "segments": row["segments"][kept], "asked": places[row["asked"]]}


def likeness(ids: Tensor, real: Tensor, others: Tensor, real_others: Tensor) -> Tensor:
    """[row, other]: the cosine of the counts of tokens of two sets of rows [row, token]; 0 where one has none.

    Args:
        ids: tokens.
        real: which of them count.
        others: tokens of the other rows.
        real_others: which of those count.
    """

    def shared(one: Tensor, here: Tensor, other: Tensor, there: Tensor) -> Tensor:
        same = one[:, None, :, None] == other[None, :, None, :]
        return (same & here[:, None, :, None] & there[None, :, None, :]).sum((-1, -2)).float()

    lengths = [shared(side, mask, side, mask).diagonal() for side, mask in ((ids, real), (others, real_others))]
    norms = (lengths[0][:, None] * lengths[1]).sqrt()
    return shared(ids, real, others, real_others) / norms.clamp(min=1.0)
