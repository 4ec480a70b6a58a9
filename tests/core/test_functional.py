"""A module called as a function: one skeleton for each thread, made wherever the first call comes from."""

import threading

import pytest
import torch

from quickstudy.core.functional import Functional


def linear():
    return Functional(lambda: torch.nn.Linear(2, 2, bias=False))


@pytest.mark.parametrize(
    "first",
    [
        lambda f, w, x: torch.vmap(lambda v: f({"weight": v}, x))(torch.stack([w, w])),
        lambda f, w, x: torch.func.grad(lambda v: f({"weight": v}, x).sum())(w),
    ],
    ids=["vmap", "grad"],
)
def test_first_call_within_a_transform(first):
    function, weight, x = linear(), torch.randn(2, 2), torch.randn(3, 2)
    first(function, weight, x)
    assert not any(tensor.requires_grad for tensor in function.module().parameters())
    torch.testing.assert_close(function({"weight": weight}, x), x @ weight.T)


def test_first_call_in_inference_mode_leaves_a_skeleton_that_can_be_differentiated():
    function, x = linear(), torch.randn(3, 2, requires_grad=True)
    with torch.inference_mode():
        function({}, x)
    (gradient,) = torch.autograd.grad(function({}, x).sum(), x)
    torch.testing.assert_close(gradient, function.module().weight.sum(0).expand(3, 2))


def test_threads_have_skeletons_of_their_own_and_do_not_disturb_each_other():
    function, x = linear(), torch.randn(64, 2)
    modules, wrong = set(), []

    def work(scale):
        modules.add(function.module())
        weight = torch.eye(2) * scale
        wrong.extend(None for _ in range(300) if not torch.equal(function({"weight": weight}, x), x @ weight.T))

    threads = [threading.Thread(target=work, args=(scale,)) for scale in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(modules) == 4
    assert not wrong
