"""The sqlglot classes of an invented dialect: tokenizer, parser and generator, made from its choices."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import Dialect, Token, Tokenizer, TokenType, exp, generator, parser

from quickstudy.tasks.sql import date_forms, lexical_forms
from quickstudy.tasks.sql.choice import Choice, Reader

KEPT = 64
_KEPT: OrderedDict[tuple[Choice, ...], Dialect] = OrderedDict()
_REGISTRY: dict[str, Any] = getattr(type(Dialect), "_classes", {})
_DISPATCH: dict[Any, Any] = getattr(generator, "_DISPATCH_CACHE", {})
"""sqlglot keeps every class that is ever made in these two; without taking ours out, memory grows with each dialect."""


def built(choices: tuple[Choice, ...]) -> Dialect:
    """The sqlglot dialect that writes and reads by these choices; the last few are kept."""
    if choices in _KEPT:
        _KEPT.move_to_end(choices)
        return _KEPT[choices]
    made = _Parts(choices)
    members = {"Tokenizer": made.tokenizer(), "Parser": made.parser(), "Generator": made.generator()}
    dialect: Any = type("Invented", (Dialect,), members)
    _REGISTRY.pop("invented", None)
    _KEPT[choices] = dialect()
    if len(_KEPT) > KEPT:
        _, old = _KEPT.popitem(last=False)
        _DISPATCH.pop(old.generator_class, None)
    return _KEPT[choices]


class InventedTokenizer(Tokenizer):
    """Reads spellings as the canonical words."""

    CANONICAL: ClassVar[dict[str, str]] = {}

    def tokenize(self, sql: str) -> list[Token]:
        """The tokens of the text, with canonical keywords."""
        found = super().tokenize(sql)
        for token in found:
            word = self.CANONICAL.get(token.text.upper())
            if word and token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
                token.text = word
        return found


class InventedParser(parser.Parser):
    """Reads trees and makes them canonical."""

    RESTORERS: tuple[Any, ...] = ()

    def parse(self, raw_tokens: Any, sql: str) -> Any:
        """The canonical trees of the tokens."""
        return [tree if tree is None else self._canonical(tree) for tree in super().parse(raw_tokens, sql)]

    def _canonical(self, tree: exp.Expr) -> exp.Expr:
        for node in reversed(list(tree.walk())):
            made = node
            for restore in self.RESTORERS:
                made = restore(made)
            if made is not node:
                if node is tree:
                    return made
                node.replace(made)
        return tree


class InventedGenerator(generator.Generator):
    """Writes canonical trees by the choices of a dialect, which are its attributes."""

    QUOTES_ALL = False
    LETTERS: Any = None
    ENDING = ""
    DATE_LITERAL: Any = None
    CAST: Any = None
    COUNT_OF_ROWS = ""
    TABLE_AS = ""
    CROSS_IS_COMMA = False
    JOINS: ClassVar[dict[str, str]] = {}
    FROM_FIRST = False
    SPELLINGS: ClassVar[dict[str, str]] = {}
    PIECES: Any = re.compile("")
    WORDS: frozenset[str] = frozenset()

    def generate(self, expression: exp.Expr, copy: bool = True) -> str:
        """The text."""
        text: str = self.PIECES.sub(self._spelled, super().generate(expression, copy))
        return text + self.ENDING

    def _spelled(self, found: re.Match[str]) -> str:
        piece = found.group()
        if found.lastgroup != "word":
            return piece
        word = self.SPELLINGS.get(piece, piece)
        return word if self.LETTERS is None else str(self.LETTERS(word))

    def identifier_sql(self, expression: exp.Identifier) -> str:
        """The name, quoted where the dialect has to or wants to."""
        if self.QUOTES_ALL or expression.name.upper() in self.WORDS:
            expression.set("quoted", True)
        return super().identifier_sql(expression)

    def cast_sql(self, expression: exp.Cast, safe_prefix: str | None = None) -> str:
        """A cast, or a date literal."""
        if self.DATE_LITERAL is not None and date_forms.is_date_literal(expression):
            return str(self.DATE_LITERAL(self, expression))
        return str(self.CAST(self, expression)) if self.CAST is not None else super().cast_sql(expression, safe_prefix)

    def count_sql(self, expression: exp.Count) -> str:
        """A count of rows or of values."""
        if self.COUNT_OF_ROWS and isinstance(expression.this, exp.Star):
            return self.func(self.COUNT_OF_ROWS)
        return self.function_fallback_sql(expression)

    def table_sql(self, expression: exp.Table, sep: str = " AS ") -> str:
        """A table with its alias."""
        return super().table_sql(expression, self.TABLE_AS or sep)

    def subquery_sql(self, expression: exp.Subquery, sep: str = " AS ") -> str:
        """A subquery with its alias."""
        return super().subquery_sql(expression, self.TABLE_AS or sep)

    def join_sql(self, expression: exp.Join, join_op: str | None = None) -> str:
        """A join."""
        if self.CROSS_IS_COMMA and expression.kind == "CROSS":
            return f", {self.sql(expression, 'this')}"
        plain = not expression.kind and (expression.args.get("on") or expression.args.get("using"))
        return super().join_sql(expression, self.JOINS.get(expression.side) if plain else join_op)

    def query_modifiers(self, expression: exp.Expr, *sqls: str) -> str:
        """The clauses of a query, those given first."""
        if not self.FROM_FIRST or not isinstance(expression, exp.Select) or not expression.args.get("from_"):
            return super().query_modifiers(expression, *sqls)
        select, into, source = sqls
        joins = expression.args.get("joins")
        written = "".join([source, *(self.sql(join) for join in joins or [])]).strip()
        expression.set("joins", None)
        text = super().query_modifiers(expression, f"{written} {select}", into)
        expression.set("joins", joins)
        return text


class _Parts:
    """The classes of a dialect, from its choices."""

    def __init__(self, choices: tuple[Choice, ...]) -> None:
        self.choices = choices
        self.spelled = {key: word for choice in choices for key, word in choice.spellings.items()}

    def tokenizer(self) -> type[Tokenizer]:
        keywords = {word: token for choice in self.choices for word, token in choice.tokens.items()}
        settings = self._settings("tokenizer", Tokenizer)
        settings["KEYWORDS"] = {**Tokenizer.KEYWORDS, **keywords}
        settings["CANONICAL"] = {word: key for key, word in self.spelled.items()}
        return type("Tokenizer", (InventedTokenizer,), settings)

    def parser(self) -> type[parser.Parser]:
        readers = {name: read for choice in self.choices for name, read in choice.functions.items()}
        settings = self._settings("parser", parser.Parser)
        parsers = settings.get("FUNCTION_PARSERS", parser.Parser.FUNCTION_PARSERS)
        settings["FUNCTION_PARSERS"] = {**parsers, **{name: _reading(read) for name, read in readers.items()}}
        restorers = [choice.restore for choice in self.choices if choice.restore is not None]
        settings["RESTORERS"] = (*restorers, lexical_forms.reset_quotes)
        return type("Parser", (InventedParser,), settings)

    def generator(self) -> type[generator.Generator]:
        settings = self._settings("generator", generator.Generator)
        writers = {node: write for choice in self.choices for node, write in choice.writers.items()}
        base = {key: write for key, write in generator.Generator.TRANSFORMS.items() if key is not exp.Count}
        settings["TRANSFORMS"] = {**base, **writers}
        settings["SPELLINGS"] = self.spelled
        words = " ".join(self.spelled.values()).upper().split()
        settings["WORDS"] = frozenset(words)
        settings["PIECES"] = self._pieces("LETTERS" in settings)
        return type("Generator", (InventedGenerator,), settings)

    def _pieces(self, all_words: bool) -> re.Pattern[str]:
        """Quoted pieces, which stay, and words that may change."""
        tokenizer = self.tokenizer()
        quoted = [_between(*pair, tokenizer.STRING_ESCAPES[0]) for pair in tokenizer._QUOTES.items()]
        quoted += [_between(*pair, pair[1]) for pair in tokenizer._IDENTIFIERS.items()]
        keys = sorted(self.spelled, key=len, reverse=True)
        words = [rf"\b{re.escape(key)}\b" for key in keys] + ([r"\b[A-Z][A-Z_0-9]*\b"] if all_words else [])
        return re.compile("|".join([*quoted, f"(?P<word>{'|'.join(words)})" if words else "(?!)"]))

    def _settings(self, part: str, base: type) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for choice in self.choices:
            for key, value in getattr(choice, part).items():
                merged = isinstance(value, dict) and isinstance(getattr(base, key, None), dict)
                made[key] = {**made.get(key, getattr(base, key)), **value} if merged else value
        return made


def _reading(read: Reader) -> Callable[[Any], exp.Expr]:
    """A parser of the arguments of a function."""
    return lambda self: read(self._parse_function_args())


def _between(first: str, last: str, escape: str) -> str:
    """A pattern of a quoted piece."""
    inside, stops = (re.escape(escape + last), last) if escape != "\\" else (r"\\.", last + escape)
    return rf"{re.escape(first)}(?:{inside}|[^{re.escape(stops)}])*{re.escape(last)}"
