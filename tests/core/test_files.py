import json
import math
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import zipfile

import pytest
import torch
from safetensors.torch import save

from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import (
    REASONS,
    atomic_file,
    atomic_folder,
    check_schema,
    read_json,
    read_template,
    read_tensors,
    read_tensors_and_metadata,
    safe_member,
    write_bytes,
    write_json,
    write_tensors,
)


def example():
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    return {
        "plain": values,
        "transposed": values.t(),
        "shares": values[0],
        "scalar": torch.tensor(2.5),
        "half": values.bfloat16(),
        "double": values.double(),
        "whole": torch.arange(3),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }


def refused(reason, call, *arguments, **named):
    with pytest.raises(FileRefused) as caught:
        call(*arguments, **named)
    assert caught.value.reason == reason
    assert reason in REASONS
    return caught.value


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_tensors_come_back_equal_to_the_bit(tmp_path):
    write_tensors(tmp_path / "new" / "a.safetensors", example(), {"k": "ü"})
    found, metadata = read_tensors_and_metadata(tmp_path / "new" / "a.safetensors")
    assert metadata == {"k": "ü"}
    assert found.keys() == example().keys()
    for name, tensor in example().items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert contents(tmp_path / "new") == ["a.safetensors"]


def test_no_tensors_is_a_file_too(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {})
    assert read_tensors_and_metadata(tmp_path / "a.safetensors") == ({}, {})


def test_gradients_do_not_reach_the_file(tmp_path):
    tensor = torch.ones(2, requires_grad=True)
    write_tensors(tmp_path / "a.safetensors", {"a": tensor})
    assert not read_tensors(tmp_path / "a.safetensors")["a"].requires_grad


@pytest.mark.parametrize("value", [None, {"ü": [1, 2.5, True, "x"]}, [0.1, 1e-300, -0.0, 2**60], ""])
def test_json_comes_back(tmp_path, value):
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert contents(tmp_path) == ["a.json"]


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}, object(), "\ud800", b"x"])
def test_what_json_cannot_say_is_not_written(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(InputError, match="cannot be written as JSON"):
        write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == 1
    assert contents(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a": Infinity}', "-Infinity", "1e999", "{'a': 1}", "[" * 100_000, "9" * 5000, "\ufeff1"]
)
def test_what_is_not_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    refused("not_json", read_json, tmp_path / "a.json")


def test_json_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes('"ü"'.encode("latin-1"))
    refused("not_json", read_json, tmp_path / "a.json")


def test_json_over_the_limit_is_refused(tmp_path):
    write_json(tmp_path / "a.json", "x" * 97)
    size = (tmp_path / "a.json").stat().st_size
    assert read_json(tmp_path / "a.json", limit=size) == "x" * 97
    refused("too_large", read_json, tmp_path / "a.json", limit=size - 1)


@pytest.mark.parametrize("read", [read_json, read_tensors])
def test_pickles_are_refused_and_not_run(tmp_path, read):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "p").write_bytes(pickle.dumps(Trap(), protocol=protocol))
        refused("pickle", read, tmp_path / "p")
    torch.save({"a": torch.ones(2)}, tmp_path / "t")
    assert zipfile.is_zipfile(tmp_path / "t")
    refused("pickle", read, tmp_path / "t")
    torch.save({"a": torch.ones(2)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    refused("pickle", read, tmp_path / "old")
    assert not (tmp_path / "ran").exists()


def test_every_cut_is_refused(tmp_path):
    data = save({"a": torch.arange(3.0), "b": torch.ones(2)})
    for length in range(len(data)):
        (tmp_path / "a").write_bytes(data[:length])
        refused("truncated", read_tensors, tmp_path / "a")
    (tmp_path / "a").write_bytes(data + b"x")
    refused("truncated", read_tensors, tmp_path / "a")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_that_are_not_finite_are_refused(tmp_path, value, dtype):
    (tmp_path / "a").write_bytes(save({"fine": torch.ones(2), "bad": torch.tensor([0, value], dtype=dtype)}))
    assert "'bad'" in str(refused("not_finite", read_tensors, tmp_path / "a"))


def test_large_doubles_are_finite(tmp_path):
    write_tensors(tmp_path / "a", {"a": torch.tensor([1e300], dtype=torch.float64)})
    assert read_tensors(tmp_path / "a")["a"].item() == 1e300


TEMPLATE = {"a": torch.empty(2, 3, device="meta"), "b": torch.empty(4, device="meta")}


@pytest.mark.parametrize(
    ("reason", "named", "tensors"),
    [
        ("missing_keys", "'b'", {"a": torch.ones(2, 3)}),
        ("extra_keys", "'c'", {"a": torch.ones(2, 3), "b": torch.ones(4), "c": torch.ones(1)}),
        ("wrong_rank", "'a'", {"a": torch.ones(6), "b": torch.ones(4)}),
        ("wrong_shape", "'a'", {"a": torch.ones(3, 2), "b": torch.ones(4)}),
        ("wrong_dtype", "'b'", {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.float64)}),
    ],
)
def test_what_differs_from_the_template_is_refused_by_name(tmp_path, reason, named, tensors):
    write_tensors(tmp_path / "a", tensors)
    assert named in str(refused(reason, read_template, tmp_path / "a", TEMPLATE))


def test_what_is_like_the_template_is_read(tmp_path):
    tensors = {"b": torch.arange(4.0), "a": torch.ones(2, 3)}
    write_tensors(tmp_path / "a", tensors)
    found = read_template(tmp_path / "a", TEMPLATE)
    assert torch.equal(found["b"], tensors["b"])


@pytest.mark.parametrize("read", [read_json, read_tensors])
def test_links_folders_and_missing_files_are_refused(tmp_path, read):
    write_json(tmp_path / "real", 1)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refused("symlink", read, tmp_path / "link")
    refused("symlink", read, tmp_path / "dangling")
    refused("missing_file", read, tmp_path / "nowhere")
    refused("missing_file", read, tmp_path)


def test_schema_versions():
    check_schema("a", 1, 2)
    check_schema("a", 2, 2)
    refused("newer_schema", check_schema, "a", 3, 2)
    for value in (0, -1, "1", 1.0, None, True):
        refused("not_json", check_schema, "a", value, 2)


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/passwd", "..", "", ".", "C:\\a", "C:a", "a\\..\\b", "a\0b"]
)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    refused("outside_folder", safe_member, tmp_path, name)


def test_names_through_links_are_refused(tmp_path):
    inside = tmp_path / "inside"
    (inside / "real").mkdir(parents=True)
    (inside / "link").symlink_to(tmp_path)
    (inside / "real" / "link").symlink_to(tmp_path / "a")
    refused("symlink", safe_member, inside, "link/a")
    refused("symlink", safe_member, inside, "real/link")
    assert safe_member(inside, "real/x.json") == inside / "real" / "x.json"


def test_a_folder_that_is_itself_reached_by_a_link_may_be_used(tmp_path):
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "v1")
    assert safe_member(tmp_path / "current", "a").parent == tmp_path / "current"


