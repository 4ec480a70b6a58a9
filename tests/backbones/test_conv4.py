"""Conv4: the common checks where rows stay apart, and what batch statistics do where they do not."""

import pytest
import torch
from torch import nn

from quickstudy.backbones import conformance as checks
from quickstudy.backbones.conv4 import Conv4
from quickstudy.core.functional import Functional

SMALL = {"size": (13, 11), "widths": (4, 8)}
ROWS_APART = [
    Conv4(norm="group", **SMALL),
    Conv4(norm="none", channels=3, **SMALL),
    Conv4(norm="group", shrink="stride", readout="mean", **SMALL),
    Conv4(norm="none", halvings=1, size=(8, 8), widths=(4, 4, 4)),
]
TOGETHER = [Conv4(**SMALL), Conv4(shrink="stride", readout="mean", **SMALL)]


def images(backbone, rows=5, seed=0):
    return torch.rand(rows, backbone.channels, *backbone.size, generator=torch.Generator().manual_seed(seed))


def features(backbone, inputs, seed=0):
    params = backbone.start(torch.Generator().manual_seed(seed))
    return Functional(backbone.module)(params, inputs)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("backbone", ROWS_APART, ids=str)
def test_each_row_by_itself(backbone, check):
    assert not backbone.transductive
    check(backbone, images(backbone))


@pytest.mark.parametrize(
    "check", [c for c in checks.CHECKS if c is not checks.check_rows_apart], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("backbone", TOGETHER, ids=str)
def test_statistics_of_the_batch(backbone, check):
    check(backbone, images(backbone))


@pytest.mark.parametrize("backbone", TOGETHER, ids=str)
def test_batch_statistics_are_declared_and_do_mix_rows(backbone):
    assert backbone.transductive
    with pytest.raises(AssertionError, match="alone and in the batch"):
        checks.check_rows_apart(backbone, images(backbone))


def test_the_networks_of_the_papers():
    """64 features of a 28 x 28 image; 2 x 2 maps with strides; 7 x 7 maps in relation networks."""
    assert (Conv4().width, Conv4().shape) == (64, (64, 1, 1))
    strided = Conv4(shrink="stride", readout="mean")
    assert (strided.width, strided.shape) == (64, (64, 2, 2))
    assert Conv4(halvings=2).shape == (64, 7, 7)
    assert Conv4((84, 84), 3, (32, 32, 32, 32)).width == 32 * 5 * 5
    count = sum(tensor.numel() for tensor in Conv4().start(torch.Generator()).values())
    assert count == 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64


@pytest.mark.parametrize("shrink", ["pool", "stride"])
def test_it_computes_what_torch_layers_compute(shrink):
    backbone = Conv4((28, 28), shrink=shrink)
    params = backbone.start(torch.Generator().manual_seed(0))
    layers = []
    for index in range(4):
        conv = nn.Conv2d(64 if index else 1, 64, 3, stride=1 if shrink == "pool" else 2, padding=1, bias=False)
        conv.weight.data = params[f"blocks.{index}.conv.weight"]
        layers += [conv, nn.BatchNorm2d(64), nn.ReLU()] + [nn.MaxPool2d(2)] * (shrink == "pool")
    expected = nn.Sequential(*layers, nn.Flatten()).train()(images(backbone))
    torch.testing.assert_close(features(backbone, images(backbone)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", TOGETHER, ids=str)
def test_rows_of_zeros_do_not_count(backbone):
    """Blanked padding changes no other row, wherever it stands, and gives finite features."""
    real = images(backbone)
    mixed = torch.cat([real[:2], torch.zeros_like(real[:1]), real[2:], torch.zeros_like(real[:2])])
    found = features(backbone, mixed)
    torch.testing.assert_close(found[[0, 1, 3, 4, 5]], features(backbone, real), rtol=1e-4, atol=1e-5)
    assert found.isfinite().all()
    assert features(backbone, torch.zeros_like(real)).isfinite().all()


def test_gradients_do_not_see_rows_of_zeros():
    backbone = TOGETHER[0]
    real = images(backbone)
    function = Functional(backbone.module)

    def gradient(inputs, rows):
        return torch.func.grad(lambda params: function(params, inputs)[:rows].square()[:, 0].sum())(
            backbone.start(torch.Generator().manual_seed(0))
        )

    plain, padded = gradient(real, 5), gradient(torch.cat([real, torch.zeros_like(real[:3])]), 5)
    for name, grad in plain.items():
        torch.testing.assert_close(padded[name], grad, rtol=1e-3, atol=1e-4)


def test_second_order_equals_finite_differences():
    backbone = Conv4(size=(6, 6), widths=(2, 2))
    inputs = images(backbone).double()
    function = Functional(lambda: backbone.module().double())
    start = {name: tensor.double() for name, tensor in backbone.start(torch.Generator().manual_seed(0)).items()}
    name = "blocks.0.conv.weight"

    def adapted_loss(weight):
        params = {**start, name: weight}
        grads = torch.func.grad(lambda p: function(p, inputs).square().sum())(params)
        return function({key: tensor - 0.01 * grads[key] for key, tensor in params.items()}, inputs).square().sum()

    assert torch.autograd.gradcheck(adapted_loss, start[name].requires_grad_())


def test_folding_keeps_the_features_of_the_batch_it_was_made_on_and_sets_rows_apart():
    backbone = Conv4(**SMALL)
    params = backbone.start(torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    params = {n: t + 0.3 * torch.randn(t.shape, generator=draw) if "norm" in n else t for n, t in params.items()}
    inputs = images(backbone, 12)
    apart = Conv4(norm="none", **SMALL)
    folded = backbone.folded(params, [inputs])
    assert folded.keys() == apart.start(torch.Generator()).keys()
    expected = Functional(backbone.module)(params, inputs)
    function = Functional(apart.module)
    torch.testing.assert_close(function(folded, inputs), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(function(folded, inputs[:1]), expected[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (Conv4((8, 8)), "halved to nothing"),
        (Conv4(norm="layer"), "norm is 'layer'"),
        (Conv4(shrink="mean"), "shrink is 'mean'"),
        (Conv4(readout="sum"), "readout is 'sum'"),
        (Conv4(widths=()), "1 or more"),
        (Conv4(channels=0), "1 or more"),
    ],
)
def test_what_makes_no_network_is_refused(backbone, words):
    with pytest.raises(ValueError, match=words):
        backbone.module()


def test_folding_needs_batch_statistics_and_batches():
    backbone = Conv4(**SMALL)
    params = backbone.start(torch.Generator())
    with pytest.raises(ValueError, match="no batches"):
        backbone.folded(params, [])
    other = Conv4(norm="group", **SMALL)
    with pytest.raises(ValueError, match='norm "batch"'):
        other.folded(other.start(torch.Generator()), [images(other)])
