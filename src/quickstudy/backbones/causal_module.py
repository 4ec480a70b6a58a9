"""The forward pass of a causal language model, safe under `torch.vmap`, for whole texts and token by token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.backbones.asked_only import AskedOnly
from quickstudy.backbones.caches import causal_cache, kept, put_prefix
from quickstudy.backbones.causal_mask import SHARED, attention_of
from quickstudy.backbones.encoder_module import choose_attention
from quickstudy.backbones.recomputing import recompute_layers
from quickstudy.core.places import KeysAndValues, PrefixPlace, PromptPlace


class CausalModule(nn.Module):
    """Logits of the tokens that come next.

    Attributes:
        model: the transformers model. Parameter names therefore begin with `model.`, as PEFT's do after `base_model.`.
    """

    def __init__(self, model: Any, attention: str, recompute: bool = False) -> None:
        super().__init__()
        self.model = _with_linears(model)
        if recompute:
            recompute_layers(self.model)
        self.attention = attention
        embeddings = model.get_input_embeddings()
        name = next(name for name, part in self.named_modules() if part is embeddings)
        self.prompt = PromptPlace(name)
        self.prefix = PrefixPlace(self._read, embeddings.num_embeddings)
        self._asked = AskedOnly(model)

    def forward(self, inputs: dict[str, Tensor], cache: Any = None) -> Tensor:
        """[row, asked, vocabulary]: for each token asked about, the logits of the one after it.

        Args:
            inputs: `input_ids` int64 [row, token]; `segments` int64 [row, token], the number of the text that a token
                belongs to, from 1, `SHARED` for what all later texts see, and 0 for padding; `asked` int64
                [row, asked], places in the row, counted from 1, and 0 for padding.
            cache: transformers' cache of what came before, which gets the tokens of `inputs` too. `segments` then holds
                the earlier tokens as well: [row, earlier + token].

        Raises:
            ValueError: a prompt or prefix is for another number of rows, or leaves too few places for the texts.
        """
        choose_attention(self.model, self.attention)
        segments, asked = inputs["segments"], inputs["asked"]
        rows, new = inputs["input_ids"].shape
        begins = segments.shape[-1] == new
        text = {"input_ids": inputs["input_ids"]}
        if begins and self.prompt.tokens:
            text = {"inputs_embeds": self._after_prompt(inputs["input_ids"])}
            asked, new = asked + self.prompt.tokens, new + self.prompt.tokens
        if begins and self.prefix.tokens:
            cache = causal_cache() if cache is None else cache
            put_prefix(cache, self.prefix(rows), self.model.dtype)
        masks, places = attention_of(self.model, self._with_front(segments), new)
        more = {} if cache is None else {"past_key_values": cache}
        with self._asked.about(asked):
            found = self.model(**text, attention_mask=masks, position_ids=places, use_cache=cache is not None, **more)
        logits: Tensor = found.logits
        return logits

    def _after_prompt(self, ids: Tensor) -> Tensor:
        """[row, prompt + token, width]: embeddings."""
        embedded = self.model.get_input_embeddings()(ids)
        return torch.cat([self.prompt(len(ids)).to(embedded.dtype), embedded], 1)

    def _with_front(self, segments: Tensor) -> Tensor:
        """int64 [row, front + token]: `segments` after those of the prefix and the prompt, which all texts see."""
        front = self.prefix.tokens + self.prompt.tokens
        if not front:
            return segments
        rows, tokens = segments.shape
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if most and front + tokens > most:
            raise ValueError(
                f"{front} tokens of a prompt or prefix and {tokens} of texts are more than the {most} places of the "
                "model; give fewer of them, or a smaller max_tokens"
            )
        return torch.cat([segments.new_full((rows, front), SHARED), segments], 1)

    @torch.no_grad()
    def _read(self, ids: Tensor) -> KeysAndValues:
        """Of each layer, the keys and values [head, token, width] of a text int64 [token]."""
        cache, device = causal_cache(), self.model.get_input_embeddings().weight.device
        with self._asked.about(torch.ones(1, 1, dtype=torch.int64, device=device)):
            self.model(input_ids=ids[None].to(device), past_key_values=cache, use_cache=True)
        return kept(cache)


def _with_linears(model: Any) -> Any:
    """`model` with a linear layer, on the same memory, in the place of each of GPT-2's transposed ones."""
    from transformers.pytorch_utils import Conv1D

    for name, part in list(model.named_modules()):
        if isinstance(part, Conv1D):
            inputs, outputs = part.weight.shape
            linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
            linear.weight = nn.Parameter(part.weight.detach().T, requires_grad=False)
            linear.bias = part.bias
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, linear)
    return model
