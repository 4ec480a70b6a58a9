"""What tensors take while they live, on shapes whose sizes are known."""

import torch
from torch import nn

from quickstudy.core.memory_watch import MemoryWatch

FLOAT = 4


def empty(*shape):
    return torch.empty(*shape, device="meta")


def test_what_goes_is_no_longer_counted():
    with MemoryWatch() as watch:
        first = empty(10, 10)
        second = first + 1
        assert watch.live == 2 * 100 * FLOAT
        del first
        assert watch.live == 100 * FLOAT
        del second
    assert (watch.live, watch.peak) == (0, 2 * 100 * FLOAT)


def test_views_and_steps_in_place_take_nothing():
    given = empty(10, 10)
    with MemoryWatch().hold([given]) as watch:
        given.t().add_(1)
        _ = given[:, :3], given.detach()
        assert watch.live == watch.peak == 100 * FLOAT


def test_what_a_backward_needs_is_held_until_it_ran():
    x, weight = empty(8, 16), empty(16, 16).requires_grad_()
    with MemoryWatch().hold([x, weight]) as watch:
        before = watch.live
        loss = (x @ weight).exp().exp().sum()
        # Each exponential keeps its own result.
        assert watch.live == before + 2 * 8 * 16 * FLOAT + FLOAT
        loss.backward()
        del loss
        assert watch.live == before + 16 * 16 * FLOAT
    assert weight.grad is not None


def test_operations_of_products_and_their_gradients():
    x, layer = empty(8, 16), nn.Linear(16, 32, device="meta")
    with MemoryWatch() as watch:
        layer(x).sum().backward()
    # The input asks for no gradient: one product forward, one backward.
    assert watch.operations == 2 * 2 * 8 * 16 * 32


def test_bytes_that_are_read_and_written():
    x = empty(100)
    with MemoryWatch() as watch:
        _ = x.view(10, 10) + 1
    assert watch.moved == 2 * 100 * FLOAT
