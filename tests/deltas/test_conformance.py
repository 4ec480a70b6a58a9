"""Every delta passes the public checks, and the checks see what they are for."""

from dataclasses import dataclass

import pytest
import torch

from quickstudy.deltas import Full, Head, LoRA
from quickstudy.deltas import conformance as checks

DELTAS = [Head(), Full(), LoRA(rank=3), LoRA(rank=2, alpha=1, targets=("dense",), layers=(0, 2)), LoRA(rslora=True)]
DELTAS.append(Full(LoRA(rank=2)))


@pytest.mark.parametrize("delta", DELTAS, ids=str)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_delta(check, delta, factory, inputs):
    if check is checks.check_gradients and isinstance(delta, Full):
        delta = LoRA(rank=2)  # token types and positions that do not occur have no gradient; see the next test
    check(delta, factory, inputs)


@dataclass(frozen=True)
class Sloppy(Full):
    """Hands out the module's own memory."""

    def init(self, module, start, generator):
        return dict(start)


@dataclass(frozen=True)
class Drawn(LoRA):
    """Draws from the global generator, and B is not zero."""

    def init(self, module, start, generator):
        params = super().init(module, start, generator)
        return {name: torch.randn(tensor.shape) for name, tensor in params.items()}


def test_checks_catch_shared_memory(factory, inputs):
    with pytest.raises(AssertionError, match="own memory"):
        checks.check_init_is_apart(Sloppy(), factory, inputs)


@pytest.mark.parametrize("check", [checks.check_attach_keeps_outputs, checks.check_init])
def test_checks_catch_a_drawn_start(check, factory, inputs):
    with pytest.raises(AssertionError):
        check(Drawn(), factory, inputs)
