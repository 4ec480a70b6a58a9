"""Writing text with a causal language model, each row with a prompt, and if wanted an adapter, of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.types import Params

Run: TypeAlias = Callable[[Params, dict[str, Tensor], Any], Tensor]
"""Logits [row, asked, vocabulary] of parameters, inputs and transformers' cache: see `CausalModule.forward`."""


def begin(backbone: CausalLM, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Prompts as inputs that ask for the token after each, padding before the shorter ones.

    Raises:
        InputError: there are no prompts, one has no token, or one is so long that nothing can be written after it.
    """
    if not prompts:
        raise InputError("no prompts were given; expected at least one")
    rows = backbone.begun(prompts)
    longest = max(map(len, rows))
    if longest >= backbone.max_tokens:
        raise InputError(f"a prompt has {longest} tokens, and max_tokens is {backbone.max_tokens}; shorten it")
    ids = [torch.tensor(row) for row in rows]
    texts = [torch.ones(len(row), dtype=torch.int64) for row in rows]
    found = {
        name: pad_sequence(column, batch_first=True, padding_side="left").to(backbone.device)
        for name, column in (("input_ids", ids), ("segments", texts))
    }
    return found | {"asked": torch.full((len(rows), 1), longest, device=backbone.device)}


@torch.no_grad()
def generate(
    backbone: CausalLM,
    run: Run,
    params: Params,
    inputs: dict[str, Tensor],
    most: int = 128,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """What the model writes after each row, up to its end or `most` tokens.

    What a row gets does not depend on the other rows, but for rounding. Keys and values of earlier tokens are kept.

    Args:
        backbone: of the model.
        run: computes logits with it and a delta.
        params: what `run` takes; with one more axis in front, [row, ...], each row has its own (LoRA).
        inputs: what `begin` returned, or the same with more before it.
        most: tokens written.
        temperature: 0 takes the likeliest token each time; above 0 they are drawn from the logits divided by it.
        generator: of the draws, on the CPU.

    Raises:
        ValueError: `most` is below 1, or the temperature is below 0.
    """
    from transformers import DynamicCache

    if most < 1 or temperature < 0:
        raise ValueError(f"most is {most} and temperature {temperature}; give at least 1 and at least 0")
    end, cache = backbone.end, DynamicCache()
    done = torch.zeros(len(inputs["asked"]), dtype=torch.bool, device=backbone.device)
    tokens: list[Tensor] = []
    while len(tokens) < most and not bool(done.all()):
        ids = _next(run(params, inputs, cache)[:, 0], temperature, generator)
        tokens.append(ids)
        done |= ids[:, 0] == end
        segments = torch.cat([inputs["segments"], torch.ones_like(ids)], 1)
        inputs = {"input_ids": ids, "segments": segments, "asked": torch.ones_like(ids)}
    return [backbone.text(_until(row, end)) for row in torch.cat(tokens, 1).tolist()]


def _next(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """int64 [row, 1]."""
    if not temperature:
        return logits.argmax(-1, keepdim=True)
    shares = torch.softmax(logits.float() / temperature, -1).cpu()
    return torch.multinomial(shares, 1, generator=generator).to(logits.device)


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
