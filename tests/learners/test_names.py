"""The table of learners: built-in rows and those of other packages by the same code."""

import sys

import pytest

from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.learners import Learner, learner_class, learner_names
from quickstudy.learners.optimisation.maml import MAML

BUILT_IN = {"maml", "anil", "reptile", "meta_sgd", "protonet", "ridge", "logistic"}


def test_built_in_names_lead_to_their_classes():
    assert set(learner_names()) >= BUILT_IN
    assert learner_class("maml") is MAML
    for name in learner_names():
        assert issubclass(learner_class(name), Learner)
        assert learner_class(name).name == name


def test_an_unknown_name_lists_the_names():
    with pytest.raises(InputError, match="no learner called 'mamml'; give one of anil, ") as caught:
        learner_class("mamml")
    assert all(name in str(caught.value) for name in BUILT_IN)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Another package on the path, with a module `other_learner` and rows of its own."""

    def made(code, **rows):
        info = tmp_path / "other-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in rows.items()]
        (info / "entry_points.txt").write_text("\n".join(["[quickstudy.learners]", *lines]))
        (tmp_path / "other_learner.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "other_learner", raising=False)

    return made


MINE = "from quickstudy.learners import Learner\nclass Mine(Learner):\n    name = 'mine'\n"


def test_another_package_adds_a_row(install):
    install(MINE, mine="other_learner:Mine")
    assert learner_class("mine").__name__ == "Mine"
    assert "mine" in learner_names()


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ({"mine": "other_learner:Absent"}, NotAvailable, "cannot be imported"),
        ({"mine": "no_such_module:Mine"}, NotAvailable, "cannot be imported"),
        ({"mine": "other_learner:Learner.__name__"}, NotAvailable, "no subclass"),
        ({"theirs": "other_learner:Mine"}, NotAvailable, "calls itself 'mine'"),
        ({"maml": "other_learner:Mine"}, InputError, "uninstall one"),
    ],
)
def test_a_wrong_row_says_what_is_wrong(install, row, error, message):
    install(MINE, **row)
    with pytest.raises(error, match=message):
        learner_class(next(iter(row)))
