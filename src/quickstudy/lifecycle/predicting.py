"""Texts from files, streams and arguments to answers."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from quickstudy.core.errors import TableError
from quickstudy.lifecycle.classifier import FewShotClassifier
from quickstudy.tasks.reading import read_texts
from quickstudy.tasks.table_files import FIELD_LIMIT


@dataclass(frozen=True)
class Answer:
    """An answer to one text.

    Attributes:
        text: the text.
        label: the most likely class, or the classifier's word for unknown.
        probability: that of the most likely class.
    """

    text: str
    label: str
    probability: float


def texts_of_stream(data: bytes, text_column: str = "text") -> tuple[str, ...]:
    """The texts in `data`: the column `text_column` if the first line is a CSV header that has it, else one a line.

    Raises:
        TableError: no texts, not UTF-8, or damaged CSV.
    """
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"standard input: byte {error.start} is not UTF-8; send UTF-8 text") from error
    lines = [line for line in content.splitlines() if line.strip()]
    if not lines:
        raise TableError("standard input: is empty; send one text a line, or CSV with a header")
    if text_column not in next(csv.reader(lines[:1])):
        return read_texts(lines)
    if any(len(line) > FIELD_LIMIT for line in lines):
        raise TableError(f"standard input: a line has more than {FIELD_LIMIT} characters; send shorter texts")
    try:
        frame = pd.read_csv(io.StringIO(content), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise TableError(
            f"standard input: cannot be read as CSV ({reason}); put quotation marks around texts"
        ) from error
    return read_texts(frame, text_column)


def answer_texts(classifier: FewShotClassifier, texts: Sequence[str]) -> tuple[tuple[Answer, ...], float]:
    """An answer for each text, and the seconds that it took.

    Raises:
        InputError: a text is empty or no string.
    """
    began = time.perf_counter()
    labels, probabilities = classifier.answer(texts)
    seconds = time.perf_counter() - began
    rows = zip(texts, labels.tolist(), probabilities.max(1).tolist(), strict=True)
    return tuple(Answer(text, str(label), probability) for text, label, probability in rows), seconds


def answers_csv(answers: Sequence[Answer]) -> str:
    """The answers as CSV with a header: text, label, probability."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("text", "label", "probability"))
    writer.writerows((answer.text, answer.label, f"{answer.probability:.4f}") for answer in answers)
    return stream.getvalue()
