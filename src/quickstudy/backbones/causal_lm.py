"""Any Hugging Face causal language model as a backbone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from quickstudy.backbones.caches import causal_cache
from quickstudy.backbones.causal_module import CausalModule
from quickstudy.backbones.causal_reader import CausalReader
from quickstudy.backbones.completions import Example, packed, padded
from quickstudy.backbones.encoder_module import skeleton
from quickstudy.backbones.language_model import LanguageModel
from quickstudy.backbones.language_tokens import (
    check_fields,
    check_pairs,
    completion_rows,
    prompt_rows,
)
from quickstudy.backbones.packing import packing_of
from quickstudy.backbones.precision import DTYPES
from quickstudy.backbones.pretrained import Base, load_base
from quickstudy.backbones.quantised import Bits
from quickstudy.core.errors import InputError
from quickstudy.core.functional import Functional
from quickstudy.core.types import Batch


@dataclass(frozen=True)
class CausalLM(LanguageModel):
    """A pretrained language model: its features are the logits of the tokens that come next.

    A task's examples are prompts and the completions that are to be written after them. `batch` makes of them what
    learners read; only tokens of completions count in a loss.

    Attributes:
        name: a folder, or a name on the Hugging Face hub.
        revision: of a hub name.
        max_tokens: of a prompt with its completion. A longer prompt loses its beginning, with a warning.
        between: what is put after each prompt, before its completion, e.g. a new line.
        chat: whether prompts are put to the model as a user's messages, by the tokeniser's chat template; completions
            are its answers.
        attention: `"auto"` for eager attention wherever something is differentiated or mapped, so that second
            derivatives and `torch.vmap` work, and the fused kernel elsewhere; or `"eager"`, or `"sdpa"`.
        dtype: of the weights, `"float32"` or `"bfloat16"`. What a delta adds is kept in float32 and computed in this.
        device: where weights, inputs and logits lie.
        objective: `"direct"`, or `"channel"` to be asked for the prompt after its completion, p(prompt | completion)
            (Min et al., 2022, arXiv 2108.04106): `batch` then puts the two in each other's place, so that every learner
            trains and is scored so, and `learners.writing.choose` takes the completion that explains a prompt best.
        quantised: `"8bit"` or `"4bit"` for linear layers that take so much memory and are never trained themselves; a
            delta stands beside them as beside others. 4 bits need the package bitsandbytes (extra `quantised`).
        recompute: keep only what each layer is given, and compute the rest again in the backward: the same gradients, a
            third more work, and hardly more activations than those of one layer.

    Raises:
        ValueError: when first used, if a field has no meaning; the message names it.
        NotAvailable: when first used, if the model is not here.
    """

    name: str
    revision: str = ""
    max_tokens: int = 512
    between: str = ""
    chat: bool = False
    attention: str = "auto"
    dtype: str = "float32"
    device: str = "cpu"
    objective: Literal["direct", "channel"] = "direct"
    quantised: Bits = ""
    recompute: bool = False

    @property
    def activation_width(self) -> int:
        """Size of an activation of the last layer."""
        return int(self._base.model.get_output_embeddings().in_features)

    def module(self) -> nn.Module:
        """A skeleton that maps what `batch` puts into `inputs` to logits [row, asked, vocabulary].

        It is in eval mode. Its weights share their memory with those of all other skeletons of this model.
        """
        return CausalModule(skeleton(self._base.model, 0), self.attention, self.recompute).eval()

    def batch(
        self, prompts: Sequence[str], completions: Sequence[str], pack: bool = False, notes: Sequence[str] = ()
    ) -> Batch:
        """Prompts with their completions as a learner reads them.

        `inputs` as `CausalModule.forward` takes them, `targets` int64 [row, asked], the tokens of the completions and
        of their ends, and `weights` [row] of ones.

        Args:
            prompts: texts.
            completions: as many.
            pack: put several examples into a row, none of which sees another, where they fit into the length of the
                longest; fewer rows are computed, and weights then count rows, not examples.
            notes: texts after which nothing is to be written, such as a description of the task; a row each, the last
                ones. They count in no loss.

        Raises:
            InputError: there are no examples, their numbers differ, a prompt has no token, or a completion is too long.
        """
        check_pairs(prompts, completions)
        if self.objective == "channel":
            prompts, completions = completions, prompts
        begun = self.begun(prompts)
        written = completion_rows(self._base, completions)
        examples = [self._example(*each) for each in zip(begun, written, strict=True)]
        if cut := sum(len(example.prompt) < len(whole) for example, whole in zip(examples, begun, strict=True)):
            message = f"{cut} of {len(begun)} prompts lost their beginning: more than {self.max_tokens} tokens"
            warnings.warn(message, stacklevel=2)
        rows = packed(examples, max(map(len, examples))) if pack else [[example] for example in examples]
        rows += [[Example(note[-self.max_tokens :], [])] for note in (self.begun(notes) if notes else ())]
        return padded(rows, self.device)

    def begun(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens of each prompt and of what is put after it, with those that the tokeniser or template begins with.

        Raises:
            InputError: a prompt has no token.
        """
        return prompt_rows(self._base, [prompt + self.between for prompt in prompts], self.chat)

    def begin(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Inputs that ask for the token after each prompt, with padding before the shorter ones.

        Raises:
            InputError: there are no prompts, one has no token, or the objective is "channel".
        """
        if not prompts:
            raise InputError("no prompts were given; expected at least one")
        if self.objective == "channel":
            raise InputError('objective="channel" asks for prompts and writes nothing; `choose` among completions')
        rows = self.begun(prompts)
        ids = [torch.tensor(row) for row in rows]
        texts = [torch.ones(len(row), dtype=torch.int64) for row in rows]
        found = {
            name: pad_sequence(column, batch_first=True, padding_side="left").to(self.device)
            for name, column in (("input_ids", ids), ("segments", texts))
        }
        return found | {"asked": torch.full((len(rows), 1), max(map(len, rows)), device=self.device)}

    def after(self, inputs: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
        """Inputs that ask for the token after `tokens` int64 [row, 1]."""
        segments = torch.cat([inputs["segments"], torch.ones_like(tokens)], 1)
        return {"input_ids": tokens, "segments": segments, "asked": torch.ones_like(tokens)}

    def room(self, inputs: dict[str, Tensor]) -> int:
        """How many tokens can be written after each row of `inputs`: what the longest leaves of `max_tokens`."""
        return self.max_tokens - int((inputs["segments"] != 0).sum(1).max())

    def new_cache(self) -> Any:
        """An empty cache for the module."""
        return causal_cache()

    @torch.no_grad()
    def activations(self, inputs: dict[str, Tensor]) -> Tensor:
        """[row, token, width]: what the last layer of the model as it is makes of `input_ids` and `segments`.

        `inputs` as `batch` gives them; what is asked about does not matter. On a CPU, padding is left out of the
        computation where there is much of it, and what is returned there means nothing.
        """
        ids, segments = inputs["input_ids"], inputs["segments"]
        packing = packing_of(segments)
        if packing is None:
            return self._reader({}, {"input_ids": ids, "segments": segments})
        moved, own = packing.packed(torch.stack([ids, segments], -1)).unbind(-1)
        # Two texts of one row stay apart in the row that they come into.
        numbers = 1 + packing.owners * (1 + int(segments.max())) + own
        apart = torch.where(packing.owners < 0, 0, numbers)
        return packing.unpacked(self._reader({}, {"input_ids": moved, "segments": apart}), len(ids))

    @cached_property
    def _reader(self) -> Functional:
        return Functional(lambda: CausalReader(skeleton(self._base.model, 0), self.attention).eval())

    @property
    def _base(self) -> Base:
        check_fields(self.attention, self.dtype, self.max_tokens, self.quantised)
        if self.objective not in ("direct", "channel"):
            raise ValueError(f'objective is {self.objective!r}; expected "direct" or "channel"')
        return load_base(self.name, self.revision, DTYPES[self.dtype], self.device, "causal", self.quantised)

    def _example(self, prompt: list[int], completion: list[int]) -> Example:
        room = self.max_tokens - len(completion)
        if room < 1:
            raise InputError(
                f"what is asked for has {len(completion)} tokens, with its end; max_tokens is {self.max_tokens}: "
                "raise it, or shorten the text"
            )
        return Example(prompt[-room:], completion)
