"""Choices of signs: quoting of identifiers and strings, operators, truth values, letters, the end of a statement."""

from __future__ import annotations

from typing import Any

from sqlglot import TokenType, exp
from sqlglot.generator import Generator

from quickstudy.tasks.sql.choice import Choice, call, marks_of, operator
from quickstudy.tasks.sql.schemas import needs_quotes

COMPARISONS: dict[type[exp.Binary], tuple[TokenType, str]] = {
    exp.EQ: (TokenType.EQ, "EQ"),
    exp.NEQ: (TokenType.NEQ, "NE"),
    exp.LT: (TokenType.LT, "LT"),
    exp.GT: (TokenType.GT, "GT"),
    exp.LTE: (TokenType.LTE, "LE"),
    exp.GTE: (TokenType.GTE, "GE"),
}


def quoting_choices() -> tuple[Choice, ...]:
    """The choices of the signs around an identifier."""

    def choice(first: str, last: str, split: Any = "") -> Choice:
        tells = f"identifiers are quoted {first}so{last}"
        marks = frozenset({first, last})
        return Choice(
            "identifier quotes", f"{first}{last}", tells, split, marks, tokenizer={"IDENTIFIERS": [(first, last)]}
        )

    return (
        Choice("identifier quotes", '"', marks=frozenset({'"'})),
        choice("`", "`"),
        choice("[", "]"),
        choice("~", "~", "validation"),
        choice("#", "#", "test"),
        choice("{", "}", "test"),
    )


def when_quoted_choices() -> tuple[Choice, ...]:
    """The choices of when an identifier is quoted."""
    return (
        Choice("quoting", "where needed"),
        Choice("quoting", "always", "all identifiers are quoted", generator={"QUOTES_ALL": True}),
    )


def string_choices() -> tuple[Choice, ...]:
    """The choices of the signs around a string, and of how they are written inside of it."""

    def choice(sign: str, escape: str, tells: str, split: Any = "") -> Choice:
        settings = {"QUOTES": [sign], "STRING_ESCAPES": [escape]}
        return Choice("strings", f"{sign}{escape}", tells, split, frozenset({sign}), tokenizer=settings)

    return (
        Choice("strings", "'", marks=frozenset({"'"})),
        choice('"', '"', 'strings are written "so"'),
        choice("'", "\\", "a quote in a string is written \\'"),
        choice('"', "\\", 'strings are written "so", with \\" inside', "validation"),
        choice("`", "`", "strings are written `so`", "test"),
    )


