"""The inner loop against finite differences, a hand-written route and itself with other options."""

import gc
import weakref
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from quickstudy.core.errors import NoSecondOrder, NotAvailable
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop, Summed, adapt_parameters
from quickstudy.core.optimisers import SGD, Adam, Momentum
from quickstudy.core.parameters import digest, from_vector, to_vector
from quickstudy.core.second_order import refuse_inner_checkpointing

OPTIMISERS = [SGD(0.3), Momentum(0.2, 0.8), Adam(0.1)]


def start(seed=0, width=4):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"body.weight": (width, 3), "body.bias": (width,), "head.weight": (1, width)}
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}


def examples(seed, rows=6):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=draw, dtype=torch.float64)
    return x, x.sum(1, keepdim=True).sin()


def fits(data):
    x, y = data

    def loss(params):
        hidden = torch.tanh(x @ params["body.weight"].T + params["body.bias"])
        return (hidden @ params["head.weight"].T - y).square().mean()

    return loss


SUPPORT, QUERY = fits(examples(1)), fits(examples(2))


def outer(params, options, rates=None):
    return QUERY(adapt_parameters(SUPPORT, params, options, rates))


def by_autograd(params, options, rates=None):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    grads = torch.autograd.grad(outer(leaves, options, rates), list(leaves.values()), materialize_grads=True)
    return torch.cat([grad.reshape(-1) for grad in grads])


def by_differences(params, options, step=1e-6):
    point = to_vector(params)
    found = []
    for number in range(len(point)):
        move = torch.zeros_like(point)
        move[number] = step
        ends = [outer(from_vector(point + sign * move, params), options) for sign in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(found)


def close(a, b, tolerance=1e-7):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("extra", [{}, {"clip": 0.05}, {"freeze": ("body.*",)}, {"checkpoint": True}])
def test_second_order_equals_finite_differences_and_first_order_does_not(optimiser, extra):
    options = InnerLoop(3, optimiser, **extra)
    expected = by_differences(start(), options)
    close(by_autograd(start(), options), expected, 1e-6)
    held = by_autograd(start(), InnerLoop(3, optimiser, order="first", **extra))
    assert (held - expected).abs().max() > 1e-3


def test_steps_lower_the_loss_and_none_are_none():
    params = start()
    assert SUPPORT(adapt_parameters(SUPPORT, params, InnerLoop(20))) < SUPPORT(params) / 2
    unmoved = adapt_parameters(SUPPORT, params, InnerLoop(0))
    assert list(unmoved) == list(params)
    assert digest(unmoved) == digest(params)


def test_first_order_is_the_gradient_at_the_adapted_point():
    options = InnerLoop(4, order="first")
    adapted = {n: t.detach().requires_grad_() for n, t in adapt_parameters(SUPPORT, start(), options).items()}
    grads = torch.autograd.grad(QUERY(adapted), list(adapted.values()))
    close(by_autograd(start(), options), torch.cat([grad.reshape(-1) for grad in grads]))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_truncation_runs_from_first_order_to_second(optimiser):
    found = {k: by_autograd(start(), InnerLoop(3, optimiser, truncate=k)) for k in (0, 1, 2, 3, 9)}
    close(found[0], by_autograd(start(), InnerLoop(3, optimiser, order="first")))
    full = by_autograd(start(), InnerLoop(3, optimiser))
    close(found[3], full)
    close(found[9], full)
    assert min((found[1] - found[0]).norm(), (found[2] - found[1]).norm(), (full - found[2]).norm()) > 1e-4


def test_truncated_backward_is_the_full_one_from_where_it_begins():
    """With plain gradient descent: straight through the first two steps, then second order."""
    middle = adapt_parameters(SUPPORT, start(), InnerLoop(2, SGD(0.3)))
    expected = by_autograd(middle, InnerLoop(1, SGD(0.3)))
    close(by_autograd(start(), InnerLoop(3, SGD(0.3), truncate=1)), expected)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_autograd_reaches_the_rates(optimiser, order, checkpoint):
    options = InnerLoop(2, optimiser, order=order, checkpoint=checkpoint)
    params = start()
    rates = {name: torch.full_like(tensor, 0.1).requires_grad_() for name, tensor in params.items()}
    found = torch.autograd.grad(outer(params, options, rates), list(rates.values()))
    assert all(grad.abs().max() > 0 for grad in found)
    if order == "second":
        move = {name: torch.randn_like(tensor) for name, tensor in rates.items()}
        ends = [outer(params, options, {n: r.detach() + s * move[n] for n, r in rates.items()}) for s in (1e-6, -1e-6)]
        expected = (ends[0] - ends[1]) / 2e-6
        close(sum((g * move[n]).sum() for n, g in zip(rates, found, strict=True)), expected, 1e-6)


def test_frozen_parameters_stay_and_get_their_outer_gradient():
    params = start()
    adapted = adapt_parameters(SUPPORT, params, InnerLoop(3, freeze=("body.*",)))
    assert adapted["body.weight"] is params["body.weight"]
    assert not torch.equal(adapted["head.weight"], params["head.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (InnerLoop(freeze=("bodi.*",)), "matches no parameter"),
        (InnerLoop(freeze=("*",)), "leave one that moves"),
    ],
)
def test_freezing_nothing_or_everything_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        adapt_parameters(SUPPORT, start(), options)


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"truncate": -1}, {"clip": 0.0}, {"order": "third"}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InnerLoop(**wrong)


