"""The public names: they are there, they are documented, and asking for the package is quick."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import time
from pathlib import Path
from types import FunctionType, GenericAlias

import pytest

import quickstudy

PACKAGE = Path(quickstudy.__file__).parent
FOLDERS = sorted(f"quickstudy.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py"))


def public_names(module: str) -> dict[str, object]:
    """Name -> object of what `from x import y as y` lines put into the door of a package."""
    found = importlib.import_module(module)
    lines = (Path(str(found.__file__)).read_text(encoding="utf-8")).splitlines()
    names = [line.split(" as ")[1] for line in lines if line.startswith("from ") and " as " in line]
    return {name: getattr(found, name) for name in names}


def test_the_packages_are_found() -> None:
    assert {"quickstudy.core", "quickstudy.tasks", "quickstudy.learners"} <= set(FOLDERS)


@pytest.mark.parametrize("name", [name for name in quickstudy.__all__ if name != "__version__"])
def test_name_of_the_package_resolves_and_is_documented(name: str) -> None:
    found = getattr(quickstudy, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)


def test_lazy_table_and_types_for_checkers_say_the_same() -> None:
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    told = {line.strip().split(" as ")[1] for line in source.splitlines() if line.startswith("    from quickstudy.")}
    assert told == set(quickstudy.__all__) - {"__version__"}


@pytest.mark.parametrize("module", FOLDERS)
def test_public_names_of_a_package_are_documented(module: str) -> None:
    undocumented = [
        name for name, found in public_names(module).items() if is_class_or_function(found) and not has_own_doc(found)
    ]
    assert not undocumented


@pytest.mark.parametrize("module", FOLDERS)
def test_public_methods_are_documented(module: str) -> None:
    classes = [found for found in public_names(module).values() if isinstance(found, type)]
    undocumented = [
        f"{found.__name__}.{name}"
        for found in classes
        for name, member in vars(found).items()
        if not name.startswith("_") and is_code(member) and not inspect.getdoc(getattr(found, name))
    ]
    assert not undocumented


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        quickstudy.nothing  # type: ignore[attr-defined]  # noqa: B018 - this is what is tested


def test_names_are_listed() -> None:
    assert "FewShotClassifier" in dir(quickstudy)


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, quickstudy\n"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert seconds < 1.0


def has_own_doc(found: object) -> bool:
    """Whether a class or function has a docstring that was written, not made by `dataclass`."""
    doc = inspect.getdoc(found) or ""
    name = getattr(found, "__name__", "")
    return bool(doc) and not doc.startswith(f"{name}(")


def is_class_or_function(found: object) -> bool:
    """Whether `found` has a docstring of its own; aliases of types have none."""
    return isinstance(found, type | FunctionType) and not isinstance(found, GenericAlias)


def is_code(member: object) -> bool:
    """Whether a member of a class is a function, property or class method."""
    return isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
