"""Prompts and prefixes in PEFT's files: one tensor, [token, entry].

The entries of a prefix are the keys and then the values of the first layer, those of the next, and so on; each of them
head by head. In front of a decoder PEFT lets layer j of n read the pair 2j modulo n, so that with an even n two layers
share one. So each pair is written twice, as if there were 2n layers, which gives each layer its own, in PEFT too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from quickstudy.core.types import Json, Params
from quickstudy.deltas.peft_folder import UNSUPPORTED, PeftFolder
from quickstudy.deltas.prefix import Prefix
from quickstudy.deltas.prompt import Prompt

TENSOR = "prompt_embeddings"
_PROMPT = "prompt.embeddings"
_PLAIN: dict[str, tuple[Json, ...]] = {
    "task_type": ("CAUSAL_LM",),
    "num_transformer_submodules": (1, None),
    "modules_to_save": (None, []),
}
_OF_ENCODER = _PLAIN | {"task_type": ("SEQ_2_SEQ_LM",), "num_transformer_submodules": (1, 2, None)}
"""For a prompt on the encoder. PEFT keeps as many embeddings again for the decoder and never uses them."""
_OF_DECODER = _OF_ENCODER | {"num_transformer_submodules": (2, None)}
"""For a prefix, which stands in front of the decoder."""


def prompt_files(delta: Prompt, params: Mapping[str, Tensor]) -> tuple[dict[str, Json], Params]:
    """The entries of the configuration that are a prompt's own, and its tensor.

    Raises:
        ValueError: `params` are not the embeddings of so many tokens.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in params.items()}
    if [(name, len(shape), shape[:1]) for name, shape in shapes.items()] != [(_PROMPT, 2, (delta.tokens,))]:
        raise ValueError(f"expected {_PROMPT} [{delta.tokens}, width] and nothing else; there are {shapes}")
    embeddings = params[_PROMPT]
    config = {
        "num_virtual_tokens": delta.tokens,
        "token_dim": embeddings.shape[1],
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    return config, {TENSOR: embeddings}


def read_prompt(folder: PeftFolder) -> tuple[Prompt, Params]:
    """The delta and its embeddings in float32.

    Raises:
        FileRefused: the folder is neither a language model's nor an encoder-decoder's, or its tensor is missing or has
            the wrong shape.
    """
    if folder.config.get("task_type") == "SEQ_2_SEQ_LM":
        folder.require(_OF_ENCODER)
        sides = 1 if folder.config.get("num_transformer_submodules") == 1 else 2
    else:
        folder.require(_PLAIN)
        sides = 1
    tokens, tensor = _read(folder, sides=sides)
    return Prompt(tokens), {_PROMPT: tensor[:tokens].clone()}


def prefix_files(delta: Prefix, params: Mapping[str, Tensor], sides: int = 1) -> tuple[dict[str, Json], Params]:
    """The entries of the configuration that are a prefix's own, and its tensor.

    Args:
        delta: the prefix.
        params: its keys and values.
        sides: 2 where it is an encoder-decoder's.

    Raises:
        ValueError: `params` are not the keys and values of so many tokens, or layers differ in shape.
    """
    layers = len(params) // 2
    names = [f"prefix.layers.{number}.{kind}" for number in range(layers) for kind in ("keys", "values")]
    if set(names) != params.keys() or not names:
        message = "give `settled` ones" if delta.through else f"there are {sorted(params)[:3]}"
        raise ValueError(f"expected prefix.layers.<number>.keys and .values of each layer; {message}")
    shapes = sorted({tuple(tensor.shape) for tensor in params.values()})
    if len(shapes) > 1 or len(shapes[0]) != 3 or shapes[0][1] != delta.tokens:
        message = f"keys and values have shapes {shapes}; PEFT takes one [head, token, width], of {delta.tokens} tokens"
        raise ValueError(message)
    heads, tokens, width = shapes[0]
    columns = [params[name].transpose(0, 1).reshape(tokens, heads * width) for name in names]
    pairs = [torch.cat(pair, 1) for pair in zip(columns[::2], columns[1::2], strict=True)]
    config = {
        "num_virtual_tokens": tokens,
        "token_dim": heads * width,
        "num_attention_heads": heads,
        "num_layers": sides * layers,
        "num_transformer_submodules": sides,
        "prefix_projection": False,
        "encoder_hidden_size": heads * width,
    }
    return config, {TENSOR: torch.cat([pair for pair in pairs for _ in range(sides)], 1)}


def read_prefix(folder: PeftFolder) -> tuple[Prefix, Params]:
    """The delta and its keys and values in float32; where PEFT trained them through a network, what this made of them.

    Raises:
        FileRefused: the folder is neither a language model's nor an encoder-decoder's, or its tensor is missing or has
            the wrong shape.
    """
    heads, layers = folder.whole_number("num_attention_heads"), folder.whole_number("num_layers")
    width = folder.whole_number("token_dim")
    decoder = folder.config.get("task_type") == "SEQ_2_SEQ_LM"
    folder.require(_OF_DECODER if decoder else _PLAIN)
    if width % heads:
        raise folder.refusal(UNSUPPORTED, f"has token_dim = {width}, which {heads} attention heads cannot share")
    tokens, tensor = _read(folder, 2 * layers)
    pairs = tensor.reshape(tokens, layers, 2, heads, width // heads).permute(1, 2, 3, 0, 4)
    if decoder:
        pairs = pairs[::2] if layers % 2 == 0 and pairs[::2].equal(pairs[1::2]) else pairs[_read_by(layers)]
    return Prefix(tokens), {
        f"prefix.layers.{number}.{kind}": part.contiguous()
        for number, pair in enumerate(pairs)
        for kind, part in zip(("keys", "values"), pair, strict=True)
    }


def _read_by(layers: int) -> list[int]:
    """The pair of keys and values that each layer of a decoder reads in PEFT."""
    return [2 * number % layers for number in range(layers)]


def _read(folder: PeftFolder, parts: int = 1, sides: int = 1) -> tuple[int, Tensor]:
    """The number of tokens and the tensor [sides * token, parts * token_dim]."""
    tokens, width = folder.whole_number("num_virtual_tokens"), parts * folder.whole_number("token_dim")
    if extra := sorted(folder.tensors.keys() - {TENSOR}):
        raise folder.refusal("extra_keys", f"holds {extra[0]!r}; expected only {TENSOR!r}")
    if TENSOR not in folder.tensors:
        raise folder.refusal("missing_keys", f"lacks {TENSOR!r}; save the adapter again")
    tensor = folder.tensors[TENSOR].to(torch.float32)
    if tensor.dim() != 2:
        raise folder.refusal("wrong_rank", f"{TENSOR!r} has {tensor.dim()} axes, expected 2")
    if tensor.shape != (sides * tokens, width):
        expected = [sides * tokens, width]
        raise folder.refusal("wrong_shape", f"{TENSOR!r} has shape {list(tensor.shape)}, expected {expected}")
    return tokens, tensor
