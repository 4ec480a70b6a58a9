"""Places of adapters, and a file of examples to one."""

import pytest

from quickstudy import FewShotClassifier, Table
from quickstudy.core.errors import InputError, TableError
from quickstudy.lifecycle.adapting import TableColumns, adapt_file, adapter_place, find_adapter, read_split
from quickstudy.lifecycle.describing import describe_adapter


@pytest.fixture
def adapter(base, draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts, labels = draw(3)
    table = Table(tuple(texts), tuple(labels), notes=("a note",))
    return adapt_file(table, adapter_place("shop"), FewShotClassifier("logistic", base, unknown="auto"))


def test_report_and_description_say_what_was_made(adapter):
    found = describe_adapter(find_adapter("shop"))
    assert adapter["folder"] == found["folder"] == "adapters/shop"
    assert adapter["labels"] == found["labels"] == ["battery", "parcel", "refund", "repair"]
    assert (adapter["examples"], adapter["classes"], adapter["base"], found["base"]) == (12, 4, "tiny", "tiny")
    assert found["metrics"]["held_out_accuracy"] == adapter["held_out_accuracy"]
    assert found["threshold"] == adapter["threshold"]
    assert found["examples_kept"]
    assert found["method"] == "logistic"
    assert "a note" in adapter["notes"]


def test_an_adapter_is_found_by_path_and_by_name(adapter, tmp_path):
    assert find_adapter("shop").name == find_adapter("adapters/shop").name == "shop"
    with pytest.raises(InputError, match="did you mean 'shop'"):
        find_adapter("shopp")
    with pytest.raises(InputError, match="there is no adapter here"):
        find_adapter("/nowhere/at/all")


def test_what_is_there_is_not_replaced_unless_asked(adapter, tmp_path):
    with pytest.raises(InputError, match="--force"):
        adapter_place("shop")
    assert adapter_place("shop", force=True).is_dir()
    (tmp_path / "adapters" / "other").mkdir()
    with pytest.raises(InputError, match="is no adapter"):
        adapter_place("other", force=True)


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "/root", ".hidden", "a b", "x" * 101, "a\0"])
def test_names_that_are_no_folder_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="cannot be a folder"):
        adapter_place(name, tmp_path)


def test_a_split_of_a_file(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("said,intent,part\none,a,x\ntwo,b,x\nthree,a,y\n")
    columns = TableColumns("said", "intent", "part")
    assert read_split(file, columns, "x").texts == ("one", "two")
    assert len(read_split(file, columns, None)) == 3
    with pytest.raises(TableError, match="there is no split 'z'; there are 'x', 'y'"):
        read_split(file, columns, "z")
    with pytest.raises(TableError, match="no split column"):
        read_split(file, TableColumns("said", "intent"), "x")
