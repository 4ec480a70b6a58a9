"""Packing lays every token once, and changes nothing but the time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.backbones.packing import first_fit, packing_of
from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.functional import Functional

UNEVEN = ["my card is lost where is my card now please cancel it", *["thanks", "cancel it now", "where is my card"] * 5]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_every_text_has_places_of_its_own(lengths):
    begins, rows = first_fit(lengths, 40)
    taken = [place for begin, length in zip(begins, lengths, strict=True) for place in range(begin, begin + length)]
    assert len(set(taken)) == sum(lengths)
    assert all(begin // 40 == (begin + length - 1) // 40 for begin, length in zip(begins, lengths, strict=True))
    assert rows <= 2 * sum(lengths) / 40 + 1


def test_what_is_packed_comes_back_at_its_place():
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(12, 50, generator=generator) < 0.2).long()
    mask[3] = 0
    hidden = torch.randn(12, 50, 4, generator=generator)
    packing = packing_of(mask)
    assert packing is not None
    there_and_back = packing.unpacked(packing.packed(hidden), 12)
    assert torch.equal(there_and_back[mask != 0], hidden[mask != 0])


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_and_their_gradients_are_those_of_each_text_alone(kind, pooling, encoder_folder):
    encoder = TextEncoder(encoder_folder(kind), pooling=pooling)
    assert packing_of(encoder.inputs(UNEVEN)["mask"]) is not None
    body = Functional(encoder.module)
    start = {name: tensor for name, tensor in encoder.start(torch.Generator()).items() if "layer" in name}

    def summed(params, batches):
        features = torch.cat([body(params, encoder.inputs(batch)) for batch in batches])
        return (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum(), features

    together, features = torch.func.grad(summed, has_aux=True)(start, [UNEVEN])
    alone, each = torch.func.grad(summed, has_aux=True)(start, [[text] for text in UNEVEN])
    torch.testing.assert_close(features, each, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)


def test_even_texts_and_mapped_ones_are_left_as_they_are():
    assert packing_of(torch.ones(8, 40, dtype=torch.long)) is None
    mask = torch.zeros(2, 8, 40, dtype=torch.long)
    mask[..., :3] = 1
    assert packing_of(mask[0]) is not None

    def packs(one):
        return one.new_tensor(packing_of(one) is not None)

    assert torch.vmap(packs)(mask).tolist() == [0, 0]


def test_a_row_that_is_all_padding_reads_no_other_row(encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), pooling="cls")
    module = encoder.module()
    inputs = encoder.inputs(UNEVEN)
    mask = inputs["mask"].clone()
    mask[2] = 0
    changed = {**inputs, "mask": mask, "input_ids": inputs["input_ids"].clone()}
    before = module(changed)[2]
    changed["input_ids"][[0, 1, *range(3, len(UNEVEN))], :2] = 5
    torch.testing.assert_close(module(changed)[2], before)
