import json
import math
import pickle
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from quickstudy.core.adapter_files import FACTS, SCHEMA, TENSORS, load_adapter, save_adapter, write_adapter
from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import REASONS, atomic_folder, write_json
from quickstudy.core.types import Adapter, Fingerprint

BASE = Fingerprint("tiny", "main", "a" * 64)


def example():
    generator = torch.Generator().manual_seed(0)
    return Adapter(
        tensors={
            "head.weight": torch.randn(2, 3, generator=generator),
            "body.lora.a": torch.randn(3, 1, generator=generator).bfloat16(),
            "count": torch.tensor(7),
        },
        learner="prototypes",
        labels=("zebra", "ähre", ""),
        base=BASE,
        facts={"temperature": 0.1, "layers": [1, 2], "nested": {"on": True, "none": None}},
        metrics={"accuracy": 1 / 3},
        support_hash="b" * 64,
        parent="tickets@3",
    )


def assert_same(found, wanted):
    assert replace(found, tensors={}) == replace(wanted, tensors={})
    assert list(found.tensors) == list(wanted.tensors)
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def refused(reason, folder, **named):
    with pytest.raises(FileRefused) as caught:
        load_adapter(folder, **named)
    assert caught.value.reason == reason
    assert reason in REASONS
    return str(caught.value)


@pytest.fixture
def saved(tmp_path):
    save_adapter(tmp_path / "adapter", example())
    return tmp_path / "adapter"


def change(folder, **fields):
    described = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**described, **fields}))


def change_tensors(folder, **tensors):
    save_file({**load_file(folder / TENSORS), **tensors}, folder / TENSORS)


def test_an_adapter_comes_back(saved):
    assert_same(load_adapter(saved, BASE, example().tensors), example())
    assert sorted(path.name for path in saved.iterdir()) == sorted([TENSORS, FACTS])


def test_an_adapter_of_nothing_comes_back(tmp_path):
    save_adapter(tmp_path / "a", Adapter({}, "chosen-prompt"))
    assert_same(load_adapter(tmp_path / "a"), Adapter({}, "chosen-prompt"))


