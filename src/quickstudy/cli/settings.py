"""Words of the command line to values of the library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from quickstudy.lifecycle.adapting import TableColumns


def use_threads(threads: int | None) -> None:
    """Computes with so many threads from now on; None leaves that to torch."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def unknown_of(word: str | None) -> str | float | None:
    """None, "auto" or a probability.

    Raises:
        BadParameter: the word is none of these.
    """
    if word is None or word == "auto":
        return word
    try:
        return float(word)
    except ValueError as error:
        raise typer.BadParameter(f"--unknown is {word!r}; give auto or a probability from 0 to 1") from error


def columns_of(writes: bool, text: str | None, label: str | None, split: str | None) -> TableColumns:
    """The columns of a file, those that were not named by their usual names for texts and labels, or, where a language
    model `writes`, for prompts and completions."""
    from quickstudy.lifecycle.adapting import TableColumns
    from quickstudy.lifecycle.writing_files import PAIR_COLUMNS

    usual = PAIR_COLUMNS if writes else TableColumns()
    return TableColumns(text or usual.text, label or usual.label, split)


def refuse(context: typer.Context, options: Sequence[str], why: str) -> None:
    """Lets none of `options`, by the names of their arguments, pass that the user has given.

    Raises:
        BadParameter: there is one.
    """
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"--{option.replace('_', '-')} is {why}")


def refuse_other(context: typer.Context, writes: bool, labels: Sequence[str], language_models: Sequence[str]) -> None:
    """As `refuse`, those of `labels` where a language model `writes`, else those of `language_models`."""
    if writes:
        refuse(context, labels, "for labels, and a language model writes texts; leave it out")
    else:
        refuse(context, language_models, "for language models; leave it out")
