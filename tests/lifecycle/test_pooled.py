"""Texts as fixed vectors."""

import torch

from quickstudy import Network, TextEncoder
from quickstudy.deltas import Head
from quickstudy.lifecycle.pooled import PooledTexts


def test_features_equal_those_of_the_encoder(base, draw):
    texts, _ = draw(3)
    encoder = TextEncoder(base)
    pooled = PooledTexts(encoder)
    generator = torch.Generator()
    inner, outer = Network(encoder, Head()), Network(pooled, Head())
    expected = inner.features(inner.init(generator), encoder.inputs(texts))
    torch.testing.assert_close(outer.features(outer.init(generator), pooled.inputs(texts)), expected)
    assert (pooled.width, pooled.fingerprint) == (encoder.width, encoder.fingerprint)
    assert outer.init(generator) == {}
