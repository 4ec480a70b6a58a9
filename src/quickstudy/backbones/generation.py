"""Writing text with a language model, each row with a prompt, and if wanted an adapter, of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.backbones.language_model import LanguageModel
from quickstudy.core.errors import InputError
from quickstudy.core.types import Params

Run: TypeAlias = Callable[[Params, dict[str, Tensor], Any], Tensor]
"""Logits [row, asked, vocabulary] of parameters, inputs and transformers' cache: see `CausalModule.forward`."""


@torch.no_grad()
def generate(
    backbone: LanguageModel,
    run: Run,
    params: Params,
    inputs: dict[str, Tensor],
    most: int = 128,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """What the model writes after each row, up to its end, `most` tokens, or as many as it has room for.

    What a row gets does not depend on the other rows, but for rounding. Keys and values of earlier tokens are kept.

    Args:
        backbone: of the model.
        run: computes logits with it and a delta.
        params: what `run` takes; with one more axis in front, [row, ...], each row has its own (LoRA).
        inputs: what `backbone.begin` returned. For causal models it may have `before_ids` and `before_segments` too, as
            `input_ids` and `segments` of what each text begins with: [row, token], or [1, token] where that is the same
            for all rows, which is then read once.
        most: tokens written.
        temperature: 0 takes the likeliest token each time; above 0 they are drawn from the logits divided by it.
        generator: of the draws, on the CPU.

    Raises:
        InputError: a row is so long that there is no room after it.
        ValueError: `most` is below 1, or the temperature is below 0.
    """
    if most < 1 or temperature < 0:
        raise ValueError(f"most is {most} and temperature {temperature}; give at least 1 and at least 0")
    before, inputs = _parted(inputs)
    if (room := backbone.room(inputs)) < 1:
        raise InputError(f"a text is {1 - room} tokens too long for anything to be written after it; shorten it")
    most = min(most, room)
    end, cache = backbone.end, backbone.new_cache()
    if before:
        run(params, before, cache)
        cache.batch_repeat_interleave(len(inputs["asked"]) // len(before["asked"]))
    done = torch.zeros(len(inputs["asked"]), dtype=torch.bool, device=inputs["asked"].device)
    tokens: list[Tensor] = []
    while len(tokens) < most and not bool(done.all()):
        ids = _next(run(params, inputs, cache)[:, 0], temperature, generator)
        tokens.append(ids)
        done |= ids[:, 0] == end
        inputs = backbone.after(inputs, ids)
    return [backbone.text(_until(row, end)) for row in torch.cat(tokens, 1).tolist()]


def _parted(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is read before the rows, and the rows, whose `segments` have those of it in front."""
    if "before_ids" not in inputs:
        return {}, inputs
    rows = {name: tensor for name, tensor in inputs.items() if not name.startswith("before")}
    ids, segments = inputs["before_ids"], inputs["before_segments"]
    rows["segments"] = torch.cat([segments.expand(len(rows["asked"]), -1), rows["segments"]], 1)
    return {"input_ids": ids, "segments": segments, "asked": torch.ones_like(ids[:, :1])}, rows


def _next(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """int64 [row, 1]."""
    if not temperature:
        return logits.argmax(-1, keepdim=True)
    shares = torch.softmax(logits.float() / temperature, -1).cpu()
    return torch.multinomial(shares, 1, generator=generator).to(logits.device)


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
