"""Tiny modules for deltas to be attached to."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from quickstudy.core.attention_mask import additive_mask


class Pooled(nn.Module):
    """A BERT with mean pooling, named as text encoders are."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs):
        mask = inputs["mask"]
        hidden = self.model(inputs["input_ids"], attention_mask=additive_mask(mask)).last_hidden_state
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def tiny_bert() -> BertModel:
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        model = BertModel(config, add_pooling_layer=False).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


@pytest.fixture
def factory() -> Callable[[], nn.Module]:
    """Makes a fresh module, always with the same weights."""
    return lambda: Pooled(tiny_bert())


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Five rows of up to six tokens."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(5, 6, dtype=torch.int64)
    mask[1, 4:] = 0
    mask[3, 2:] = 0
    return {"input_ids": torch.randint(1, 30, (5, 6), generator=generator), "mask": mask}
