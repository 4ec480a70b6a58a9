"""The transformer over examples and questions: who sees whom."""

import pytest
import torch

from quickstudy.learners.transformer import HIDDEN, Transformer

SMALL = Transformer(8, 2, 2, 16)


def made(transformer=SMALL, seed=0):
    draw = torch.Generator().manual_seed(seed)
    params = {name: t + 0.3 * torch.randn(t.shape, generator=draw) for name, t in transformer.init(draw).items()}
    return params, torch.randn(5, 8, generator=draw), torch.randn(3, 8, generator=draw)


@pytest.mark.parametrize("transformer", [SMALL, Transformer(8, 2, 2, 16, normalise=True)])
def test_asking_later_is_the_same_as_reading_together(transformer):
    params, examples, questions = made(transformer)
    mask = torch.zeros(8, 5)
    mask[:, 1] = HIDDEN
    read, together, kept = transformer.read(params, examples, questions, mask)
    alone, _, _ = transformer.read(params, examples, examples[:0], mask[:5])
    torch.testing.assert_close(transformer.ask(params, kept, questions, mask[5:]), together)
    torch.testing.assert_close(alone, read)


@pytest.mark.parametrize("transformer", [SMALL, Transformer(8, 2, 2, 16, normalise=True), Transformer(8, 1, 2, 16)])
def test_answers_alone_are_those_of_reading_with_and_without_gradients(transformer):
    params, examples, questions = made(transformer)
    mask = torch.zeros(8, 5)
    mask[:, 1], mask[5, 2] = HIDDEN, -0.7
    expected = transformer.read(params, examples, questions, mask)[1]
    torch.testing.assert_close(transformer.answer(params, examples, questions, mask), expected)
    with torch.no_grad():  # by another kernel
        torch.testing.assert_close(transformer.answer(params, examples, questions, mask), expected)
        both = torch.stack([mask, mask.roll(1, 1)])
        mapped = torch.vmap(lambda mask: transformer.answer(params, examples, questions, mask))(both)
        torch.testing.assert_close(mapped[0], expected)


def test_a_hidden_example_changes_nothing():
    params, examples, questions = made()
    mask = torch.zeros(8, 5)
    mask[:, 3] = HIDDEN
    changed = examples.clone()
    changed[3] = 100
    before, after = (SMALL.read(params, each, questions, mask)[1] for each in (examples, changed))
    torch.testing.assert_close(before, after)
    seen = SMALL.read(params, changed, questions, torch.zeros(8, 5))[1]
    assert not torch.allclose(SMALL.read(params, examples, questions, torch.zeros(8, 5))[1], seen)


def test_a_question_that_sees_nothing_is_answered_all_the_same():
    params, examples, questions = made()
    alone = SMALL.read(params, examples, questions, torch.full((8, 5), HIDDEN))[1]
    _, _, nothing = SMALL.read(params, examples[:0], examples[:0], torch.zeros(0, 0))
    assert alone.isfinite().all()
    torch.testing.assert_close(SMALL.ask(params, nothing, questions, torch.zeros(3, 0)), alone)


def test_without_a_mask_the_order_of_the_examples_does_not_count():
    params, examples, questions = made()
    order = torch.tensor([3, 0, 4, 1, 2])
    one = SMALL.read(params, examples, questions, torch.zeros(8, 5))
    other = SMALL.read(params, examples[order], questions, torch.zeros(8, 5))
    torch.testing.assert_close(one[1], other[1])
    torch.testing.assert_close(one[0][order], other[0])


def test_a_mask_may_differ_between_heads():
    params, examples, questions = made()
    mask = torch.zeros(2, 8, 5)
    mask[0, :, 2] = HIDDEN
    both = [SMALL.read(params, examples, questions, torch.full((8, 5), 0.0) + part)[1] for part in (mask, mask * 0)]
    assert not torch.allclose(*both)


@pytest.mark.parametrize("sizes", [(8, 2, 3, 16), (8, 0, 2, 16), (0, 1, 1, 1), (8, 1, 2, 0)])
def test_sizes_without_meaning_are_refused(sizes):
    with pytest.raises(ValueError, match="heads that divide the width"):
        Transformer(*sizes)
