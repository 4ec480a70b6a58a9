"""What each command does."""

import csv
import io
import json
import shutil

import pytest

from quickstudy import FewShotClassifier, read_table

SPLIT_KEYS = ["accuracy", "macro_f1", "ece", "adapt_seconds", "n_train", "n_test", "method", "base"]
EPISODE_KEYS = ["accuracy", "ci95", "episodes", "adapt_seconds_median"]


@pytest.mark.parametrize("method", ["auto", "logistic", "ridge", "protonet"])
def test_adapt_makes_an_adapter_and_says_how_good_it_is(run, tickets, method):
    done = run("adapt", tickets, "--name", "shop", "--method", method, "--json")
    assert done.code == 0
    assert (done.json["examples"], done.json["classes"], done.json["method"]) == (80, 10, method)
    assert 0.5 < done.json["held_out_accuracy"] <= 1
    assert done.out.count("\n") == 1
    loaded = FewShotClassifier.load(done.json["folder"])
    assert loaded.predict(["my parcel has not come yet"]).tolist() == ["order_status"]


def test_adapt_prints_a_table_and_replaces_only_when_asked(run, tickets, tmp_path):
    words = ("adapt", tickets, "--name", "shop", "--out", "here", "--method", "protonet", "--no-examples")
    done = run(*words)
    assert "held out accuracy" in done.out
    assert not (tmp_path / "here" / "shop" / "examples.json").exists()
    again = run(*words)
    assert again.code == 2
    assert "--force" in again.err
    assert run(*words, "--force").code == 0


def test_adapt_reads_other_columns_and_splits(run, tmp_path):
    rows = ["said,intent,part"] + [f"{word} number {n},{word},x" for word in ("cat", "dog") for n in range(2)]
    (tmp_path / "t.csv").write_text("\n".join([*rows, "bird,bird,y"]))
    words = ("--text-column", "said", "--label-column", "intent", "--split-column", "part", "--split", "x")
    done = run("adapt", "t.csv", "--name", "pets", "--method", "protonet", *words, "--no-class-names", "--json")
    assert done.json["labels"] == ["cat", "dog"]
    assert done.json["class_names"] is False


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.csv", b"", "is empty"),
        ("one.csv", b"text,label\na,x\nb,x\n", "1 class"),
        ("column.csv", b"words,label\na,x\nb,y\n", "there is no column 'text'"),
        ("latin.csv", b"text,label\n\xe9,x\nb,y\n", "is not UTF-8"),
        ("gaps.csv", b"text,label\n,x\nb,y\n", "is empty in 1 of 2 rows"),
        ("kind.txt", b"text,label\na,x\nb,y\n", "expected one of"),
        ("damaged.parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_adapt_refuses_bad_files(run, tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    done = run("adapt", name, "--name", "shop")
    assert done.code == 2
    assert expected in done.err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "magic"), "there is no method 'magic'"),
        (("--method", "maml"), "quickstudy train"),
        (("--base", "/no/such/folder"), "/no/such/folder"),
        (("--unknown", "7"), "a probability from 0 to 1"),
        (("--recompute",), "--recompute is for language models"),
        (("--most", "9"), "--most is for language models"),
        (("--split", "train"), "no split column"),
    ],
)
def test_adapt_refuses_wishes_that_cannot_be(run, tickets, tmp_path, words, expected):
    done = run("adapt", tickets, "--name", "shop", *words)
    assert done.code == 2
    assert expected in done.err
    assert list(tmp_path.iterdir()) == []


def test_predict_answers_texts_files_and_streams_alike(run, made, tmp_path):
    texts = ["my parcel, it has not come yet", "please cancel my order"]
    (tmp_path / "t.csv").write_text('id,text\n1,"my parcel, it has not come yet"\n2,please cancel my order\n')
    said = run("predict", made, "--text", texts[0], "--text", texts[1])
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [(row["text"], row["label"]) for row in rows] == [(texts[0], "order_status"), (texts[1], "cancel_order")]
    assert all(0 < float(row["probability"]) <= 1 for row in rows)
    assert run("predict", made, "t.csv").out == said.out
    assert run("predict", made, "-", sent="\n".join(texts).encode()).out == said.out
    assert run("predict", made, "-", sent=(tmp_path / "t.csv").read_bytes()).out == said.out
    done = run("predict", made, "t.csv", "--json")
    assert [row["label"] for row in done.json["predictions"]] == ["order_status", "cancel_order"]


def test_predict_writes_a_file_whole_or_not_at_all(run, made, tmp_path):
    done = run("predict", made, "--text", "where is my parcel", "--out", "answers.csv", "--json")
    assert (done.json["texts"], done.json["out"], done.json["predictions"]) == (1, "answers.csv", [])
    written = (tmp_path / "answers.csv").read_text()
    assert written == run("predict", made, "--text", "where is my parcel").out
    refused = run("predict", made, "--text", "another", "--out", "answers.csv")
    assert refused.code == 2
    assert (tmp_path / "answers.csv").read_text() == written
    assert run("predict", made, "--text", "another", "--out", "answers.csv", "--force").code == 0


