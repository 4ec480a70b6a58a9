"""Meta-splits share nothing, keep everything, and the check sees what they share."""

import pytest
import torch

from quickstudy.core.errors import SplitError
from quickstudy.tasks.splits import check_disjoint, split_classes, split_domains, split_examples
from quickstudy.tasks.table import Table

FRACTIONS = (0.6, 0.2, 0.2)


def table(classes=10, each=10):
    rows = [(f"text {row} of {label}", f"c{label}", f"d{label % 5}") for label in range(classes) for row in range(each)]
    texts, labels, domains = zip(*rows, strict=True)
    return Table(texts, labels, domains=domains)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("split", "by"),
    [(split_classes, ("text", "class")), (split_domains, ("text", "class", "domain")), (split_examples, ("text",))],
)
def test_parts_share_nothing_and_keep_every_row(split, by):
    whole = table()
    parts = split(whole, FRACTIONS, seeded())
    check_disjoint({str(number): part for number, part in enumerate(parts)}, by)
    assert sorted(text for part in parts for text in part.texts) == sorted(whole.texts)
    assert [len(part) for part in parts] == [60, 20, 20]
    assert [part.texts for part in split(whole, FRACTIONS, seeded())] == [part.texts for part in parts]
    assert [part.texts for part in split(whole, FRACTIONS, seeded(1))] != [part.texts for part in parts]


def test_parts_by_examples_have_every_class():
    for part in split_examples(table(), FRACTIONS, seeded()):
        assert part.classes == table().classes


def test_equal_texts_stay_in_one_part():
    whole = table(4, 10)
    doubled = Table(whole.texts + tuple(text.upper() + " " for text in whole.texts), whole.labels * 2)
    parts = split_examples(doubled, (0.5, 0.5), seeded())
    check_disjoint({"a": parts[0], "b": parts[1]})
    assert len(parts[0]) + len(parts[1]) == 80


def test_a_text_with_two_labels_is_left_out_of_the_later_part():
    whole = Table(("a", "b", "same", "Same"), ("x", "y", "x", "y"))
    for seed in range(10):
        parts = split_classes(whole, (0.5, 0.5), seeded(seed))
        check_disjoint({"one": parts[0], "two": parts[1]}, ("text", "class"))
        assert (len(parts[0]), len(parts[1])) == (2, 1)
        assert "1 rows were left out" in parts[1].notes[-1]


def test_overlaps_are_named():
    one = Table(("Hello  there", "b"), ("x", "y"), domains=("p", "q"))
    other = Table(("hello there", "c"), ("y", "z"), domains=("q", "r"))
    with pytest.raises(SplitError) as caught:
        check_disjoint({"train": one, "test": other}, ("text", "class", "domain"))
    message = str(caught.value)
    assert "'train' and 'test' share 1 of kind text: 'hello there'" in message
    assert "kind class: 'y'" in message
    assert "kind domain: 'q'" in message
    check_disjoint({"train": one, "test": other}, ("group",))
    with pytest.raises(ValueError, match="'label'"):
        check_disjoint({"train": one}, ("label",))


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.6), (1.2, -0.2)])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(SplitError, match="sum to 1"):
        split_classes(table(), fractions, seeded())


def test_too_few_to_split():
    with pytest.raises(SplitError, match="are 2, too few for 3 parts"):
        split_classes(table(2), FRACTIONS, seeded())
    with pytest.raises(SplitError, match="class 'c0' are 2, too few"):
        split_examples(table(2, 2), FRACTIONS, seeded())
    with pytest.raises(SplitError, match="no domain column"):
        split_domains(Table(("a",), ("x",)), FRACTIONS, seeded())
    assert [len(set(part.labels)) for part in split_classes(table(3), (0.98, 0.01, 0.01), seeded())] == [1, 1, 1]
