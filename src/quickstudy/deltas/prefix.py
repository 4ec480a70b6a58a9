"""Prefix tuning (Li and Liang, 2021, arXiv:2101.00190): trained keys and values in front of each text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quickstudy.core.places import KeysAndValues, PrefixPlace, for_rows
from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta
from quickstudy.deltas.prompt import Start, check_start, first_tokens

SCALE = 0.02
"""The standard deviation of what is drawn for a start at random."""

Sizes: TypeAlias = list[tuple[int, int]]
"""Heads and widths of a head: of keys and values in turn, layer after layer."""


@dataclass(frozen=True)
class Prefix(Delta):
    """Keys and values in front of each text, as if tokens stood there that each layer could choose anew.

    In an encoder-decoder they stand in front of what the decoder writes.

    Attributes:
        tokens: of how many tokens.
        start: what they begin as: keys and values of tokens that the model has read (section 7.4 of the paper), or
            `"random"`.
        through: width of the small network that makes all of them from one vector for each token, which trains more
            steadily from a random start; None to train them as they are. `settled` makes the one of the other.
    """

    keeps_outputs: ClassVar[bool] = False

    tokens: int = 10
    start: Start = "vocabulary"
    through: int | None = None

    def attach(self, module: nn.Module) -> nn.Module:
        """`module` with keys and values, all zero, or with the network in their place.

        Raises:
            ValueError: a field has no meaning, or the module has no place for a prefix.
        """
        check_start(self.tokens, self.start)
        if self.through is not None and (self.through < 1 or self.start != "random"):
            raise ValueError(f'through is {self.through} with start={self.start!r}; give 1 or more, and start="random"')
        for name, part in list(module.named_modules()):
            if isinstance(part, PrefixPlace) and not part.tokens:
                parent, _, last = name.rpartition(".")
                setattr(module.get_submodule(parent), last, self._place(part))
                return module
        raise ValueError("the module has no free place for a prefix; give a language model with no prefix yet")

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:  # noqa: ARG002 - contract
        """`<place>.layers.<number>.keys` and `.values` [head, token, width], or the tensors of the network.

        Keys and values of tokens are those that `module` computes with its own weights.

        Raises:
            ValueError: a token is not in the vocabulary.
        """
        name, place = _found(module)
        if self.start == "random":
            shapes = {key: part.shape for key, part in place.named_parameters()}
            drawn = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
            return {f"{name}.{key}": tensor * _spread(key, tensor) for key, tensor in drawn.items()}
        ids = first_tokens(self.start, self.tokens, place.vocabulary, generator)
        params = {}
        for number, (keys, values) in enumerate(place.read(ids)):
            params[f"{name}.layers.{number}.keys"] = keys.float().clone()
            params[f"{name}.layers.{number}.values"] = values.float().clone()
        return params

    def settled(self, module: nn.Module, params: Params) -> Params:
        """The keys and values that the network in the attached `module` makes of `params`: tensors of `Prefix(tokens)`.

        Where there is no network, `params` as they are.
        """
        name, place = _found(module)
        if isinstance(place, PrefixTokens):
            return params
        assert isinstance(place, PrefixNetwork)
        inner = {key.removeprefix(f"{name}."): tensor for key, tensor in params.items()}
        past = functional_call(place, inner, (None,))
        return {
            f"{name}.layers.{number}.{kind}": tensor
            for number, pair in enumerate(past)
            for kind, tensor in zip(("keys", "values"), pair, strict=True)
        }

    def _place(self, place: PrefixPlace) -> PrefixPlace:
        one = place.read(torch.zeros(1, dtype=torch.int64))
        sizes = [(tensor.shape[0], tensor.shape[2]) for pair in one for tensor in pair]
        if self.through is None:
            return PrefixTokens(place, self.tokens, sizes)
        return PrefixNetwork(place, self.tokens, sizes, self.through)


class LayerPrefix(nn.Module):
    """The keys and values of one layer."""

    def __init__(self, tokens: int, keys: tuple[int, int], values: tuple[int, int]) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(keys[0], tokens, keys[1]))
        self.values = nn.Parameter(torch.zeros(values[0], tokens, values[1]))

    def forward(self, rows: int) -> tuple[Tensor, Tensor]:
        """Both for each of so many rows."""
        return for_rows(self.keys, 3, rows), for_rows(self.values, 3, rows)


class PrefixTokens(PrefixPlace):
    """Trained keys and values, of one prefix or, with one more axis in front, of one for each row."""

    def __init__(self, place: PrefixPlace, tokens: int, sizes: Sizes) -> None:
        super().__init__(place.read, place.vocabulary, tokens)
        pairs = zip(sizes[::2], sizes[1::2], strict=True)
        self.layers = nn.ModuleList(LayerPrefix(tokens, keys, values) for keys, values in pairs)

    def forward(self, rows: int) -> KeysAndValues:
        """Those of each of so many rows.

        Raises:
            ValueError: there are prefixes for another number of rows.
        """
        return [layer(rows) for layer in self.layers]


class PrefixNetwork(PrefixPlace):
    """Keys and values from a network of two layers; with one more axis in front of its tensors, of one for each row.

    all keys and values of a token = tanh(vector W + b) V + c
    """

    def __init__(self, place: PrefixPlace, tokens: int, sizes: Sizes, through: int) -> None:
        super().__init__(place.read, place.vocabulary, tokens)
        self.sizes = sizes
        total = sum(heads * width for heads, width in sizes)
        self.vectors = nn.Parameter(torch.zeros(tokens, through))
        self.inner = nn.Parameter(torch.zeros(through, through))
        self.inner_bias = nn.Parameter(torch.zeros(1, through))
        self.outer = nn.Parameter(torch.zeros(through, total))
        self.outer_bias = nn.Parameter(torch.zeros(1, total))

    def forward(self, rows: int | None) -> KeysAndValues:
        """Those of each of so many rows; without rows where that is None and there is one network.

        Raises:
            ValueError: there are networks for another number of rows.
        """
        hidden = torch.tanh(self.vectors @ self.inner + self.inner_bias)
        parts = self._split(hidden @ self.outer + self.outer_bias)
        return parts if rows is None else [(for_rows(k, 3, rows), for_rows(v, 3, rows)) for k, v in parts]

    def _split(self, tokens: Tensor) -> KeysAndValues:
        columns = torch.split(tokens, [heads * width for heads, width in self.sizes], -1)
        parts = [
            column.reshape(*column.shape[:-1], *size).transpose(-2, -3)
            for column, size in zip(columns, self.sizes, strict=True)
        ]
        return list(zip(parts[::2], parts[1::2], strict=True))


def _found(module: nn.Module) -> tuple[str, PrefixPlace]:
    return next((name, part) for name, part in module.named_modules() if isinstance(part, PrefixPlace))


def _spread(name: str, tensor: Tensor) -> float:
    """The standard deviation of a start: of matrices such that activations keep theirs, of biases 0."""
    if name.endswith("_bias"):
        return 0.0
    if name.endswith((".inner", ".outer")):
        return 1 / math.sqrt(tensor.shape[0])
    return 1.0 if name.endswith(".vectors") else SCALE
