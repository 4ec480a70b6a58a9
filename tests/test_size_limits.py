"""The limits on the tail: how long, deep and wide files and functions may be, and what they never hold."""

from __future__ import annotations

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "quickstudy"
FILES = sorted(PACKAGE.rglob("*.py"))
LIMITS = {"file": 400, "algorithm": 150, "body": 50, "nesting": 3, "arguments": 7}
COMMENT_SHARE = 0.05
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "misc", "manager", "common"}
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)

OPTIONS = "the options of a command are the arguments of its function"
EXCEPTIONS = {
    "arguments cli/adapt.py::adapt": OPTIONS,
    "arguments cli/demo.py::demo": OPTIONS,
    "arguments cli/estimate.py::estimate": OPTIONS,
    "arguments cli/evaluate.py::evaluate": OPTIONS,
    "arguments cli/predict.py::predict": OPTIONS,
    "arguments cli/train.py::train": OPTIONS,
    "arguments cli/reproduce.py::reproduce": OPTIONS,
}
"""`limit path` or `limit path::function` -> why it may be broken there. A row that nothing needs fails a test."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_there_is_a_package_to_look_at() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_file_stays_within_the_limits(path: Path) -> None:
    found = [line for key, line in breaches(path) if key not in EXCEPTIONS]
    assert not found, "\n".join(found)


def test_every_exception_is_needed() -> None:
    needed = {key for path in FILES for key, _ in breaches(path)}
    assert set(EXCEPTIONS) <= needed


def test_comments_are_rare() -> None:
    lines = comments = 0
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        lines += len(source.splitlines())
        comments += count_comments(source)
    assert comments < COMMENT_SHARE * lines


def test_folders_and_files_are_named_after_what_they_hold() -> None:
    names = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not names & FORBIDDEN_NAMES


def test_measures_on_sources_with_known_sizes() -> None:
    source = textwrap.dedent(
        '''
        class Outer:
            def method(self, one, /, two, *rest, three, **more):
                """Two lines of it
                do not count."""
                for item in one:  # a comment
                    if item:
                        pass
                    elif two:
                        pass
                    else:
                        with rest:
                            while three:
                                pass

                def inner(a):
                    if a:
                        return "# no comment"
        '''
    )
    method, inner = functions(ast.parse(source))
    assert (count_arguments(method), nesting(method.body), body_lines(method)) == (5, 4, 13)
    assert (count_arguments(inner), nesting(inner.body), body_lines(inner)) == (1, 1, 2)
    assert count_comments(source) == 1


def breaches(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of key in `EXCEPTIONS` and sentence, for each limit that the file breaks."""
    place = path.relative_to(PACKAGE).as_posix()
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    kind = "algorithm" if is_algorithm(path) else "file"
    measured = [(kind, place, len(source.splitlines()))]
    for function in functions(tree):
        name = f"{place}::{function.name}"
        measured.append(("body", name, body_lines(function)))
        measured.append(("nesting", name, nesting(function.body)))
        measured.append(("arguments", name, count_arguments(function)))
    for limit, name, size in measured:
        if size > LIMITS[limit]:
            yield f"{limit} {name}", f"{name}: {limit} is {size}; the limit is {LIMITS[limit]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "hasattr":
            yield f"hasattr {place}", f"{place}:{node.lineno}: hasattr; ask for a type or keep a table"
        if isinstance(node, ast.ClassDef) and node.name.endswith("Mixin"):
            yield f"mixin {place}", f"{place}:{node.lineno}: a mixin; share a function"


def is_algorithm(path: Path) -> bool:
    """True for the files in the folders of `learners`."""
    return path.parent.parent.name == "learners" and path.name != "__init__.py"


def functions(tree: ast.AST) -> list[Function]:
    """All functions and methods, inner ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def nesting(statements: list[ast.stmt]) -> int:
    """How deep blocks stand in blocks. `elif` is as deep as its `if`; an inner function counts for itself."""
    return max((depth_of(statement) for statement in statements), default=0)


def depth_of(statement: ast.stmt) -> int:
    """The nesting of one statement."""
    if not isinstance(statement, BLOCKS):
        return 0
    if isinstance(statement, ast.If) and len(statement.orelse) == 1 and isinstance(statement.orelse[0], ast.If):
        return max(1 + nesting(statement.body), depth_of(statement.orelse[0]))
    inner: list[ast.stmt] = []
    for field in ("body", "orelse", "finalbody"):
        inner += getattr(statement, field, [])
    for clause in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
        inner += clause.body
    return 1 + nesting(inner)


def count_arguments(function: Function) -> int:
    """All arguments without `self` and `cls`."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return sum(argument is not None and argument.arg not in {"self", "cls"} for argument in named)


def count_comments(source: str) -> int:
    """Lines that hold a comment, directives to tools left out."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return sum("noqa" not in comment and "type: ignore" not in comment for comment in comments)
