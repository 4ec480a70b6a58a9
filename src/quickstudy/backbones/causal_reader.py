"""A causal language model as a reader: the activations of its last layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quickstudy.backbones.causal_mask import attention_of
from quickstudy.backbones.encoder_module import choose_attention


class CausalReader(nn.Module):
    """Activations of texts, safe under `torch.vmap`."""

    def __init__(self, model: Any, attention: str) -> None:
        super().__init__()
        self.model = model
        self.attention = attention

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[row, token, width] from `input_ids` and `segments` [row, token], as `CausalModule.forward` takes them."""
        choose_attention(self.model, self.attention)
        ids = inputs["input_ids"]
        masks, places = attention_of(self.model, inputs["segments"], ids.shape[-1])
        found = self.model.base_model(input_ids=ids, attention_mask=masks, position_ids=places, use_cache=False)
        activations: Tensor = found.last_hidden_state
        return activations