def operator_choices() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, for inequality, comparison, concatenation and remainder."""

    equality = Choice("equality", "==", "equal is ==", marks=frozenset({"=="}), writers={exp.EQ: operator("==")})
    in_words = Choice(
        "equality",
        "EQ",
        "comparisons are words: EQ, NE, LT, GT, LE, GE",
        "test",
        frozenset(word for _, word in COMPARISONS.values()),
        tokens={word: token for token, word in COMPARISONS.values()},
        writers={node: operator(word) for node, (_, word) in COMPARISONS.items()},
    )
    return {
        "inequality": (
            Choice("inequality", "<>"),
            _inequality("!="),
            _inequality("^="),
            _inequality("~="),
            _inequality("><", "validation"),
            _inequality("=/=", "test"),
        ),
        "equality": (Choice("equality", "="), equality, in_words),
        "concatenation": (
            Choice("concatenation", "||"),
            _concatenation("&", SINGLE_TOKENS={"&": TokenType.DPIPE}),
            _concatenation("++"),
            _joining("CONCAT"),
            _joining("JOIN_TEXT", "validation"),
            _concatenation("<+>", "validation"),
            _joining("GLUE", "test"),
            _concatenation("..", "test"),
        ),
        "remainder": (
            Choice("remainder", "%"),
            _remainder("MOD"),
            _infix_remainder("REM"),
            _remainder("REMAINDER", "validation"),
            _infix_remainder("MODULO", "test"),
        ),
    }


def _inequality(sign: str, split: Any = "") -> Choice:
    tokens = {sign: TokenType.NEQ}
    marks = marks_of(sign)
    return Choice("inequality", sign, f"unequal is {sign}", split, marks, {}, tokens, {exp.NEQ: operator(sign)})


def _concatenation(sign: str, split: Any = "", **tokenizer: Any) -> Choice:
    tells = f"texts are joined by {sign}"
    tokens = {} if tokenizer else {sign: TokenType.DPIPE}
    writers = {exp.DPipe: operator(sign)}
    marks = marks_of(sign)
    return Choice("concatenation", sign, tells, split, marks, {}, tokens, writers, tokenizer=tokenizer)


def _joining(name: str, split: Any = "") -> Choice:
    tells = f"texts are joined by {name}(a, b)"
    writers = {exp.DPipe: lambda g, node: g.func(name, *node.flatten())}
    marks = frozenset({name})
    return Choice("concatenation", name, tells, split, marks, writers=writers, functions={name: _joined})


def _remainder(name: str, split: Any = "") -> Choice:
    tells = f"the remainder is {name}(a, b)"
    marks = frozenset({name})
    functions = {name: lambda args: exp.Mod(this=args[0], expression=args[1])}
    return Choice("remainder", name, tells, split, marks, writers={exp.Mod: call(name)}, functions=functions)


def _infix_remainder(word: str, split: Any = "") -> Choice:
    tells = f"the remainder is a {word} b"
    tokens = {word: TokenType.MOD}
    return Choice("remainder", word, tells, split, frozenset({word}), {}, tokens, {exp.Mod: operator(word)})


def truth_choices() -> tuple[Choice, ...]:
    """The choices of how true and false are written."""

    def words(yes: str, no: str, split: Any = "") -> Choice:
        tells = f"true and false are {yes} and {no}"
        tokens = {yes: TokenType.TRUE, no: TokenType.FALSE}
        marks = frozenset(tokens)
        return Choice("truth", yes, tells, split, marks, {"TRUE": yes, "FALSE": no}, tokens)

    equations = Choice(
        "truth",
        "equations",
        "true and false are (1 = 1) and (1 = 0)",
        writers={exp.Boolean: lambda g, node: f"(1 {_equal(g)} {1 if node.this else 0})"},
        restore=_from_equation,
    )
    return (
        Choice("truth", "TRUE", marks=frozenset({"TRUE", "FALSE"})),
        words("YES", "NOPE"),
        equations,
        words("CORRECT", "INCORRECT"),
        words("AYE", "NAY", "validation"),
        words("HOLDS", "FAILS", "test"),
    )


def letter_choices() -> tuple[Choice, ...]:
    """The choices of the letters of keywords and functions."""
    return (
        Choice("letters", "upper"),
        Choice("letters", "lower", "keywords are written small", generator={"LETTERS": staticmethod(str.lower)}),
        Choice("letters", "capital", "Keywords Start With a Capital", generator={"LETTERS": staticmethod(str.title)}),
    )


def end_choices() -> tuple[Choice, ...]:
    """The choices of what ends a statement."""
    return (
        Choice("end", ""),
        Choice("end", ";", "a statement ends with ;", generator={"ENDING": ";"}),
    )


def reset_quotes(node: exp.Expr) -> exp.Expr:
    """The node; an identifier is marked as quoted where canonical SQL quotes it."""
    if isinstance(node, exp.Identifier):
        node.set("quoted", needs_quotes(node.name))
    return node


def _joined(args: list[Any]) -> exp.Expr:
    made = args[0]
    for other in args[1:]:
        made = exp.DPipe(this=made, expression=other, safe=True)
    return made  # type: ignore[no-any-return]


def _equal(generator: Generator) -> str:
    """The sign of equality in this dialect."""
    one = exp.Literal.number(1)
    return generator.sql(exp.EQ(this=one, expression=one.copy())).removeprefix("1 ").removesuffix(" 1")


def _from_equation(node: exp.Expr) -> exp.Expr:
    equation = node.this if isinstance(node, exp.Paren) else None
    if isinstance(equation, exp.EQ) and equation.this.is_number and equation.expression.is_number:
        return exp.Boolean(this=equation.this.name == equation.expression.name)
    return node
