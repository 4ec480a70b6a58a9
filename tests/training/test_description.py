import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from quickstudy.training.description import described, first_difference, params_digest


def square(x):
    return x * x


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    names: tuple = ("a", "b")


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    table: dict = field(default_factory=lambda: {"x": 1})
    values: torch.Tensor = field(default_factory=lambda: torch.arange(3.0))
    rows: tuple = tuple(range(100))
    function: object = square
    kinds: frozenset = frozenset({"u", "v", "w"})
    path: Path = Path("a")
    other: object = field(default_factory=object)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("inner", Inner(rate=0.2), "l.inner.rate was 0.1, is now 0.2"),
        ("inner", Inner(names=("a", "c")), "l.inner.names.1 was 'b', is now 'c'"),
        ("inner", Inner(names=("a",)), "l.inner.names was list of 2, is now list of 1"),
        ("table", {"x": 1, "y": 2}, "l.table"),
        ("table", {"x": True}, "l.table.x"),
        ("values", torch.tensor([0.0, 1.0, 2.5]), "l.values"),
        ("values", torch.arange(3), "l.values"),
        ("rows", (*range(99), 7), "l.rows"),
        ("function", torch.relu, "l.function"),
        ("kinds", frozenset({"u"}), "l.kinds"),
        ("path", Path("b"), "l.path"),
        ("other", None, "l.other"),
    ],
)
def test_a_difference_is_named(field, value, named):
    before, now = described(Outer(), "l"), described(replace(Outer(), **{field: value}), "l")
    assert named in first_difference(before, now)
    assert first_difference(now, before)


def test_equal_values_have_equal_descriptions():
    assert described(Outer(), "l") == described(Outer(), "l")
    assert first_difference(described(Outer(), "l"), described(Outer(), "l")) == ""


def test_what_is_only_in_one_is_named():
    assert first_difference({}, {"a": "1"}) == "a was absent, is now 1"
    assert first_difference({"a": "1"}, {}) == "a was 1, is now absent"


def test_another_process_describes_the_same():
    code = f"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location({__name__!r}, {__file__!r})
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
print(json.dumps(module.described(module.Outer(), "l")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == described(Outer(), "l")


def test_a_digest_of_parameters_sees_names_values_and_types():
    digests = {
        params_digest(params)
        for params in (
            {"a": torch.ones(2)},
            {"b": torch.ones(2)},
            {"a": torch.ones(2).double()},
            {"a": torch.ones(1, 2)},
            {"a": torch.tensor([1.0, 2.0])},
            {"a": torch.tensor(1.0)},
            {"a": torch.ones(2).bfloat16()},
            {},
        )
    }
    assert len(digests) == 8
    a, b = torch.randn(3, 4), torch.zeros(2)
    assert params_digest({"a": a, "b": b}) == params_digest({"b": b, "a": a.t().contiguous().t()})
