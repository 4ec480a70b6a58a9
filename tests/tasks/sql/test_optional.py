"""Without sqlglot the package imports, and SQL tasks say what to install."""

import subprocess
import sys

import pytest

from quickstudy.core.errors import NotAvailable
from quickstudy.tasks.sql.execution import Database
from quickstudy.tasks.sql.schemas import Schema

HIDDEN = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "sqlglot" else found(name, package)
import quickstudy, quickstudy.tasks
from quickstudy.core.errors import NotAvailable
try:
    import quickstudy.tasks.sql
except NotAvailable as error:
    print(error)
"""


def test_without_sqlglot_it_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'quickstudy[sql]'" in done.stdout


def test_without_duckdb_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(NotAvailable, match=r"pip install 'quickstudy\[sql\]'"):
        Database(Schema(()), {})
    Database(Schema(()), {}, "sqlite").close()
