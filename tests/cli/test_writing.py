"""The commands with a language model: a file of prompts and completions to an adapter, and prompts to texts."""

import csv
import io

import pytest
import torch
from language_models import write_language_model
from safetensors.torch import load_file

from quickstudy.core.adapter_files import TENSORS

WORDS = ["ab", "cad", "dd", "fog"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_language_model(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture
def pairs(tmp_path):
    rows = ["prompt,completion,split", *(f"{word},{word[0]}{word[0]},train" for word in WORDS), "hen,hh,test"]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def adapter(run, pairs, base):
    done = run(
        "adapt", pairs, "--name", "first", "--base", base, "--split", "train", "--most", 4, "--rate", 0.01, "--json"
    )
    assert done.code == 0, done.err
    return done.json


def test_adapt_says_what_was_made(adapter):
    assert (adapter["method"], adapter["examples"], adapter["held_out_examples"]) == ("auto", 4, 4)
    assert 0 <= adapter["held_out_exact"] <= 1


def test_what_is_computed_again_makes_the_same_adapter(run, adapter, pairs, base, tmp_path):
    words = ("--split", "train", "--rate", 0.01, "--recompute", "--no-check", "--json")
    assert run("adapt", pairs, "--name", "again", "--base", base, *words).code == 0
    tensors = [load_file(tmp_path / "adapters" / name / TENSORS) for name in (adapter["name"], "again")]
    torch.testing.assert_close(*tensors, atol=1e-6, rtol=1e-4)


def test_predict_writes_as_csv_in_order_and_the_same_from_a_stream(run, adapter, pairs):
    done = run("predict", "first", pairs)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["prompt"] for row in rows] == [*WORDS, "hen"]
    assert [row["completion"] for row in rows[:4]] == ["aa", "cc", "dd", "ff"]
    sent = run("predict", "first", "-", "--json", sent=pairs.read_bytes())
    assert sent.json["predictions"] == rows


def test_info_describes_it(run, adapter):
    found = run("info", "first", "--json").json
    assert (found["learner"], found["labels"], found["examples_kept"]) == ("maml", [], True)


@pytest.mark.parametrize("method", ["in_context", "nearest"])
def test_evaluate_counts_completions_written_as_they_are(run, pairs, base, method):
    words = ("--base", base, "--train-split", "train", "--test-split", "test", "--method", method)
    found = run("evaluate", pairs, *words, "--most", 3, "--recompute", "--json").json
    assert found["exact"] in {0.0, 1.0}
    assert "class names" not in run("evaluate", pairs, *words, "--most", 3).out
    assert (found["n_train"], found["n_test"], found["method"]) == (4, 1, method)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--unknown", "auto"), "--unknown is for labels"),
        (("--method", "logistic"), "no method 'logistic' for a language model"),
        (("--label-column", "answer"), "no column 'answer'"),
    ],
)
def test_adapt_refuses_what_is_for_labels(run, pairs, base, words, message, tmp_path):
    done = run("adapt", pairs, "--name", "first", "--base", base, *words)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "adapters").exists()


def test_evaluate_needs_splits(run, pairs, base):
    done = run("evaluate", pairs, "--base", base)
    assert done.code == 2
    assert "--train-split" in done.err
    done = run("evaluate", pairs, "--base", base, "--ways", 3)
    assert done.code == 2
    assert "--ways is for labels" in done.err


def test_export_writes_what_others_load_and_says_what_vllm_refuses(run, adapter, base, tmp_path):
    done = run("export", "first", "--out", "peft", "--json")
    assert done.json["vllm"] == []
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()
    refused = run("export", "first", "--out", "peft", "--max-lora-rank", 1)
    assert refused.code == 0
    assert "note: vLLM: the rank is 8" in refused.err
    assert run("export", "first", "--format", "mlx", "--out", "mlx").code == 0
    assert (tmp_path / "mlx" / "adapters.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--format", "onnx"), "no format 'onnx'"), (("--max-lora-rank", "7"), "cap is 7"), (("--base", "gone"), "gone")],
)
def test_export_refuses(run, adapter, words, message, tmp_path):
    done = run("export", "first", "--out", "there", *words)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "there").exists()


def test_a_base_that_nothing_moves_has_nothing_to_export(run, pairs, base):
    assert run("adapt", pairs, "--name", "still", "--base", base, "--method", "in_context", "--no-check").code == 0
    done = run("export", "still", "--out", "there")
    assert done.code == 2
    assert "no LoRA matrices" in done.err


@pytest.mark.parametrize("learner", ["maml", "reptile", "meta_sgd", "hyper_lora", "demonstrations"])
def test_train_makes_a_start_that_adapt_takes(run, pairs, base, learner, tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    for shift, name in enumerate(("first", "second")):
        rows = [f"{word},{word[shift]}{word[shift]}" for word in ("ab", "cd", "ef", "gh", "lo")]
        (folder / f"{name}.csv").write_text("\n".join(["prompt,completion", *rows]))
    sizes = ("--steps", 2, "--tasks-per-step", 1, "--shots", 2, "--queries", 2, "--rank", 2, "--inner-steps", 1)
    words = ("train", folder, "--name", "start", "--learner", learner, "--base", base, *sizes)
    made = run(*words, "--json")
    assert made.code == 0, made.err
    assert (made.json["learner"], made.json["steps"]) == (learner, 2)
    done = run("adapt", pairs, "--name", "x", "--base", base, "--method", made.json["folder"], "--no-check", "--json")
    assert done.code == 0, done.err
    assert run("predict", "x", "--text", "ab").code == 0
    assert run(*words).code == 2  # it is there already


def test_train_refuses_what_is_no_task_of_writing(run, pairs, base):
    assert "is no folder" in run("train", pairs, "--name", "start", "--base", base).err
    done = run("train", pairs.parent, "--name", "start", "--base", base, "--learner", "protonet")
    assert done.code == 2
    assert "not for a language model" in done.err
    done = run("train", pairs.parent, "--name", "start", "--base", base, "--hard", 0.5)
    assert done.code == 2
    assert "--hard is for labels" in done.err
