"""Every backbone passes the public checks, and the checks see what they are for."""

import dataclasses
import threading

import pytest
import torch

from quickstudy.backbones import MLP, TextEncoder
from quickstudy.backbones import conformance as checks

TEXTS = ["my card is lost", "cancel", "where is my new card please"]
SPLITS = [("bert", 0), ("bert", 2), ("roberta", 0), ("roberta", 1), ("distilbert", 0), ("distilbert", 2), ("mpnet", 0)]


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_mlp(check):
    check(MLP((4, 8, 5), "tanh"), torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("kind", "prefix"), SPLITS)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_text_encoder(check, kind, prefix, encoder_folder):
    encoder = TextEncoder(encoder_folder(kind), prefix=prefix)
    check(encoder, encoder.inputs(TEXTS))


@pytest.mark.parametrize("options", [{"pooling": "cls"}, {"normalise": False}, {"attention": "eager"}])
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_text_encoder_options(check, options, encoder_folder):
    encoder = TextEncoder(encoder_folder("bert"), **options)
    check(encoder, encoder.inputs(TEXTS))


class Leaky(torch.nn.Module):
    """Features that see the other rows and the padding."""

    def forward(self, inputs):
        hidden = inputs["hidden"]
        return hidden.mean(1) + hidden.mean((0, 1))


@dataclasses.dataclass(frozen=True)
class LeakyBackbone(MLP):
    def module(self):
        return Leaky()


@pytest.mark.parametrize("check", [checks.check_rows_apart, checks.check_padding, checks.check_width])
def test_checks_catch_a_leak(check):
    inputs = {"hidden": torch.randn(3, 4, 5), "mask": torch.ones(3, 4)}
    with pytest.raises(AssertionError):
        check(LeakyBackbone((5, 7)), inputs)


def test_threads_check_catches_a_shared_skeleton(monkeypatch):
    backbone = MLP((4, 5))
    one = backbone.module()
    both_have_put_theirs_in, known = threading.Barrier(2), {threading.get_ident()}

    class Shared:
        def __init__(self, factory):
            pass

        def __call__(self, params, inputs):
            one.load_state_dict(params)
            if threading.get_ident() not in known:
                known.add(threading.get_ident())
                both_have_put_theirs_in.wait(timeout=60)
            return one(inputs)

    monkeypatch.setattr(checks, "Functional", Shared)
    with pytest.raises(AssertionError, match="another"):
        checks.check_threads(backbone, torch.randn(3, 4))
