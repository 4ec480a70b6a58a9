"""The forward pass of an encoder-decoder, safe under `torch.vmap`, for whole completions and token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.backbones.asked_only import AskedOnly
from quickstudy.backbones.caches import decoder_cache, kept, put_prefix
from quickstudy.backbones.encoder_module import choose_attention
from quickstudy.core.attention_mask import additive_mask, blocking
from quickstudy.core.places import KeysAndValues, PrefixPlace, PromptPlace


@dataclass
class Seq2SeqCache:
    """What the first step of writing leaves for the others: what the encoder made of the prompts, keys and values."""

    past: Any = field(default_factory=decoder_cache)
    encoded: Any = field(default=None)


class Seq2SeqModule(nn.Module):
    """Logits of the tokens that come next in the completion.

    Attributes:
        model: the transformers model. Parameter names therefore begin with `model.`, as PEFT's do after `base_model.`.
    """

    def __init__(self, model: Any, attention: str) -> None:
        super().__init__()
        self.model = model
        self.attention = attention
        embeddings = model.get_encoder().get_input_embeddings()
        parts = ((name, part) for name, part in self.named_modules() if isinstance(part, nn.Embedding))
        self.prompt = PromptPlace(next(name for name, part in parts if part.weight is embeddings.weight))
        self.prefix = PrefixPlace(self._read, embeddings.num_embeddings)
        self._asked = AskedOnly(model)

    def forward(self, inputs: dict[str, Tensor], cache: Seq2SeqCache | None = None) -> Tensor:
        """[row, asked, vocabulary]: for each token asked about, the logits of the one after it.

        Args:
            inputs: `input_ids` and `segments` int64 [row, token], the prompts, and 0 where there is padding;
                `decoder_ids` int64 [row, written], what is written, behind the token that begins it; `asked` int64
                [row, asked], places in `decoder_ids`, counted from 1, and 0 for padding.
            cache: of earlier steps; `decoder_ids` then holds the new tokens only.

        Raises:
            ValueError: a prompt or prefix is for another number of rows, or leaves too few places for the texts.
        """
        for part in (self.model, self.model.get_encoder(), self.model.get_decoder()):
            choose_attention(part, self.attention)  # T5 keeps a configuration in each
        rows, written = inputs["decoder_ids"].shape
        dtype, device = self.model.dtype, inputs["decoder_ids"].device
        begins = cache is None or cache.encoded is None
        past = None if cache is None else cache.past
        if begins and self.prefix.tokens:
            past = decoder_cache() if past is None else past
            put_prefix(past.self_attention_cache, self.prefix(rows), dtype)
        before = 0 if past is None else past.get_seq_length()
        if self.prefix.tokens:
            self._check_places(self.prefix.tokens, before + written - self.prefix.tokens)
        later = torch.ones(written, before + written, dtype=torch.bool, device=device).triu(before + 1)
        more: dict[str, Any] = {} if past is None else {"past_key_values": past}
        if cache is not None and cache.encoded is not None:
            more["encoder_outputs"] = cache.encoded
        elif self.prompt.tokens:
            more["inputs_embeds"] = self._after_prompt(inputs["input_ids"])
        else:
            more["input_ids"] = inputs["input_ids"]
        with self._asked.about(inputs["asked"]):
            found = self.model(
                **more,
                attention_mask=additive_mask(self._with_front(inputs["segments"]), dtype),
                decoder_input_ids=inputs["decoder_ids"],
                decoder_attention_mask=blocking(later, dtype).expand(rows, 1, -1, -1),
                use_cache=past is not None,
            )
        if cache is not None and cache.encoded is None:
            cache.encoded = (found.encoder_last_hidden_state,)
        logits: Tensor = found.logits
        return logits

    def _after_prompt(self, ids: Tensor) -> Tensor:
        """[row, prompt + token, width]: embeddings, as the encoder reads them."""
        self._check_places(self.prompt.tokens, ids.shape[1])
        embedded = self.model.get_encoder().get_input_embeddings()(ids)
        return torch.cat([self.prompt(len(ids)).to(embedded.dtype), embedded], 1)

    def _with_front(self, segments: Tensor) -> Tensor:
        """int64 [row, prompt + token]: `segments` after those of the prompt."""
        return torch.cat([segments.new_ones(len(segments), self.prompt.tokens), segments], 1)

    def _check_places(self, front: int, texts: int) -> None:
        most = getattr(self.model.config, "max_position_embeddings", None)
        if most and front + texts > most:
            raise ValueError(
                f"{front} tokens of a prompt or prefix and {texts} of texts are more than the {most} places of the "
                "model; give fewer of them, or a smaller max_tokens"
            )

    @torch.no_grad()
    def _read(self, ids: Tensor) -> KeysAndValues:
        """Keys and values [head, token, width] of each layer of the decoder, for a text that both sides read."""
        past, device = decoder_cache(), self.model.get_encoder().get_input_embeddings().weight.device
        text = ids[None].to(device)
        with self._asked.about(torch.ones(1, 1, dtype=torch.int64, device=device)):
            self.model(input_ids=text, decoder_input_ids=text, past_key_values=past, use_cache=True)
        return kept(past.self_attention_cache)
