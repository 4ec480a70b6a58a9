"""Writing text with a causal language model, each row with a prompt, and if wanted an adapter, of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.errors import InputError
from quickstudy.core.functional import Functional
from quickstudy.core.types import Params


@torch.no_grad()
def generate(
    backbone: CausalLM,
    body: Functional,
    params: Params,
    prompts: Sequence[str],
    most: int = 128,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[str]:
    """What the model writes after each prompt, up to its end or `most` tokens.

    What a row gets does not depend on the other rows, but for rounding. Keys and values of earlier tokens are kept.

    Args:
        backbone: of the model.
        body: its module, with a delta attached.
        params: tensors of the module, by their names there; with one more axis in front, [row, ...], each row has its
            own (LoRA).
        prompts: texts.
        most: tokens written.
        temperature: 0 takes the likeliest token each time; above 0 they are drawn from the logits divided by it.
        generator: of the draws, on the CPU.

    Raises:
        InputError: there are no prompts, one has no token, or one is so long that nothing can be written after it.
        ValueError: `most` is below 1, or the temperature is below 0.
    """
    if not prompts:
        raise InputError("no prompts were given; expected at least one")
    if most < 1 or temperature < 0:
        raise ValueError(f"most is {most} and temperature {temperature}; give at least 1 and at least 0")
    rows = backbone.begun(prompts)
    longest = max(map(len, rows))
    if longest >= backbone.max_tokens:
        raise InputError(f"a prompt has {longest} tokens, and max_tokens is {backbone.max_tokens}; shorten it")
    most = min(most, backbone.max_tokens - longest)
    written = _written(body, params, rows, (most, backbone.end), backbone.device, temperature, generator)
    return [backbone.text(_until(row, backbone.end)) for row in written.tolist()]


def _written(
    body: Functional,
    params: Params,
    rows: list[list[int]],
    stop: tuple[int, int],
    device: str,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """int64 [row, token]: at most `stop[0]` tokens, until every row has written `stop[1]`."""
    from transformers import DynamicCache

    most, end = stop
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_side="left").to(device)
    real = [torch.ones(len(row), dtype=torch.int64) for row in rows]
    segments = pad_sequence(real, batch_first=True, padding_side="left").to(device)
    cache, done = DynamicCache(), torch.zeros(len(rows), dtype=torch.bool, device=device)
    tokens: list[Tensor] = []
    while len(tokens) < most and not bool(done.all()):
        asked = torch.full((len(rows), 1), ids.shape[1], device=device)
        logits = body(params, {"input_ids": ids, "segments": segments, "asked": asked}, cache)[:, 0]
        ids = _next(logits, temperature, generator)
        tokens.append(ids)
        done |= ids[:, 0] == end
        segments = torch.cat([segments, torch.ones_like(ids)], 1)
    return torch.cat(tokens, 1)


def _next(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """int64 [row, 1]."""
    if not temperature:
        return logits.argmax(-1, keepdim=True)
    shares = torch.softmax(logits.float() / temperature, -1).cpu()
    return torch.multinomial(shares, 1, generator=generator).to(logits.device)


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
