"""Pages of help, exit codes and messages."""

import subprocess
import sys

import pytest

from quickstudy.cli.app import COMMANDS
from quickstudy.core.errors import Diverged
from quickstudy.version import VERSION

NAMES = [command.__name__ for command in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_each_command_explains_itself(run, name):
    done = run(name, "--help")
    assert done.code == 0
    assert f"quickstudy {name}" in done.out
    assert run(name, "-h").out == done.out


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_the_program_lists_its_commands(run, words):
    done = run(*words)
    assert done.code == 0
    assert all(name in done.out for name in NAMES)


def test_version(run):
    assert run("--version").out == f"quickstudy {VERSION}\n"


def test_help_imports_nothing_heavy():
    code = """
import sys
from quickstudy.cli.app import main
assert main(["adapt", "--help"]) == 0
heavy = {"torch", "sklearn", "transformers", "pandas", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=120)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("adapt",), "Missing argument"),
        (("adapt", "a.csv"), "Missing option '--name'"),
        (("adapt", "a.csv", "--name", "n", "--wheels"), "--wheels"),
        (("adapt", "a.csv", "--name", "n", "--seed", "x"), "--seed"),
        (("adapt", "a.csv", "--name", "n"), "a.csv: there is no such file"),
        (("adapt", ".", "--name", "n"), ".: is a folder"),
        (("adapt", "a.csv", "--name", "../n"), "cannot be a folder"),
        (("adapt", "a.csv", "--name", "n", "--unknown", "perhaps"), "give auto or a probability"),
        (("adapt", "a.csv", "--name", "n", "--threads", "0"), "--threads"),
        (("predict", "nothing", "--text", "a"), "there is no adapter here"),
        (("predict", "nothing"), "give either a file of texts"),
        (("info", "nothing"), "there is no adapter here"),
        (("evaluate", "a.csv"), "there is no such file"),
        (("train", "a.csv", "--name", "n"), "there is no such file"),
        (("doctor", "--texts", "0"), "--texts"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(run, tmp_path, words, expected):
    done = run(*words)
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 2
    assert len(errors) == 1
    assert expected in errors[0]
    assert "Traceback" not in done.err
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


def fail_with(error):
    def failing(*_):
        raise error

    return failing


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (RuntimeError("odd"), 1, "this is a fault of quickstudy"),
        (Diverged(3, "task", float("nan")), 1, "error: the loss is nan at step 3"),
        (MemoryError(), 1, "error: out of memory"),
        (PermissionError(13, "Permission denied"), 2, "error: [Errno 13] Permission denied"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_of_each_kind(run, monkeypatch, error, code, expected):
    monkeypatch.setattr("quickstudy.lifecycle.adapting.find_adapter", fail_with(error))
    done = run("info", "x")
    assert done.code == code
    assert expected in done.err
    assert ("Traceback" in done.err) == isinstance(error, RuntimeError)
