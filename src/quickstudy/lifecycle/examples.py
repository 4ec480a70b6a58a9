"""Texts and labels as the user gave them, checked and put into one order."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from sklearn.exceptions import DataConversionWarning

from quickstudy.core.errors import InputError, TaskError
from quickstudy.tasks.table import listed

LabelKind: TypeAlias = Literal["str", "int", "bool"]
Label: TypeAlias = str | int | bool


@dataclass(frozen=True)
class Examples:
    """Labelled texts.

    Attributes:
        texts: one a row.
        targets: the class number of each row.
        classes: the different labels, sorted; this is the order of class numbers everywhere.
        kind: what labels were given as.
    """

    texts: tuple[str, ...]
    targets: tuple[int, ...]
    classes: tuple[Label, ...]
    kind: LabelKind

    @property
    def labels(self) -> tuple[Label, ...]:
        """The label of each row."""
        return tuple(self.classes[target] for target in self.targets)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as strings."""
        return tuple(str(label) for label in self.classes)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of the rows, whatever their order."""
        rows = sorted(zip(self.texts, map(str, self.labels), strict=True))
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def checked_texts(texts: Any) -> tuple[str, ...]:
    """`texts` as strings.

    Raises:
        InputError: no list of texts, no texts, or a text that is empty or no string, with its number.
    """
    rows = _listed(texts, "texts")
    if not rows:
        raise InputError("no texts were given (0 samples); give at least one")
    wrong = [f"text {row} is {_described(text)}" for row, text in enumerate(rows) if not isinstance(text, str)]
    if wrong:
        raise InputError(f"{wrong[0]}; expected a string, and {len(wrong)} of {len(rows)} are not: drop or fill these")
    empty = [row for row, text in enumerate(rows) if not text.strip()]
    if empty:
        raise InputError(f"{len(empty)} of {len(rows)} texts are empty, at {listed(empty)}; drop or fill these")
    return tuple(str(text) for text in rows)


def checked_examples(texts: Any, labels: Any) -> Examples:
    """The examples. Labels that are all strings, whole numbers or booleans stay so; others become strings.

    Raises:
        InputError: as `checked_texts`; another number of labels than texts; a label that is missing, empty or a
            fraction.
        TaskError: fewer than two classes.
    """
    rows = checked_texts(texts)
    if labels is None:
        raise InputError("requires y to be passed, but the target y is None: give a label for each text")
    found = _listed(labels, "labels")
    if len(found) != len(rows):
        raise InputError(f"{len(rows)} texts but {len(found)} labels came; give one label for each text")
    plain, kind = _plain_labels(found)
    classes = tuple(sorted(set(plain)))
    if len(classes) < 2:
        raise TaskError(f"all {len(rows)} examples have one class, {classes[0]!r}; give examples of at least two")
    number = {label: place for place, label in enumerate(classes)}
    return Examples(rows, tuple(number[label] for label in plain), classes, kind)


def checked_targets(labels: Any, count: int, classes: Sequence[Label], unknown_label: str | None) -> list[str]:
    """The labels of `count` texts as strings.

    Raises:
        InputError: another number of labels than texts.
        TaskError: a label that is none of `classes` and not `unknown_label`.
    """
    found = [str(_item(label)) for label in _listed(labels, "labels")]
    if len(found) != count:
        raise InputError(f"{count} texts but {len(found)} labels came; give one label for each text")
    known = {str(label) for label in classes} | ({unknown_label} if unknown_label is not None else set())
    strange = sorted(set(found) - known)
    if strange:
        raise TaskError(
            f"labels that no class has: {listed(strange)}; the classes are {listed(sorted(known), 20)}: add examples "
            "of the new ones with partial_fit, or drop these rows"
        )
    return found


def label_array(labels: Sequence[Label]) -> np.ndarray[Any, Any]:
    """`labels` as an array of their own kind."""
    return np.array(list(labels))


def _listed(values: Any, what: str) -> list[Any]:
    if not isinstance(values, Iterable) and getattr(values, "__array__", None) is not None:
        values = np.asarray(values)
    shape = getattr(values, "shape", None)
    if shape is not None and len(shape) == 2 and shape[1] == 1 and what == "labels":
        warnings.warn("A column-vector y was passed when a 1d array was expected", DataConversionWarning, stacklevel=2)
        return [row[0] for row in np.asarray(values).tolist()]
    if shape is not None and len(shape) != 1:
        raise InputError(f"{what} came with shape {tuple(shape)}; expected one axis: reshape your data to a list")
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"{what} came as {_described(values)}; expected a list with one entry for each example")
    return list(values)


def _plain_labels(values: Sequence[Any]) -> tuple[list[Label], LabelKind]:
    plain = [_item(value) for value in values]
    missing = [row for row, value in enumerate(plain) if value is None or _is_nan(value) or value == ""]
    if missing:
        raise InputError(f"{len(missing)} labels are missing or NaN, at {listed(missing)}; fill or drop these rows")
    if all(isinstance(value, bool) for value in plain):
        return plain, "bool"
    if all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in plain):
        return _whole_numbers(plain), "int"
    if all(isinstance(value, str) for value in plain):
        return plain, "str"
    named: list[Label] = [str(value) for value in plain]
    if len(set(named)) != len(set(plain)):
        raise InputError("labels of several types look the same as text, such as 1 and '1'; give labels of one type")
    return named, "str"


def _whole_numbers(values: Sequence[Any]) -> list[Label]:
    for row, value in enumerate(values):
        if not math.isfinite(value) or value != int(value):
            raise InputError(
                f"Unknown label type: continuous: label {row} is {value!r}; expected classes: names or whole numbers"
            )
    return [int(value) for value in values]


def _item(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, str) else value


def _is_nan(value: Any) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")


def _described(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return str(value)
    return f"a {type(value).__name__}"
