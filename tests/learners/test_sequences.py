"""Tasks as the batch of one call: the same as task by task, however torch.func is stacked around it."""

import pytest
import torch

from quickstudy.core import Batch
from quickstudy.learners.sequences import answer_loss, answer_means, shown_targets, with_tasks_as_batch

CALLS = []


def running(params, rows):
    """[task, time] -> running sums times a parameter; notes how large each batch was."""
    CALLS.append(len(rows["x"]))
    return {"sums": rows["x"].cumsum(1) * params["scale"], "last": rows["x"][:, -1]}


def one(params, x):
    found = with_tasks_as_batch(running, params, {"x": x})
    return found["sums"] + found["last"]


PARAMS = {"scale": torch.tensor(3.0)}
X = torch.arange(12.0).reshape(4, 3)


def expected(x, scale=3.0):
    return x.cumsum(-1) * scale + x[..., -1:]


def test_without_a_transform_it_is_a_batch_of_one():
    CALLS.clear()
    torch.testing.assert_close(one(PARAMS, X[0]), expected(X[0]))
    assert CALLS == [1]


def test_under_vmap_the_tasks_are_the_batch_of_one_call():
    CALLS.clear()
    torch.testing.assert_close(torch.vmap(one, (None, 0))(PARAMS, X), expected(X))
    torch.testing.assert_close(torch.vmap(one, (None, 1))(PARAMS, X.T.contiguous()), expected(X))
    assert CALLS == [4, 4]


def test_tensors_that_are_not_mapped_are_the_same_for_all_tasks():
    def both(shift):
        found = with_tasks_as_batch(lambda _, rows: {"sum": rows["x"] + rows["y"]}, {}, {"x": X[0], "y": shift})
        return found["sum"]

    torch.testing.assert_close(torch.vmap(both)(X), X + X[0])


def test_parameters_of_their_own_for_each_task():
    scales = {"scale": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    torch.testing.assert_close(torch.vmap(one)(scales, X), expected(X, scales["scale"][:, None]))
    torch.testing.assert_close(torch.vmap(one, (0, None))(scales, X[0]), expected(X[0], scales["scale"][:, None]))


def test_vmap_in_vmap():
    stack = torch.stack([X, X + 1])
    torch.testing.assert_close(torch.vmap(torch.vmap(one, (None, 0)), (None, 0))(PARAMS, stack), expected(stack))


def test_gradients_come_through_both_ways():
    slopes = X.cumsum(1).sum(1)

    def total(params, x):
        return one(params, x).sum()

    inside = torch.vmap(torch.func.grad(total), (None, 0))(PARAMS, X)
    torch.testing.assert_close(inside["scale"], slopes)
    leaf = {"scale": torch.tensor(3.0, requires_grad=True)}
    torch.vmap(total, (None, 0))(leaf, X).sum().backward()
    torch.testing.assert_close(leaf["scale"].grad, slopes.sum())


def test_targets_are_shown_as_they_are_or_one_hot():
    classes = Batch(torch.zeros(3, 1), torch.tensor([1, 0, 1]), torch.ones(3), 2)
    assert shown_targets(classes, 4).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    values = Batch(torch.zeros(2, 1), torch.tensor([[0.5, 2.0], [1.0, 0.0]]), torch.ones(2))
    assert shown_targets(values, 2) is values.targets


def test_losses_of_classes_bits_and_numbers():
    answers, weights = torch.zeros(2, 4), torch.tensor([1.0, 0.0])
    classes = Batch(answers, torch.tensor([1, 0]), weights, 2)
    assert float(answer_loss(answers, classes, bits=False)) == pytest.approx(torch.tensor(2.0).log().item())
    numbers = Batch(answers, torch.tensor([[1.0, 0, 1, 0], [9, 9, 9, 9]]), weights)
    assert float(answer_loss(answers, numbers, bits=False)) == pytest.approx(0.5)
    assert float(answer_loss(answers, numbers, bits=True)) == pytest.approx(torch.tensor(2.0).log().item())


def test_answers_as_logits_of_the_classes_or_as_probabilities_of_bits():
    answers = torch.tensor([[0.0, 2.0, -1.0]])
    assert answer_means(answers, 2, bits=True).tolist() == [[0, 2]]
    assert answer_means(answers, 0, bits=False) is answers
    torch.testing.assert_close(answer_means(answers, 0, bits=True), answers.sigmoid())
