"""Words of the command line to values of the library."""

from __future__ import annotations

import typer


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
