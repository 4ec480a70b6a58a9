"""Texts and labels as users give them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import DataConversionWarning

from quickstudy.core.errors import InputError, TaskError
from quickstudy.lifecycle.examples import checked_examples, checked_targets, checked_texts, label_array

TWO = ["one text", "another text"]


@pytest.mark.parametrize(
    "texts", [TWO, tuple(TWO), np.array(TWO), np.array(TWO, dtype=object), pd.Series(TWO, index=[7, 3]), iter(TWO)]
)
def test_texts_come_in_many_forms(texts):
    assert checked_texts(texts) == tuple(TWO)
    assert all(type(text) is str for text in checked_texts(tuple(TWO)))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("a string", "expected a list"),
        (b"bytes", "expected a list"),
        ({"a": 1}, "expected a list"),
        (5, "expected a list"),
        (None, "expected a list"),
        ([], "no texts were given"),
        (["a", None], "text 1 is None"),
        (["a", float("nan")], "text 1 is nan"),
        (["a", 3], "text 1 is a int"),
        ([["a"], ["b"]], "text 0 is a list"),
        (["a", "", "  "], "2 of 3 texts are empty, at 1, 2"),
        (np.array([["a", "b"]]), "shape (1, 2)"),
        (pd.DataFrame({"text": TWO}), "shape (2, 1)"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, expected):
    with pytest.raises(InputError) as caught:
        checked_texts(texts)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "classes", "kind"),
    [
        (["b", "a", "b"], ("a", "b"), "str"),
        (np.array(["b", "a", "b"]), ("a", "b"), "str"),
        (pd.Series(["b", "a", "b"], dtype="category"), ("a", "b"), "str"),
        ([10, 9, 10], (9, 10), "int"),
        (np.array([10, 9, 10], dtype=np.int8), (9, 10), "int"),
        ([10.0, 9.0, 10.0], (9, 10), "int"),
        ([True, False, True], (False, True), "bool"),
        ([("x", 1), ("a", 2), ("x", 1)], ("('a', 2)", "('x', 1)"), "str"),
    ],
)
def test_labels_keep_their_kind_and_are_sorted(labels, classes, kind):
    examples = checked_examples(["t", "u", "v"], labels)
    assert (examples.classes, examples.kind) == (classes, kind)
    assert examples.targets == (1, 0, 1)
    assert label_array(examples.classes).tolist() == list(classes)


@pytest.mark.parametrize(
    ("labels", "error", "expected"),
    [
        (["a", "a"], TaskError, "one class, 'a'"),
        (["a"], InputError, "2 texts but 1 labels"),
        (["a", None], InputError, "1 labels are missing or NaN, at 1"),
        (["a", float("nan")], InputError, "missing or NaN"),
        (["a", pd.NA], InputError, "missing or NaN"),
        (["a", ""], InputError, "missing or NaN"),
        ([0.5, 1.0], InputError, "Unknown label type"),
        ([float("inf"), 1.0], InputError, "Unknown label type"),
        ([1, "1"], InputError, "several types"),
        (None, InputError, "target y is None"),
        ("ab", InputError, "expected a list"),
    ],
)
def test_labels_that_make_no_task_are_refused(labels, error, expected):
    with pytest.raises(error, match=expected):
        checked_examples(TWO, labels)


def test_a_column_of_labels_is_taken_with_a_warning():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        assert checked_examples(TWO, np.array([["b"], ["a"]])).targets == (1, 0)


def test_digest_depends_on_the_rows_and_not_on_their_order():
    one = checked_examples(["t", "u", "v"], ["a", "b", "a"])
    same = checked_examples(["v", "t", "u"], ["a", "a", "b"])
    other = checked_examples(["t", "u", "v"], ["a", "b", "b"])
    assert one.digest == same.digest != other.digest


def test_labels_that_no_class_has_are_named():
    assert checked_targets(["a", "b"], 2, ["a", "b"], None) == ["a", "b"]
    assert checked_targets(["a", "unknown"], 2, ["a", "b"], "unknown") == ["a", "unknown"]
    with pytest.raises(TaskError, match="that no class has: 'c', 'd'"):
        checked_targets(["a", "d", "c"], 3, ["a", "b"], "unknown")
