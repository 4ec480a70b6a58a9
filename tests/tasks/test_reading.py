"""Reading tables: what is read back, and what is refused with which words."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.core.errors import TableError
from quickstudy.tasks.reading import read_table, read_texts
from quickstudy.tasks.table_files import FIELD_LIMIT

ROWS = [("what is my balance", "balance"), ("send, money", "transfer"), ('he said "now"\nplease', "transfer")]


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(source, *words, **options):
    with pytest.raises(TableError) as caught:
        read_table(source, **options)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def every_source(tmp_path):
    import datasets

    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    dataset = datasets.Dataset.from_dict({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    files = [tmp_path / f"a.{ending}" for ending in ("csv", "tsv", "jsonl", "parquet")]
    return [*files, str(files[0]), frame, dataset, ROWS, [list(row) for row in ROWS]]


def test_every_source_gives_the_same_rows(tmp_path):
    for source in every_source(tmp_path):
        table = read_table(source)
        assert list(zip(table.texts, table.labels, strict=True)) == ROWS
        assert table.classes == ("balance", "transfer")
        assert read_table(table) is table
        assert read_texts(source) == table.texts


# A lone carriage return would be a line end to some writers of CSV, and control characters are nobody's text.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS.map(str.strip)), min_size=1, max_size=6))
def test_csv_and_jsonl_read_back_what_was_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("tables")
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame.to_csv(folder / "a.csv", index=False, quoting=1)
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    (folder / "a.jsonl").write_bytes("\n".join(lines).encode())
    for name in ("a.csv", "a.jsonl"):
        table = read_table(folder / name, min_classes=1)
        assert list(zip(table.texts, table.labels, strict=True)) == rows


def test_a_byte_order_mark_and_blank_lines_are_accepted(tmp_path):
    path = write(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\r\n\r\nhi,a\r\n\r\nho,b\r\n")
    assert read_table(path).texts == ("hi", "ho")


def test_a_line_separator_inside_a_json_text_ends_no_line(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "one\u2028two\x85", "label": "a"}\r\n{"text": "b", "label": "c"}')
    assert read_table(path).texts == ("one\u2028two\x85", "b")


def test_further_columns_are_found_or_named(tmp_path):
    path = write(tmp_path, "a.csv", "text,label,domain,split,talk\nhi,a,x,train,1\nho,b,y,test,2\n")
    table = read_table(path, group_column="talk")
    assert (table.domains, table.splits, table.groups) == (("x", "y"), ("train", "test"), ("1", "2"))
    assert table.where(split="test").texts == ("ho",)
    assert table.where(split="test", domain="y").domains == ("y",)
    with pytest.raises(TableError, match=r"no split 'tests'; there are 'train', 'test'; did you mean 'test'"):
        table.where(split="tests")
    with pytest.raises(TableError, match="no row has"):
        table.where(split="test", domain="x")
    refused(path, "no column 'conversation'", "'talk'", group_column="conversation")
    with pytest.raises(TableError, match="no split column"):
        read_table([("a", "1"), ("b", "2")]).where(split="train")


def test_whole_numbers_and_truth_values_become_strings(tmp_path):
    numbers = pd.DataFrame({"text": ["a", "b"], "label": [1, 2]})
    assert read_table(numbers).labels == ("1", "2")
    assert read_table(numbers.astype({"label": "float64"})).labels == ("1", "2")
    assert read_table(numbers.assign(label=np.array([0, 3], dtype=np.int8))).labels == ("0", "3")
    assert read_table([("a", True), ("b", False)]).labels == ("True", "False")
    refused([("a", 0.5), ("b", 1)], "row 0", "0.5", "whole number")
    assert read_table([("a", " x "), ("b", "y"), ("c", "x")]).classes == ("x", "y")


def test_a_dataset_gives_the_names_of_its_classes():
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    dataset = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert read_table(dataset).labels == ("yes", "no")
    refused(datasets.DatasetDict({"train": dataset}), "DatasetDict", "'train'", "one split")
    unlabelled = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=features)
    refused(unlabelled, "'label' is empty", "row 1")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", ("empty",)),
        ("a.csv", " \n\n", ("empty",)),
        ("a.csv", "text,label\n", ("no rows", "'text', 'label'")),
        ("a.csv", "txt,label\nhi,a\n", ("no column 'text'", "'txt', 'label'", "did you mean 'txt'?")),
        ("a.csv", "text;label\nhi;a\n", ("line 1", "not separated by commas")),
        ("a.csv", "text,label,text\nhi,a,b\n", ("'text'", "more than once")),
        ("a.csv", b"text,label\nhi,a\nh\xe9,b\n", ("line 3", "byte 17", "0xe9", "UTF-8")),
        ("a.csv", b"\xef\xbb\xbftext,label\nh\xe9,b\n", ("line 2", "byte 15", "0xe9")),
        ("a.csv", "text,label\nhi,a\n".encode("utf-16"), ("UTF-16", "UTF-8")),
        ("a.csv", "text,label\nhi,a\nh\0,b\n", ("line 3", "zero byte")),
        ("a.csv", "text,label\nhi,a\n ,b\nho,\n,c\n", ("'text' is empty in 2 of 4 rows: line 3, line 5",)),
        ("a.csv", 'text,label\n"a\nb",x\nho,\n', ("'label' is empty", "line 4")),
        ("a.csv", "text,label\nhi,a\none,two,b\n", ("line 3", "3 fields", "header has 2")),
        ("a.csv", 'text,label\nhi,a\n"ho,b\nhu,a\n', ("line 3", "never closed")),
        ("a.csv", 'text,label\n"ho"x,b\n', ("line 2", "quotation marks")),
        ("a.csv", f"text,label\nhi,a\n{'x' * (FIELD_LIMIT + 1)},b\n", ("line 3", "131072 characters")),
        ("a.csv", "text,label\nhi,a\nho,a\n", ("1 class ('a')", "at least 2")),
        ("a.jsonl", '{"text": "hi", "label": "a"}\n{"text": "ho"\n', ("line 2", "not JSON")),
        ("a.jsonl", '{"text": "hi", "label": "a"}\n\n["ho", "b"]\n', ("line 3", "not an object")),
        ("a.jsonl", '{"text": "hi", "label": "a"}\n\n{"text": "ho"}\n', ("'label' is empty", "line 3")),
        ("a.jsonl", '{"text": 3, "label": "a"}\n', ("line 1", "3 is a int", "expected a text")),
        ("a.jsonl", '{"text": "hi", "label": ["a"]}\n', ("line 1", "a list", "whole number")),
        ("a.jsonl", '{"text": "\\ud800", "label": "a"}\n', ("line 1", "surrogate")),
        ("a.jsonl", json.dumps({"text": "x" * (FIELD_LIMIT + 1), "label": "a"}), ("line 1", "131073 characters")),
        ("a.parquet", b"PAR1 but not really", ("cannot be read as Parquet",)),
        ("a.parquet", b"", ("cannot be read as Parquet",)),
        ("a.xlsx", b"PK", (".xlsx", ".csv, .tsv, .jsonl, .parquet")),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, words):
    path = write(tmp_path, name, content)
    assert refused(path, *words).startswith(str(path))


def test_places_that_are_no_file_are_refused(tmp_path):
    write(tmp_path, "intents.csv", "text,label\nhi,a\nho,b\n")
    refused(tmp_path / "intent.csv", "no such file", "did you mean 'intents.csv'?")
    refused(tmp_path, "is a folder")


def test_bad_objects_are_refused():
    refused(pd.DataFrame({"text": ["a", None], "label": ["x", "y"]}), "'text' is empty", "row 1")
    refused(pd.DataFrame([["a", "b", "c"]], columns=["text", "text", "label"]), "more than once")
    refused(pd.DataFrame(), "empty")
    refused([("a", "x"), "ab"], "row 1", "expected a pair")
    refused([("a", "x"), ("b",)], "row 1", "expected a pair")
    refused([], "no rows")
    refused({"a": 1}, "dict", "list of pairs")
    with pytest.raises(TableError, match="row 1"):
        read_texts(["a", ""])


def test_repeated_rows_and_contradictions_are_told_not_printed(tmp_path, capsys):
    path = write(tmp_path, "a.csv", "text,label\nhi,a\nHi  ,a\nho,b\nho,a\nhu,b\n")
    table = read_table(path)
    assert len(table) == 5
    repeats, contradictions = table.notes
    assert "1 rows repeat" in repeats
    assert "line 3" in repeats
    assert "1 texts have more than one label: 'ho' as 'a', 'b'" in contradictions
    assert capsys.readouterr().out == ""
    assert read_table([("a", "x"), ("b", "y")]).notes == ()


def test_the_same_row_in_two_splits_is_no_repeat():
    frame = pd.DataFrame({"text": ["a", "a", "b"], "label": ["x", "x", "y"], "split": ["train", "train_5", "train"]})
    assert read_table(frame).notes == ()


@pytest.mark.parametrize("number", [np.int64(2**60 + 1), 2**70 + 1, np.uint8(7), 4.0, np.float32(3)])
def test_whole_numbers_of_any_kind_are_labels_digit_for_digit(number):
    table = read_table([("one", number), ("other", "class")])
    assert table.labels == (str(int(number)), "class")
