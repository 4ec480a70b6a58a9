"""A causal language model as a reader: the activations of its last layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quickstudy.backbones.causal_mask import masks_for, places, seen
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
        sees = seen(inputs["segments"])
        place = places(sees)
        masks = masks_for(self.model, sees, place, place)
        found = self.model.base_model(
            input_ids=inputs["input_ids"], attention_mask=masks, position_ids=place, use_cache=False
        )
        activations: Tensor = found.last_hidden_state
        return activations