def test_loss_may_take_the_number_of_the_step():
    seen = []

    def loss(params, step):
        seen.append(step)
        return SUPPORT(params)

    adapt_parameters(loss, start(), InnerLoop(3))
    assert seen == [0, 1, 2]


def test_a_default_argument_is_not_the_number_of_the_step():
    adapted = adapt_parameters(lambda params, scale=2.0: scale * SUPPORT(params), start(), InnerLoop(2, SGD(0.1)))
    close(to_vector(adapted), to_vector(adapt_parameters(SUPPORT, start(), InnerLoop(2, SGD(0.2)))))


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("order", ["first", "second"])
def test_works_under_no_grad_without_a_graph(order, checkpoint):
    params = {name: tensor.requires_grad_() for name, tensor in start().items()}
    with torch.no_grad():
        adapted = adapt_parameters(SUPPORT, params, InnerLoop(2, order=order, checkpoint=checkpoint))
    assert not any(tensor.requires_grad for tensor in adapted.values())
    close(to_vector(adapted), to_vector(adapt_parameters(SUPPORT, start(), InnerLoop(2))))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("extra", [{}, {"order": "first"}, {"truncate": 1}, {"clip": 0.05}])
def test_outer_functional_gradient_and_vmap_equal_autograd(optimiser, extra):
    options = InnerLoop(3, optimiser, **extra)
    params = start()
    expected = by_autograd(params, options)
    close(to_vector(torch.func.grad(outer)(params, options)), expected)
    stacked = {n: torch.stack([t, start(5)[n]]) for n, t in params.items()}
    mapped = torch.vmap(torch.func.grad(lambda p: outer(p, options)))(stacked)
    close(to_vector({name: tensor[0] for name, tensor in mapped.items()}), expected)
    close(to_vector({name: tensor[1] for name, tensor in mapped.items()}), by_autograd(start(5), options))


# Checkpointing.


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("truncate", [None, 2])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_checkpointing_gives_exactly_the_same_gradients(optimiser, truncate, clip):
    plain, saved = (InnerLoop(3, optimiser, clip, truncate=truncate, checkpoint=c) for c in (False, True))
    assert torch.equal(by_autograd(start(), plain), by_autograd(start(), saved))


def test_checkpointing_is_exact_for_what_the_loss_reads_besides():
    """A pull towards the outer parameters, and features that the outer parameters made."""

    def total(checkpoint):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in start().items()}
        anchor = leaves["body.bias"].sin()

        def loss(params):
            pull = sum((params[name] - leaves[name] * 2).square().sum() for name in leaves)
            return SUPPORT(params) + pull + (anchor * params["body.bias"]).sum()

        value = QUERY(adapt_parameters(loss, leaves, InnerLoop(3, SGD(0.05), checkpoint=checkpoint)))
        return torch.cat([grad.reshape(-1) for grad in torch.autograd.grad(value, list(leaves.values()))])

    close(total(True), total(False), 1e-12)


