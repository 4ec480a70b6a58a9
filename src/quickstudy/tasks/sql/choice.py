"""What one choice of an invented dialect is: how something is written, and how it is read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from sqlglot import TokenType, exp
from sqlglot.errors import ParseError
from sqlglot.generator import Generator

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

T = TypeVar("T")

Writer: TypeAlias = Callable[[Any, Any], str]
"""A generator and a node -> its text."""

Reader: TypeAlias = Callable[[list[Any]], exp.Expr]
"""The arguments of a function -> the canonical node."""


@dataclass(frozen=True, eq=False)
class Choice:
    """One way to write one feature.

    Attributes:
        feature: what is chosen, e.g. "limit".
        name: the way, e.g. "top"; the first choice of a feature is the canonical way.
        tells: it in English, "" for the canonical way.
        split: "" for all splits; otherwise the only one whose dialects may have it.
        marks: signs and words that no other choice of the same dialect may use.
        spellings: canonical keyword -> how it is spelled.
        tokens: further signs and words that are read -> what they are.
        writers: class of a node -> how it is written.
        functions: name of a function -> how it is read.
        generator, parser, tokenizer: attributes of these classes; a mapping adds to the one that is there.
        restore: canonical form of a node that the parser gives; returns the node itself where nothing changes.
    """

    feature: str
    name: str
    tells: str = ""
    split: Split | Literal[""] = ""
    marks: frozenset[str] = frozenset()
    spellings: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, TokenType] = field(default_factory=dict)
    writers: Mapping[Any, Writer] = field(default_factory=dict)
    functions: Mapping[str, Reader] = field(default_factory=dict)
    generator: Mapping[str, Any] = field(default_factory=dict)
    parser: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    restore: Callable[[exp.Expr], exp.Expr] | None = None

    def fits(self, split: Split) -> bool:
        """Whether a dialect of the split may have it."""
        return self.split in ("", split)


def call(name: str) -> Writer:
    """A writer of a function: its name, then the arguments in sqlglot's order."""

    def write(generator: Generator, node: exp.Expr) -> str:
        values: list[Any] = []
        for key in node.arg_types:
            value = node.args.get(key)
            values += value if isinstance(value, list) else [value]
        return generator.func(name, *values)

    return write


DELIMITERS = frozenset("~#`\"'[]{}")


def marks_of(sign: str) -> frozenset[str]:
    """The sign, and those of its characters that may also stand around names or strings."""
    return frozenset({sign, *(DELIMITERS & set(sign))})


def readable(read: Callable[[str], T], text: str) -> T:
    """What `read` makes of the text.

    Raises:
        ParseError: it cannot be read. On texts that are no SQL at all sqlglot's parsers fail in other ways too.
    """
    try:
        return read(text)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ParseError(f"{text!r} cannot be read: {error}") from error


def operator(sign: str) -> Writer:
    """A writer of a binary operator."""
    return lambda generator, node: generator.binary(node, sign)


def held_out(place: int, count: int) -> Split | Literal[""]:
    """Of four alternatives or more the last is for test dialects only, and the one before for validation dialects."""
    if count < 4:
        return ""
    splits: dict[int, Split] = {count - 1: "test", count - 2: "validation"}
    return splits.get(place, "")