def test_an_adapter_comes_back_in_a_new_process(saved):
    code = """
        import hashlib, sys
        from quickstudy.core.adapter_files import load_adapter
        adapter = load_adapter(sys.argv[1])
        tensors = {k: v.double().tolist() for k, v in adapter.tensors.items()}
        print(ascii((tensors, adapter.labels, adapter.base, dict(adapter.facts), dict(adapter.metrics))))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(saved)], capture_output=True, text=True, check=True
    )
    adapter = example()
    tensors = {k: v.double().tolist() for k, v in adapter.tensors.items()}
    wanted = ascii((tensors, adapter.labels, adapter.base, dict(adapter.facts), dict(adapter.metrics)))
    assert done.stdout.strip() == wanted


def test_saving_again_replaces(saved):
    save_adapter(saved, replace(example(), labels=("b", "a")))
    assert load_adapter(saved).labels == ("b", "a")


def test_other_files_may_lie_beside_it(tmp_path):
    with atomic_folder(tmp_path / "model") as folder:
        write_json(folder / "model.json", 1)
        write_adapter(folder, example())
    assert_same(load_adapter(tmp_path / "model"), example())


def test_json_states_every_shape_and_type(saved):
    described = json.loads((saved / FACTS).read_text())
    assert described["schema_version"] == SCHEMA
    assert described["tensors"]["body.lora.a"] == {"shape": [3, 1], "dtype": "bfloat16"}
    assert described["tensors"]["count"] == {"shape": [], "dtype": "int64"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("facts", {"a": (1, 2)}),
        ("facts", {"a": {1: 2}}),
        ("facts", {"a": math.nan}),
        ("metrics", {"a": math.inf}),
        ("tensors", {"a": torch.tensor([1.0, math.nan])}),
        ("tensors", {"a": torch.ones(1, dtype=torch.complex64)}),
    ],
)
def test_what_would_not_come_back_is_not_saved(saved, field, value):
    with pytest.raises(InputError):
        save_adapter(saved, replace(example(), **{field: value}))
    assert_same(load_adapter(saved), example())
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(
    ("reason", "tensors"),
    [
        ("missing_keys", {"head.weight": torch.ones(2, 3), "count": torch.tensor(7)}),
        ("extra_keys", {**example().tensors, "more": torch.ones(1)}),
        ("wrong_rank", {**example().tensors, "head.weight": torch.ones(6)}),
        ("wrong_shape", {**example().tensors, "head.weight": torch.ones(3, 2)}),
        ("wrong_dtype", {**example().tensors, "head.weight": torch.ones(2, 3, dtype=torch.float64)}),
        ("not_finite", {**example().tensors, "head.weight": torch.full((2, 3), math.nan)}),
    ],
)
def test_tensors_that_are_not_as_stated_are_refused(saved, reason, tensors):
    save_file(tensors, saved / TENSORS)
    refused(reason, saved)


@pytest.mark.parametrize(
    ("reason", "template"),
    [
        ("missing_keys", {**example().tensors, "more": torch.ones(1)}),
        ("extra_keys", {"head.weight": torch.ones(2, 3)}),
        ("wrong_rank", {**example().tensors, "head.weight": torch.ones(6)}),
        ("wrong_shape", {**example().tensors, "head.weight": torch.ones(3, 3)}),
        ("wrong_dtype", {**example().tensors, "head.weight": torch.ones(2, 3).half()}),
    ],
)
def test_an_adapter_for_another_network_is_refused(saved, reason, template):
    refused(reason, saved, template=template)


def test_another_base_of_the_same_name_and_shape_is_refused(saved):
    message = refused("wrong_base", saved, base=replace(BASE, digest="c" * 64))
    assert "aaaaaaaaaaaa" in message
    assert "cccccccccccc" in message


def test_the_same_weights_under_another_name_are_the_same_base(saved):
    assert_same(load_adapter(saved, replace(BASE, name="copy", revision="v2")), example())


def test_an_adapter_without_base_is_refused_where_one_is_needed(tmp_path):
    save_adapter(tmp_path / "a", replace(example(), base=None))
    assert load_adapter(tmp_path / "a").base is None
    refused("wrong_base", tmp_path / "a", base=BASE)


@pytest.mark.parametrize("name", [TENSORS, FACTS])
def test_cut_missing_linked_and_pickled_files_are_refused(saved, name, tmp_path):
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: len(data) // 2])
    refused("truncated" if name == TENSORS else "not_json", saved)
    (saved / name).write_bytes(pickle.dumps({"a": 1}))
    refused("pickle", saved)
    (saved / name).unlink()
    refused("missing_file", saved)
    (tmp_path / "elsewhere").write_bytes(data)
    (saved / name).symlink_to(tmp_path / "elsewhere")
    refused("symlink", saved)


def test_a_newer_schema_is_refused_before_anything_else(saved):
    (saved / FACTS).write_text(json.dumps({"schema_version": SCHEMA + 1, "unheard": "of"}))
    assert "newer quickstudy" in refused("newer_schema", saved)


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("extra_keys", {"surprise": 1}),
        ("not_json", {"schema_version": "1"}),
        ("not_json", {"labels": "ab"}),
        ("not_json", {"labels": [1]}),
        ("not_json", {"learner": None}),
        ("not_json", {"metrics": {"a": "high"}}),
        ("not_json", {"base": {"name": "x"}}),
        ("not_json", {"base": {"name": "x", "revision": "", "digest": None}}),
        ("not_json", {"tensors": {"a": None}}),
        ("not_json", {"tensors": {"a": {"shape": [-1], "dtype": "float32"}}}),
        ("not_json", {"tensors": {"a": {"shape": [2**39, 2**39], "dtype": "float32"}}}),
        ("not_json", {"tensors": {"a": {"shape": [1], "dtype": "object"}}}),
        ("not_json", {"facts": math.nan}),
    ],
)
def test_facts_that_are_not_as_they_should_be_are_refused(saved, reason, fields):
    change(saved, **fields)
    refused(reason, saved)


@pytest.mark.parametrize("text", ["[]", "null", "1", "{}"])
def test_json_of_something_else_is_refused(saved, text):
    (saved / FACTS).write_text(text)
    refused("missing_keys" if text == "{}" else "not_json", saved)


@pytest.mark.parametrize("field", ["learner", "labels", "base", "tensors", "support_hash", "parent"])
def test_a_missing_field_is_refused_by_name(saved, field):
    described = json.loads((saved / FACTS).read_text())
    del described[field]
    (saved / FACTS).write_text(json.dumps(described))
    assert repr(field) in refused("missing_keys", saved)


def test_the_writer_of_the_bad_files_writes_good_ones(saved):
    """Negative control: what the tests above do to make files bad is not what makes them refused."""
    change(saved)
    change_tensors(saved)
    assert_same(load_adapter(saved), example())
    (saved / TENSORS).write_bytes(save(dict(example().tensors)))
    assert_same(load_adapter(saved), example())
