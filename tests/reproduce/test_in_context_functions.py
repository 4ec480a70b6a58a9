"""The small version: linear functions of two coordinates are learned in context, and the controls are not."""

import pytest
import torch
from quick_runs import quick_rows

from quickstudy.reproduce.in_context_functions import (
    IN_CONTEXT_FUNCTIONS,
    draw_tests,
    errors_along,
    least_squares,
    mean_answer,
    oracle_errors,
    shuffled,
)
from quickstudy.tasks.function_classes import FunctionClass


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, IN_CONTEXT_FUNCTIONS)
    return {row.name: row for row in found}


def test_the_transformer_learns_linear_functions_from_the_context(rows):
    assert rows["transformer, linear d=2, k=4"].mean < 0.1
    assert rows["transformer, linear d=2, k=2"].mean < 0.25
    assert rows["transformer, linear d=2, k=1"].mean < 0.8


def test_the_controls_do_not(rows):
    for name in ("untrained transformer", "targets of the context shuffled", "the mean of the context"):
        assert rows[f"control: {name}, linear d=2, k=4"].mean > 0.5
    assert rows["control: least squares, linear d=2, k=4"].mean < 1e-5
    assert rows["transformer, linear d=2, k=1"].facts["least_squares"] == pytest.approx(0.5, abs=0.2)


def test_the_paper_is_named_as_unverified(rows):
    published = [row for row in rows.values() if row.published is not None]
    assert len(published) == 2
    assert all(row.published_source.endswith("unverified") for row in published)


def test_errors_of_oracles_are_those_of_each_prefix():
    tests = draw_tests(FunctionClass(dimension=3, shots=5), 40)
    errors = oracle_errors(least_squares, tests)
    assert errors.shape == (40, 6)
    torch.testing.assert_close(errors[:, 0], tests[1][:, 0].square())
    assert float(errors[:, 3:].max()) < 1e-4
    means = oracle_errors(mean_answer, tests)[:, 2]
    torch.testing.assert_close(means, (tests[1][:, :2].mean(1) - tests[1][:, 2]).square())


def test_shuffling_keeps_the_targets_and_the_question():
    x, y = draw_tests(FunctionClass(dimension=3, shots=5), 10)
    other_x, other_y = shuffled((x, y))
    assert torch.equal(x, other_x)
    assert torch.equal(y[:, -1], other_y[:, -1])
    assert torch.equal(y.sort(1).values.sum(1), other_y.sort(1).values.sum(1))
    assert not torch.equal(y, other_y)


def test_errors_along_do_not_depend_on_the_number_of_tasks():
    tests = draw_tests(FunctionClass(dimension=3, shots=5), 10)
    from quickstudy.learners.in_context.function_transformer import FunctionTransformer

    learner = FunctionTransformer(3)
    params = learner.init(torch.Generator().manual_seed(0))
    some = errors_along(learner, params, (tests[0][:3], tests[1][:3]))
    torch.testing.assert_close(errors_along(learner, params, tests)[:3], some, atol=1e-5, rtol=1e-4)
