"""Who may import whom, and that importing does nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "quickstudy"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
WRONG = {
    "upper from lower": ("core/types.py", "import quickstudy.tasks.base", "layers"),
    "same line": ("tasks/base.py", "import quickstudy.backbones.base", "layers"),
    "training from learners": ("training/schedule.py", "import quickstudy.learners.base", "layers"),
    "learners from evaluation": ("learners/base.py", "import quickstudy.evaluation", "layers"),
    "evaluation from lifecycle": ("evaluation/intervals.py", "import quickstudy.lifecycle", "layers"),
    "lifecycle from cli": ("lifecycle/__init__.py", "import quickstudy.cli", "layers"),
    "core and pandas": ("core/types.py", "import pandas", "core knows torch only"),
    "tasks and transformers": ("tasks/base.py", "import transformers", "transformers is imported by backbones only"),
    "one learner and another": (
        "learners/optimisation/anil.py",
        "import quickstudy.learners.optimisation.maml",
        "no learner imports another learner",
    ),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter with the contracts of this repository, on the package that lies in `folder`."""
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_contracts_are_kept() -> None:
    done = lint(PACKAGE.parent)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("wrong", WRONG)
def test_contract_is_broken_by_a_wrong_import(wrong: str, tmp_path: Path) -> None:
    file, line, contract = WRONG[wrong]
    shutil.copytree(PACKAGE, tmp_path / "quickstudy", ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    target = tmp_path / "quickstudy" / file
    target.write_text(target.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = lint(tmp_path)
    assert done.returncode == 1
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert len(broken) == 1, done.stdout
    assert broken[0].startswith(contract)


def test_imports_do_nothing_else(tmp_path: Path) -> None:
    code = f"""
import importlib, threading, torch
before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
for name in {MODULES!r}:
    importlib.import_module(name)
after = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
assert torch.equal(before[0], after[0]) and before[1:] == after[1:], "state of torch changed"
own = [thread for thread in threading.enumerate() if "quickstudy" in thread.name]
assert not own, own
assert not torch.cuda.is_initialized()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
