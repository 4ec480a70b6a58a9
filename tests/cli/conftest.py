"""The command line, called in this process or in one of its own, on the examples of the repository."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from quickstudy.cli.app import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The object on the last line."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in this process, in an empty folder; `sent` is its standard input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*words, sent=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
        code = main([str(word) for word in words])
        found = capsys.readouterr()
        return Done(code, found.out, found.err)

    return command


@pytest.fixture
def start(tmp_path):
    """Starts a command in a process of its own, in an empty folder."""

    def command(*words, **options):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = [sys.executable, "-c", "import sys; from quickstudy.cli.app import main; sys.exit(main())"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            [*program, *map(str, words)], cwd=tmp_path, env=environment, text=True, **{**pipes, **options}
        )

    return command


@pytest.fixture(scope="session")
def tickets():
    """Examples."""
    return EXAMPLES / "support_tickets.csv"


@pytest.fixture(scope="session")
def test_tickets():
    """Other examples of the same classes."""
    return EXAMPLES / "support_tickets_test.csv"


@pytest.fixture(scope="session")
def made(tmp_path_factory, tickets):
    """The folder of an adapter."""
    folder = tmp_path_factory.mktemp("made")
    words = ("adapt", tickets, "--name", "shop", "--out", folder, "--method", "logistic", "--unknown", "auto", "--json")
    assert main([str(word) for word in words]) == 0
    return folder / "shop"
