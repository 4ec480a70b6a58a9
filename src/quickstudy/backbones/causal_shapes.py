"""A causal language model of which only the configuration is there: what it would compute, and in how much memory.

Its tensors are on the device "meta": they have shapes and hold nothing, so a model of any size is made in a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quickstudy.backbones.base import Backbone
from quickstudy.backbones.caches import causal_cache
from quickstudy.backbones.causal_module import CausalModule
from quickstudy.backbones.encoder_module import skeleton
from quickstudy.backbones.language_model import linear_names
from quickstudy.backbones.precision import DTYPES
from quickstudy.backbones.pretrained import source_of
from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.core.types import Batch, Params

META = "meta"
"""The device of tensors that hold nothing."""

WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the names of classes that write texts."""


@dataclass(frozen=True)
class CausalShapes(Backbone):
    """A `CausalLM` without weights and tokeniser. Values of its features mean nothing; shapes and types are right.

    Attributes:
        name: a folder with a `config.json`, such a file, or the name of a model of the Hugging Face hub that is on this
            machine already; nothing is downloaded.
        dtype: of the weights, `"float32"` or `"bfloat16"`.
        recompute: as of `CausalLM`.
    """

    name: str
    dtype: str = "float32"
    recompute: bool = False

    @cached_property
    def model(self) -> Any:
        """The transformers model.

        Raises:
            NotAvailable: there is no configuration.
            InputError: it is not one of a causal language model, or `dtype` is another word.
        """
        from transformers import AutoModelForCausalLM

        if self.dtype not in DTYPES:
            raise InputError(f"dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}")
        config = _config(self.name)
        found = config.architectures or WRITERS
        if not any(architecture.endswith(WRITERS) for architecture in found):
            raise InputError(
                f"{self.name}: is a {', '.join(found)}, which writes no text; give a causal language model"
            )
        try:
            with torch.device(META):
                model = AutoModelForCausalLM.from_config(config)
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"{self.name}: a configuration of type {config.model_type!r} makes no causal language model "
                f"({str(error).splitlines()[0]}); give that of a Llama, GPT-2 or the like"
            ) from error
        return model.eval().requires_grad_(False).to(dtype=DTYPES[self.dtype])

    @property
    def width(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(self.model.get_output_embeddings().out_features)

    @property
    def fingerprint(self) -> None:
        """None: there are no weights."""
        return

    @property
    def linears(self) -> tuple[str, ...]:
        """As `LanguageModel.linears`."""
        return linear_names(self.module())

    @property
    def parameters(self) -> int:
        """How many numbers the weights are; tied ones count once."""
        return sum(tensor.numel() for tensor in self.model.parameters())

    def module(self) -> nn.Module:
        """As `CausalLM.module`."""
        return CausalModule(skeleton(self.model, 0), "auto", self.recompute).eval()

    def start(self, generator: torch.Generator) -> Params:  # noqa: ARG002 - the contract's signature
        """As `CausalLM.start`."""
        return {name: tensor.detach() for name, tensor in self.module().named_parameters()}

    def weights(self) -> list[Tensor]:
        """Parameters, tied ones once, and buffers."""
        return [*self.model.parameters(), *self.model.buffers()]

    def batch(self, rows: int, tokens: int, asked: int) -> Batch:
        """What `CausalLM.batch` makes of so many examples of so many tokens, of which the last `asked` are written.

        Raises:
            InputError: the model takes fewer tokens, or `asked` is not below `tokens`.
        """
        self._check(tokens)
        if not 0 < asked < tokens:
            raise InputError(
                f"{asked} of {tokens} tokens are to be written; give at least 1 and leave 1 for the prompt"
            )
        targets = torch.ones(rows, asked, dtype=torch.int64, device=META)
        return Batch(self._inputs(rows, tokens, asked), targets, torch.ones(rows, device=META))

    def begin(self, rows: int, tokens: int) -> dict[str, Tensor]:
        """What `CausalLM.begin` makes of so many prompts of so many tokens.

        Raises:
            InputError: the model takes fewer tokens.
        """
        self._check(tokens)
        return self._inputs(rows, tokens, 1)

    def after(self, inputs: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
        """As `CausalLM.after`."""
        segments = torch.cat([inputs["segments"], torch.ones_like(tokens)], 1)
        return {"input_ids": tokens, "segments": segments, "asked": torch.ones_like(tokens)}

    def new_cache(self) -> Any:
        """As `CausalLM.new_cache`."""
        return causal_cache()

    def _inputs(self, rows: int, tokens: int, asked: int) -> dict[str, Tensor]:
        sizes = {"input_ids": tokens, "segments": tokens, "asked": asked}
        return {name: torch.ones(rows, size, dtype=torch.int64, device=META) for name, size in sizes.items()}

    def _check(self, tokens: int) -> None:
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if most and tokens > most:
            raise InputError(f"a row has {tokens} tokens; {self.name} takes {most}: give fewer")


class FusedAttention(TorchFunctionMode):
    """A context in which attention that is not differentiated takes no memory but its output, as in fused kernels.

    On the device "meta" torch would take the kernel that makes the map of all pairs of tokens.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not nn.functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, _, value = args[:3]
        return query.new_empty(*query.shape[:-1], value.shape[-1])


def _config(name: str) -> Any:
    from transformers import AutoConfig

    source = source_of(name)
    here = Path(source)
    try:
        return AutoConfig.from_pretrained(here if here.exists() else source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotAvailable(
            f"no configuration of a language model could be read for {name!r} ({lines[0]}); give a config.json, a "
            "folder that holds one, or the name of a hub model that is on this machine"
        ) from error
