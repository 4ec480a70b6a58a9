"""Any Hugging Face encoder-decoder as a backbone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from quickstudy.backbones.encoder_module import skeleton
from quickstudy.backbones.language_model import LanguageModel
from quickstudy.backbones.language_tokens import (
    check_fields,
    check_pairs,
    completion_rows,
    prompt_rows,
)
from quickstudy.backbones.precision import DTYPES
from quickstudy.backbones.pretrained import Base, load_base
from quickstudy.backbones.quantised import Bits
from quickstudy.backbones.seq2seq_module import Seq2SeqCache, Seq2SeqModule
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.types import Batch


@dataclass(frozen=True)
class Seq2SeqLM(LanguageModel):
    """A pretrained encoder-decoder such as T5 or BART: the encoder reads a prompt, the decoder writes its completion.

    Attributes:
        name: a folder, or a name on the Hugging Face hub.
        revision: of a hub name.
        max_tokens: of a prompt, and of a completion. A longer prompt loses its end, with a warning.
        attention: as in `CausalLM`.
        dtype: of the weights, `"float32"` or `"bfloat16"`.
        device: where weights, inputs and logits lie.
        quantised: as in `CausalLM`.

    Raises:
        ValueError: when first used, if a field has no meaning; the message names it.
        NotAvailable: when first used, if the model is not here.
    """

    name: str
    revision: str = ""
    max_tokens: int = 512
    attention: str = "auto"
    dtype: str = "float32"
    device: str = "cpu"
    quantised: Bits = ""

    def module(self) -> nn.Module:
        """A skeleton that maps what `batch` puts into `inputs` to logits [row, asked, vocabulary], in eval mode."""
        return Seq2SeqModule(skeleton(self._base.model, 0), self.attention).eval()

    def batch(
        self, prompts: Sequence[str], completions: Sequence[str], pack: bool = False, notes: Sequence[str] = ()
    ) -> Batch:
        """Prompts with their completions as a learner reads them.

        `inputs` as `Seq2SeqModule.forward` takes them, `targets` int64 [row, asked], the tokens of the completions and
        of their ends, and `weights` [row] of ones.

        Args:
            prompts: texts.
            completions: as many.
            pack: not here: rows of an encoder-decoder hold one example each.
            notes: texts for which nothing is to be written, a row each, the last ones.

        Raises:
            InputError: there are no examples, their numbers differ, a prompt has no token, or a completion is too long.
            NotAvailable: `pack`.
        """
        if pack:
            raise NotAvailable("an encoder-decoder has one example in a row; give pack=False")
        check_pairs(prompts, completions)
        written = completion_rows(self._base, completions)
        if (longest := max(map(len, written))) > self.max_tokens:
            raise InputError(f"a completion has {longest} tokens, and max_tokens is {self.max_tokens}; shorten it")
        return self._inputs([*prompts, *notes], [*written, *([] for _ in notes)])

    def begin(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Inputs that ask for the first token of the completion of each prompt.

        Raises:
            InputError: there are no prompts, or one has no token.
        """
        if not prompts:
            raise InputError("no prompts were given; expected at least one")
        inputs = self._inputs(prompts, [[] for _ in prompts]).inputs
        assert isinstance(inputs, dict)
        return {**inputs, "asked": torch.ones(len(prompts), 1, dtype=torch.int64, device=self.device)}

    def after(self, inputs: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
        """Inputs that ask for the token after `tokens` int64 [row, 1]."""
        return {**inputs, "decoder_ids": tokens, "asked": torch.ones_like(tokens)}

    def room(self, inputs: dict[str, Tensor]) -> int:  # noqa: ARG002 - completions have room of their own
        """How many tokens can be written after each row of `inputs`."""
        return self.max_tokens

    def new_cache(self) -> Any:
        """An empty cache for the module."""
        return Seq2SeqCache()

    @property
    def _base(self) -> Base:
        check_fields(self.attention, self.dtype, self.max_tokens, self.quantised)
        return load_base(self.name, self.revision, DTYPES[self.dtype], self.device, "seq2seq", self.quantised)

    def _inputs(self, prompts: Sequence[str], written: Sequence[list[int]]) -> Batch:
        rows = prompt_rows(self._base, prompts)
        if cut := sum(len(row) > self.max_tokens for row in rows):
            message = f"{cut} of {len(rows)} prompts have more than {self.max_tokens} tokens and were cut"
            warnings.warn(message, stacklevel=3)
        begin = self._base.model.config.decoder_start_token_id
        ids = [row[: self.max_tokens] for row in rows]
        columns = {
            "input_ids": ids,
            "segments": [[1] * len(row) for row in ids],
            "decoder_ids": [[begin, *row[:-1]] for row in written],
            "asked": [list(range(1, len(row) + 1)) for row in written],
            "targets": written,
        }
        found = {
            name: pad_sequence([torch.tensor(row, dtype=torch.int64) for row in column], batch_first=True)
            for name, column in columns.items()
        }
        moved = {name: tensor.to(self.device) for name, tensor in found.items()}
        targets = moved.pop("targets")
        return Batch(moved, targets, torch.ones(len(rows), device=self.device))
