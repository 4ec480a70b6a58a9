"""Texts from a stream, and answers as CSV."""

import csv
import io

import pytest

from quickstudy import FewShotClassifier
from quickstudy.core.errors import TableError
from quickstudy.lifecycle.predicting import answer_texts, answers_csv, texts_of_stream


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"one\ntwo\n\n", ("one", "two")),
        (b"one, and more\r\ntwo", ("one, and more", "two")),
        (b"text\none\ntwo\n", ("one", "two")),
        (b'id,text\n1,"one, and\nmore"\n2,two\n', ("one, and\nmore", "two")),
        (b"\xef\xbb\xbftext,id\none,1\n", ("one",)),
        ("größe\n".encode(), ("größe",)),
        (b"NA\nnull\n", ("NA", "null")),
        (b"text\nNA\n", ("NA",)),
    ],
)
def test_a_stream_is_csv_with_a_header_or_one_text_a_line(data, texts):
    assert texts_of_stream(data) == texts


def test_the_column_may_have_another_name():
    assert texts_of_stream(b"message,text\none,two\n", "message") == ("one",)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"text\n", "no rows"),
        (b"text,id\n,1\n", "is empty in 1 of 1 rows"),
        (b'text,id\n"open,1\n', "cannot be read as CSV"),
        (b"text\n" + b"a" * 200_000, "more than"),
    ],
)
def test_a_stream_without_texts_is_refused(data, expected):
    with pytest.raises(TableError, match=expected) as caught:
        texts_of_stream(data)
    assert "\n" not in str(caught.value)


def test_answers_agree_with_the_classifier_and_come_back_from_csv(base, draw):
    classifier = FewShotClassifier("logistic", base, unknown=0.6).fit(*draw(3))
    texts = [*draw(3, 5)[0], 'say "please", now\nand here', "üöä"]
    answers, seconds = answer_texts(classifier, texts)
    assert seconds > 0
    assert [answer.label for answer in answers] == classifier.predict(texts).tolist()
    rows = list(csv.reader(io.StringIO(answers_csv(answers))))
    assert rows[0] == ["text", "label", "probability"]
    assert [row[0] for row in rows[1:]] == texts
    assert [float(row[2]) for row in rows[1:]] == pytest.approx(classifier.predict_proba(texts).max(1), abs=1e-4)