def test_checkpointing_repeats_the_draws_of_dropout():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)).double()
    model = Functional(lambda: layer)
    x, y = examples(3)
    found = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in layer.named_parameters()}
        loss = lambda p: (model(p, x) - y).square().mean()  # noqa: E731 - as a user would write it
        adapted = adapt_parameters(loss, leaves, InnerLoop(3, checkpoint=checkpoint))
        found.append(torch.autograd.grad(adapted["0.weight"].square().sum(), leaves["0.weight"])[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("transform", [torch.vmap, lambda f: torch.func.grad(lambda p: f(p).sum())])
def test_checkpointing_under_a_transform_is_refused(transform):
    options = InnerLoop(1, checkpoint=True)
    with pytest.raises(NotAvailable, match="does not work under"):
        transform(lambda w: adapt_parameters(lambda p: p["w"].square().sum(), {"w": w}, options)["w"])(torch.ones(2, 3))


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that operators made and that are still held; the largest such number."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.seen:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        size = storage.nbytes()
        self.seen.add(storage)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, size)

    def _release(self, size):
        self.now -= size


def peak_bytes(steps, **extra):
    """Of one meta-gradient of a network whose activations are far larger than its parameters."""
    support, query = fits(examples(1, rows=2000)), fits(examples(2))
    leaves = {name: tensor.requires_grad_() for name, tensor in start().items()}
    with LiveBytes() as memory:
        value = query(adapt_parameters(support, leaves, InnerLoop(steps, SGD(0.01), **extra)))
        torch.autograd.grad(value, list(leaves.values()))
    return memory.peak


def test_memory_grows_with_the_steps_only_where_it_must():
    assert peak_bytes(12) > 3 * peak_bytes(2)
    assert peak_bytes(12, order="first") < 1.1 * peak_bytes(2, order="first")
    assert peak_bytes(12, truncate=2) < 1.2 * peak_bytes(2)
    assert peak_bytes(12, checkpoint=True) < 1.2 * peak_bytes(2, checkpoint=True)
    assert peak_bytes(12, checkpoint=True) < peak_bytes(12) / 2


# What is left behind.


@pytest.mark.parametrize("options", [InnerLoop(2), InnerLoop(2, order="first"), InnerLoop(2, checkpoint=True)])
def test_outer_parameters_are_bit_identical_and_memory_is_flat(options):
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)).double().eval()
    model = Functional(lambda: layer)
    params = {name: tensor.detach().clone().requires_grad_() for name, tensor in layer.named_parameters()}
    before = digest(params), digest(layer.state_dict())

    def task(seed):
        x, y = examples(seed)
        loss = lambda p: (model(p, x) - y).square().mean()  # noqa: E731 - as a user would write it
        torch.autograd.grad(loss(adapt_parameters(loss, params, options)), list(params.values()))

    def live():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    with LiveBytes() as memory:
        counts = []
        for seed in range(300):
            task(seed)
            if seed in {9, 299}:
                counts.append((live(), memory.now))
    assert counts[0] == counts[1]
    assert (digest(params), digest(layer.state_dict())) == before
    assert all(tensor.grad is None for tensor in [*params.values(), *layer.parameters()])


class Deep(torch.nn.Module):
    def __init__(self, switched):
        super().__init__()
        self.inner = torch.nn.Linear(1, 1)
        self.inner.gradient_checkpointing = switched


def test_a_module_that_checkpoints_itself_is_refused():
    with pytest.raises(NoSecondOrder, match="inner has its own gradient checkpointing"):
        Functional(lambda: Deep(True)).module()
    plain = Deep(False)
    assert refuse_inner_checkpointing(plain) is plain


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_loss_in_parts_is_their_sum(order):
    def part(scale, params):
        return scale * (params["a"] * params["b"]).square().sum()

    whole = InnerLoop(3, SGD(0.1), order=order)
    parts = Summed((partial(part, 0.2), partial(part, 0.5)))
    given = {"a": torch.tensor([1.0, 2.0], requires_grad=True), "b": torch.tensor([0.5, -1.0], requires_grad=True)}
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = adapt_parameters(parts, given, whole)
            expected = adapt_parameters(partial(part, 0.7), given, whole)
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor)
    routes = (parts, partial(part, 0.7))
    sums = [sum(tensor.sum() for tensor in adapt_parameters(each, given, whole).values()) for each in routes]
    for one, other in zip(*(torch.autograd.grad(each, list(given.values())) for each in sums), strict=True):
        torch.testing.assert_close(one, other)
