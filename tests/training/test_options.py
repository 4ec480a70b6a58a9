import math
from dataclasses import fields, replace

import pytest

from quickstudy.core.errors import InputError
from quickstudy.training.options import FREE, FitOptions, check_options


def test_the_defaults_make_a_run():
    check_options(FitOptions(), validated=False)
    check_options(FitOptions(steps=0, patience=1, clip=0.1, betas=(0, 0.5)), validated=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", -1),
        ("tasks_per_step", 0),
        ("accumulate", 0),
        ("accumulate", 3),
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("weight_decay", -1),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("schedule", "step"),
        ("warmup", -1),
        ("clip", 0.0),
        ("clip", math.nan),
        ("mode", "fast"),
        ("chunk", 0),
        ("validate_every", 0),
        ("validation_episodes", 0),
        ("patience", 0),
        ("checkpoint_every", 0),
        ("precision", "float16"),
        ("workers", -1),
    ],
)
def test_what_makes_no_run_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=field):
        check_options(replace(FitOptions(), **{field: value}), validated=True)


def test_patience_needs_validation():
    with pytest.raises(InputError, match="patience"):
        check_options(FitOptions(patience=2), validated=False)


def test_free_fields_are_fields():
    assert set(FREE) < {field.name for field in fields(FitOptions)}
