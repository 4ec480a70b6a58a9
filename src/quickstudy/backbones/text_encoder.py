"""Any Hugging Face encoder as a backbone for texts, by default the installed MiniLM."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from quickstudy.backbones.base import Backbone
from quickstudy.backbones.encoder_module import (
    ATTENTIONS,
    POOLINGS,
    EncoderModule,
    choose_attention,
    layers_of,
    pool,
    run_all,
    run_layers,
    skeleton,
)
from quickstudy.backbones.precision import DTYPES, faster_dtype
from quickstudy.backbones.pretrained import PACKAGED, Base, load_base
from quickstudy.backbones.token_cache import TokenCache, cache_key
from quickstudy.backbones.tokens import position_limit, tokenise
from quickstudy.core.errors import InputError
from quickstudy.core.types import Fingerprint, Params

CPU_TOKENS, GPU_TOKENS = 512, 32768
"""Most tokens, padding included, that the frozen part computes at once. On a CPU 512 was measured best: activations fit
its caches."""


@dataclass(frozen=True)
class TextEncoder(Backbone):
    """A pretrained encoder with a pooled vector per text.

    With `prefix` above 0, embeddings and the lowest layers are frozen: `inputs` computes their activations once per
    text and keeps them, and `module` holds the other layers only. The features are the same.

    Attributes:
        name: `"minilm"`, a folder, or a name on the Hugging Face hub.
        revision: of a hub name.
        pooling: `"mean"` over the tokens of the text, or `"cls"`, its first token.
        normalise: whether features have length 1, as users of sentence encoders expect; False for the raw vector.
        max_tokens: longer texts are cut, with a warning; never more than the encoder has positions for.
        prefix: number of lowest layers that are frozen and computed once per text.
        attention: `"auto"` for eager attention wherever something is differentiated or mapped, so that second
            derivatives and `torch.vmap` work, and the fused kernel elsewhere; or `"eager"`, or `"sdpa"`.
        dtype: in what the frozen work (`embed`, and the prefix in `inputs`) is computed: `"float32"`, `"bfloat16"`, or
            `"auto"` for the faster one on this device, measured. Results are float32. The module is always float32.
        cache_folder: where prefix activations are kept between runs; "" for memory only.
        device: where weights, inputs and features lie.

    Raises:
        ValueError: when first used, if a field has no meaning; the message names it.
        NotAvailable: when first used, if the encoder is not here, or its type cannot be split.
    """

    name: str = PACKAGED
    revision: str = ""
    pooling: str = "mean"
    normalise: bool = True
    max_tokens: int = 256
    prefix: int = 0
    attention: str = "auto"
    dtype: str = "float32"
    cache_folder: str = ""
    device: str = "cpu"

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self._base.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of layers, the prefix included."""
        return len(layers_of(self._base.model))

    @property
    def fingerprint(self) -> Fingerprint:
        """Name, revision and digest of the weights as they are stored, whatever `dtype` and `prefix` are."""
        return self._base.fingerprint

    def module(self) -> nn.Module:
        """A skeleton that maps what `inputs` returns to features [example, width].

        It is in eval mode. Its weights share their memory with those of all other skeletons of this encoder.
        """
        model = skeleton(self._base.model, self.prefix)
        return EncoderModule(model, self.prefix, self.pooling, self.normalise, self.attention).eval()

    def start(self, generator: torch.Generator) -> Params:  # noqa: ARG002 - nothing is drawn: the weights are given
        """The pretrained weights, not copied: `model.<name in the transformers model>` -> tensor."""
        return {name: tensor.detach() for name, tensor in self.module().named_parameters()}

    def inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the module reads, in the order of `texts`, padded to the longest.

        `mask` int64 [text, token], and `input_ids` int64 [text, token], or with a prefix `hidden` float32
        [text, token, width].

        Raises:
            InputError: there are no texts, or one is not a string.
        """
        _check_texts(texts)
        if self.prefix:
            return self._padded("hidden", self._prefix_activations(texts), 0)
        base = self._base
        rows = self._token_rows(base, list(texts))
        padding = int(base.tokenizer.pad_token_id or 0)
        return self._padded("input_ids", [torch.tensor(row) for row in rows], padding)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Features float32 [text, width] of the encoder as it is; the fast way where nothing is adapted.

        Raises:
            InputError: there are no texts, or one is not a string.
        """
        _check_texts(texts)
        base = self._frozen_base
        choose_attention(base.model, "sdpa")
        unique = list(dict.fromkeys(texts))
        features = torch.empty(len(unique), self.width, device=self.device)

        def keep(rows: list[int], ids: Tensor, mask: Tensor) -> None:
            hidden = run_all(base.model, ids, mask)
            features[torch.tensor(rows, device=self.device)] = pool(hidden.float(), mask, self.pooling, self.normalise)

        self._in_batches(base, unique, keep)
        place = {text: row for row, text in enumerate(unique)}
        return features[torch.tensor([place[text] for text in texts], device=self.device)]

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of `texts` have more than `max_tokens` tokens, so that their end is not read."""
        _check_texts(texts)
        return tokenise(self._base, list(texts), self._limit(self._base))[1]

    @property
    def _base(self) -> Base:
        self._check()
        base = load_base(self.name, self.revision, torch.float32, self.device)
        if self.prefix and self.prefix > len(layers_of(base.model)):
            raise ValueError(f"prefix is {self.prefix}, but {self.name!r} has {len(layers_of(base.model))} layers")
        return base

    @property
    def _frozen_base(self) -> Base:
        base = self._base
        dtype = faster_dtype(self.device) if self.dtype == "auto" else DTYPES[self.dtype]
        return base if dtype == torch.float32 else load_base(self.name, self.revision, dtype, self.device)

    @cached_property
    def _cache(self) -> TokenCache:
        return TokenCache(Path(self.cache_folder) if self.cache_folder else None)

    def _check(self) -> None:
        choices = {
            "pooling": (self.pooling, POOLINGS),
            "attention": (self.attention, ATTENTIONS),
            "dtype": (self.dtype, ("auto", *DTYPES)),
        }
        for field, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f"{field} is {value!r}; expected one of {', '.join(allowed)}")
        if self.prefix < 0 or self.max_tokens < 2:
            raise ValueError(
                f"prefix is {self.prefix} and max_tokens {self.max_tokens}; expected at least 0 and at least 2"
            )

    def _limit(self, base: Base) -> int:
        return min(self.max_tokens, position_limit(base))

    def _token_rows(self, base: Base, texts: list[str]) -> list[list[int]]:
        limit = self._limit(base)
        rows, cut = tokenise(base, texts, limit)
        if cut:
            warnings.warn(f"{cut} of {len(texts)} texts have more than {limit} tokens and were cut", stacklevel=4)
        return rows

    def _prefix_activations(self, texts: Sequence[str]) -> list[Tensor]:
        base = self._frozen_base
        facts = (base.fingerprint.digest, self.prefix, self._limit(base), str(base.model.dtype))
        keys = {text: cache_key(text, *facts) for text in texts}
        known: dict[str, Tensor] = {}
        for text, key in keys.items():
            found = self._cache.get(key)
            if found is not None and found.shape[1] == self.width:
                known[text] = found.to(self.device)
        absent = [text for text in keys if text not in known]
        for text, hidden in zip(absent, self._run_prefix(base, absent), strict=True):
            self._cache.put(keys[text], hidden)
            known[text] = hidden
        return [known[text] for text in texts]

    @torch.no_grad()
    def _run_prefix(self, base: Base, texts: list[str]) -> list[Tensor]:
        done: dict[int, Tensor] = {}
        choose_attention(base.model, "sdpa")

        def keep(rows: list[int], ids: Tensor, mask: Tensor) -> None:
            hidden = run_layers(base.model, base.model.embeddings(input_ids=ids), mask, 0, self.prefix).float()
            for row, activations, length in zip(rows, hidden, mask.sum(1).tolist(), strict=True):
                done[row] = activations[:length].clone()

        if texts:
            self._in_batches(base, texts, keep)
        return [done[row] for row in range(len(texts))]

    def _in_batches(self, base: Base, texts: list[str], keep: Callable[[list[int], Tensor, Tensor], None]) -> None:
        tokens = self._token_rows(base, texts)
        padding = int(base.tokenizer.pad_token_id or 0)
        budget = CPU_TOKENS if self.device == "cpu" else GPU_TOKENS
        for rows in buckets([len(row) for row in tokens], budget):
            batch = self._padded("input_ids", [torch.tensor(tokens[row]) for row in rows], padding)
            keep(rows, batch["input_ids"], batch["mask"])

    def _padded(self, name: str, rows: list[Tensor], value: int) -> dict[str, Tensor]:
        lengths = torch.tensor([len(row) for row in rows])
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        return {name: padded.to(self.device), "mask": mask.to(self.device)}


def buckets(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Lists of row numbers, rows of like length together, longest first.

    The rows of one list, padded to its longest, have at most `budget` tokens, unless a single row has more.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    begin = 0
    while begin < len(order):
        size = max(1, budget // max(1, lengths[order[begin]]))
        yield order[begin : begin + size]
        begin += size


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InputError("a single string was given; expected a list of texts: put it in brackets")
    if not len(texts):
        raise InputError("no texts were given; expected at least one")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {index} is a {type(text).__name__}; expected a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"text {index} is not valid Unicode: read its file as UTF-8") from error