def test_a_folder_in_the_way_of_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes(tmp_path / "a", b"x")
    assert contents(tmp_path) == ["a"]


def test_a_file_in_the_way_of_a_folder(tmp_path):
    write_json(tmp_path / "a", 1)
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes(tmp_path / "a" / "b", b"x")
    with pytest.raises(InputError, match="not a folder"), atomic_folder(tmp_path / "a") as folder:
        write_json(folder / "b", 1)
    with pytest.raises(InputError, match="cannot be written"), atomic_folder(tmp_path / "a" / "b"):
        pass
    assert contents(tmp_path) == ["a"]


def test_a_file_whose_block_fails_was_never_there(tmp_path):
    def half():
        with atomic_file(tmp_path / "a") as place:
            place.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    with pytest.raises(InputError, match="cannot be written"), atomic_file(tmp_path / "b"):
        pass  # nothing is written
    assert contents(tmp_path) == []
    for data in (b"old", b"new"):
        with atomic_file(tmp_path / "deeper" / "a") as place:
            place.write_bytes(data)
    assert contents(tmp_path) == ["deeper", "deeper/a"]
    assert (tmp_path / "deeper" / "a").read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path):
    """A limit on the size of files, which the kernel enforces, stands for the full disk."""
    write_bytes(tmp_path / "a", b"old")
    code = """
        import pathlib, resource, sys, torch
        from quickstudy.core.errors import InputError
        from quickstudy.core.files import atomic_folder, write_bytes, write_tensors
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        root = pathlib.Path(sys.argv[1])
        def into_folder():
            with atomic_folder(root / "f") as folder:
                (folder / "small").write_bytes(b"x")
                (folder / "large").write_bytes(bytes(100_000))
        for call in (
            lambda: write_bytes(root / "a", bytes(100_000)),
            lambda: write_tensors(root / "a", {"a": torch.zeros(50_000)}),
            into_folder,
        ):
            try:
                call()
            except InputError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("no space left") == 3
    assert (tmp_path / "a").read_bytes() == b"old"
    assert contents(tmp_path) == ["a"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10_000


def test_a_reader_of_the_old_file_keeps_the_old_file(tmp_path):
    """Writing in place would change what another name of the same file holds."""
    write_bytes(tmp_path / "a", b"old")
    os.link(tmp_path / "a", tmp_path / "reader")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "reader").read_bytes() == b"old"


def test_a_folder_is_replaced_whole(tmp_path):
    for value in (1, 2):
        with atomic_folder(tmp_path / "f") as folder:
            write_json(folder / "a.json", value)
            (folder / "sub").mkdir()
            write_json(folder / "sub" / "b.json", value)
            assert (tmp_path / "f").exists() == (value == 2)
        assert read_json(tmp_path / "f" / "a.json") == read_json(tmp_path / "f" / "sub" / "b.json") == value
        assert contents(tmp_path) == ["f", "f/a.json", "f/sub", "f/sub/b.json"]


def test_a_failed_block_changes_nothing(tmp_path):
    def attempt(error):
        with atomic_folder(tmp_path / "f") as folder:
            write_json(folder / "a.json", 2)
            raise error

    for error in (KeyError("x"), KeyboardInterrupt(), FileNotFoundError("another file")):
        with pytest.raises(type(error)):
            attempt(error)
        assert contents(tmp_path) == []
    with atomic_folder(tmp_path / "f") as folder:
        write_json(folder / "a.json", 1)
    with pytest.raises(KeyError):
        attempt(KeyError("x"))
    assert read_json(tmp_path / "f" / "a.json") == 1
    assert contents(tmp_path) == ["f", "f/a.json"]


def test_files_of_others_are_never_lost(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"'thesis\.txt'"), atomic_folder(tmp_path / "home") as folder:
        write_json(folder / "a.json", 1)
    assert contents(tmp_path) == ["home", "home/thesis.txt"]
    with atomic_folder(tmp_path / "home", droppable=["thesis.txt"]) as folder:
        write_json(folder / "a.json", 1)
    assert contents(tmp_path) == ["home", "home/a.json"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "usual").write_text("x")
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_json_files_are_for_people_too(tmp_path):
    write_json(tmp_path / "a.json", {"label": "Küche"})
    assert '"label": "Küche"' in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"label": "Küche"}
