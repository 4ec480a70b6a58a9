"""Trees of parameters."""

import re

import pytest
import torch

from quickstudy.core import parameters as trees


@pytest.fixture
def params():
    draw = torch.Generator().manual_seed(0)
    shapes = {"body.0.weight": (3, 2), "body.0.bias": (3,), "head.weight": (2, 3), "scale": ()}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_unflatten_and_flatten_are_inverse(params):
    nested = trees.unflatten(params)
    assert torch.equal(nested["body"]["0"]["weight"], params["body.0.weight"])
    assert same(trees.flatten(nested), params)


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a")])
def test_unflatten_refuses_a_tensor_with_tensors_below(names):
    with pytest.raises(ValueError, match="rename"):
        trees.unflatten({name: torch.zeros(()) for name in names})


def test_flatten_refuses_other_leaves_and_equal_names():
    with pytest.raises(ValueError, match="holds a float"):
        trees.flatten({"a": {"b": 1.0}})
    with pytest.raises(ValueError, match="two tensors"):
        trees.flatten({"a": {"b": torch.zeros(())}, "a.b": torch.zeros(())})


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ((), []),
        (("body.*",), ["body.0.weight", "body.0.bias"]),
        (("*.weight", "scale"), ["body.0.weight", "head.weight", "scale"]),
        ((re.compile(r"\w+\.weight"),), ["head.weight"]),
    ],
)
def test_split_parts_by_pattern(params, patterns, chosen):
    matching, others = trees.split(params, patterns)
    assert list(matching) == chosen
    assert list(others) == [name for name in params if name not in chosen]


def test_split_refuses_a_pattern_without_match(params):
    with pytest.raises(ValueError, match=r"'boddy\.\*' matches no parameter"):
        trees.split(params, ("boddy.*",))


def test_vector_and_back(params):
    vector = trees.to_vector(params)
    assert same(trees.from_vector(vector, params), params)
    assert torch.allclose(trees.norm(params), vector.norm())
    with pytest.raises(ValueError, match="entries"):
        trees.from_vector(vector[1:], params)


def test_empty_tree_has_an_empty_vector_and_no_norm():
    assert trees.to_vector({}).shape == (0,)
    assert trees.norm({}) == 0
    assert trees.from_vector(torch.zeros(0), {}) == {}


def test_clipping_scales_only_what_is_too_long(params):
    length = float(trees.norm(params))
    clipped = trees.clip_by_norm(params, length / 3)
    assert torch.allclose(trees.norm(clipped), torch.tensor(length / 3))
    assert torch.allclose(trees.to_vector(clipped) * 3, trees.to_vector(params))
    assert same(trees.clip_by_norm(params, length * 3), params)


def test_norm_and_clipping_have_a_gradient_at_zero():
    zero = torch.zeros(3, requires_grad=True)
    clipped = trees.clip_by_norm({"a": zero}, 1.0)["a"].sum() + trees.norm({"a": zero})
    (gradient,) = torch.autograd.grad(clipped, zero)
    assert torch.equal(gradient, torch.ones(3))


def test_clipping_is_differentiated_exactly():
    point = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: trees.clip_by_norm({"a": x}, 2.0)["a"], point)


def test_digest_sees_names_values_shapes_and_types(params):
    found = trees.digest(params)
    assert found == trees.digest(dict(reversed(params.items())))
    changed = {**params, "scale": torch.nextafter(params["scale"], torch.tensor(9.0))}
    reshaped = {**params, "head.weight": params["head.weight"].reshape(3, 2)}
    renamed = {name.replace("head", "tail"): tensor for name, tensor in params.items()}
    typed = {**params, "scale": params["scale"].view(torch.int32)}
    assert len({found, *map(trees.digest, (changed, reshaped, renamed, typed))}) == 5
    assert trees.digest({"a": torch.ones(2, dtype=torch.bfloat16)})


def test_detach_cuts_the_history_and_shares_storage():
    start = torch.ones(2, requires_grad=True)
    (held,) = trees.detach({"a": start * 1}).values()
    assert not held.requires_grad
    assert trees.detach({"a": start})["a"].data_ptr() == start.data_ptr()