@pytest.mark.parametrize(
    ("words", "sent", "expected"),
    [
        (("-",), b"", "standard input: is empty"),
        (("-",), b"\xff", "not UTF-8"),
        (("no.csv",), b"", "there is no such file"),
        (("--text", " "), b"", "1 of 1 texts are empty"),
        (("-", "--text", "a"), b"a", "give either"),
    ],
)
def test_predict_refuses_what_is_no_text(run, made, words, sent, expected):
    done = run("predict", made, *words, sent=sent)
    assert done.code == 2
    assert expected in done.err
    assert done.out == ""


def test_predict_answers_unknown(run, made):
    strange = ["What is the weather like in Lisbon?", "Who won the cup final?", "tell me a joke", "tax law in Peru"]
    done = run("predict", made, *(word for text in strange for word in ("--text", text)), "--json")
    assert [row["label"] for row in done.json["predictions"]].count("unknown") >= 2


def test_info_tells_what_is_in_an_adapter(run, made, tmp_path):
    done = run("info", made, "--json")
    assert (done.json["name"], done.json["base"], done.json["method"]) == ("shop", "minilm", "logistic")
    assert len(done.json["labels"]) == 10
    assert "order_status" in run("info", made).out
    shutil.copytree(made, tmp_path / "copy")
    (tmp_path / "copy" / "adapter.safetensors").write_bytes(b"short")
    damaged = run("info", "copy")
    assert damaged.code == 2
    assert "cut short or damaged" in damaged.err


def test_evaluate_on_a_file_of_its_own(run, tickets, test_tickets):
    done = run("evaluate", tickets, "--test-file", test_tickets, "--method", "logistic", "--json")
    assert list(done.json) == SPLIT_KEYS
    assert done.json["accuracy"] > 0.7
    assert (done.json["n_train"], done.json["n_test"]) == (80, 120)


def test_evaluate_on_splits(run, tickets, test_tickets, tmp_path):
    with (tmp_path / "all.jsonl").open("w") as file:
        for split, source in (("five", tickets), ("rest", test_tickets)):
            table = read_table(source)
            for text, label in zip(table.texts, table.labels, strict=True):
                file.write(json.dumps({"text": text, "label": label, "split": split}) + "\n")
    words = ("all.jsonl", "--train-split", "five", "--test-split", "rest", "--method", "logistic")
    whole = run("evaluate", tickets, "--test-file", test_tickets, "--method", "logistic", "--json").json
    found = run("evaluate", *words, "--json").json
    assert list(found) == SPLIT_KEYS
    timeless = [key for key in SPLIT_KEYS if key != "adapt_seconds"]
    assert [found[key] for key in timeless] == [whole[key] for key in timeless]
    assert "class names off" in run("evaluate", *words, "--no-class-names").out


def test_evaluate_over_drawn_tasks(run, tickets):
    words = ("--ways", 3, "--shots", 2, "--queries", 4, "--episodes", 3, "--seed", 5, "--method", "protonet", "--json")
    done = run("evaluate", tickets, *words)
    assert list(done.json) == EPISODE_KEYS
    assert done.json["episodes"] == 3
    assert 0.5 < done.json["accuracy"] <= 1
    again = run("evaluate", tickets, *words).json
    assert (again["accuracy"], again["ci95"]) == (done.json["accuracy"], done.json["ci95"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--train-split", "a"), "without --test-split"),
        (("--test-split", "a"), "--train-split"),
        (("--split", "a", "--train-split", "a", "--test-split", "b"), "--split is for drawn tasks"),
        (("--ways", "5", "--train-split", "a", "--test-split", "b"), "--ways is for drawn tasks"),
        (("--rate", "0.1"), "--rate is for language models"),
        (("--train-split", "a", "--test-split", "b"), "no split column"),
        (("--ways", "11", "--queries", "1"), "11 ways were asked for"),
        (("--episodes", "0"), "episodes is 0"),
    ],
)
def test_evaluate_refuses_what_makes_no_sense(run, tickets, words, expected):
    done = run("evaluate", tickets, "--method", "protonet", *words)
    assert done.code == 2
    assert expected in done.err


def test_train_makes_a_method(run, tickets, tmp_path):
    words = ("--name", "made", "--steps", 1, "--tasks-per-step", 1, "--ways", 2, "--shots", 1, "--queries", 1)
    done = run("train", tickets, *words, "--layers", 1, "--rank", 1, "--json")
    assert done.code == 0
    assert done.json["steps"] == 1
    assert (tmp_path / "initialisations" / "made.run" / "metrics.jsonl").is_file()
    adapted = run("adapt", tickets, "--name", "shop", "--method", "initialisations/made", "--json")
    assert adapted.json["held_out_accuracy"] > 0.5
    again = run("train", tickets, *words)
    assert again.code == 2
    assert "--force" in again.err


def test_train_refuses_what_is_for_language_models(run, tickets, tmp_path):
    done = run("train", tickets, "--name", "made", "--inner-steps", 3)
    assert done.code == 2
    assert "--inner-steps is for language models" in done.err
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_it_takes(run):
    done = run("doctor", "--json")
    assert done.json["base"]["here"]
    assert done.json["seconds"] > 0
    assert done.json["packages"]["torch"]
    shown = run("doctor", "--base", "someone/some-model")
    assert shown.code == 0
    assert "not known without its files" in " ".join(shown.out.split())
