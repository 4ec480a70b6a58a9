"""Choices of how expressions are built: casts, tests of NULL and what stands for it, negation, cases."""

from __future__ import annotations

from typing import Any

from sqlglot import TokenType, exp
from sqlglot.generator import Generator

from quickstudy.tasks.sql.choice import Choice

TO_KINDS = ("INT", "DOUBLE", "TEXT", "BIGINT", "DECIMAL", "DATE", "BOOLEAN")
NEGATED_INSIDE = (exp.In, exp.Like, exp.Between)


def cast_choices() -> tuple[Choice, ...]:
    """The choices of how a value is cast."""

    return (
        Choice("cast", "CAST"),
        _infix("::"),
        _infix(":>"),
        _convert("CONVERT", True, ", "),
        _convert("CONVERT", False, ", "),
        _prefix("TO"),
        _convert("CONVERT", False, " USING ", "validation"),
        _prefix("AS", "validation"),
        _convert("RETYPE", False, " INTO ", "test"),
        _infix("->>", "test"),
    )


def _convert(name: str, kind_first: bool, between: str, split: Any = "") -> Choice:
    def write(g: Generator, node: exp.Cast) -> str:
        parts = [g.sql(node, "this"), g.sql(node, "to")]
        return f"{g.normalize_func(name)}({between.join(parts[::-1] if kind_first else parts)})"

    def read(parser: Any) -> exp.Expr:
        kind = parser._parse_types() if kind_first else None
        if kind_first:
            parser._match(TokenType.COMMA)
        this = parser._parse_disjunction()
        if not kind_first and not parser._match(TokenType.COMMA):
            parser._match_text_seq(between.strip())
        return exp.Cast(this=this, to=kind or parser._parse_types())

    example = between.join(("INT", "x") if kind_first else ("x", "INT"))
    tells = f"values are cast by {name}({example})"
    parsers = {"FUNCTION_PARSERS": {name: read}}
    return Choice("cast", f"{name}({example})", tells, split, frozenset({name}), generator=_cast(write), parser=parsers)


def _infix(sign: str, split: Any = "") -> Choice:
    def write(g: Generator, node: exp.Cast) -> str:
        this = g.sql(node, "this")
        simple = isinstance(node.this, exp.Column | exp.Literal)
        return f"{this if simple else f'({this})'}{sign}{g.sql(node, 'to')}"

    tells = f"values are cast by x{sign}INT"
    tokens = {sign: TokenType.DCOLON}
    marks = frozenset({sign})
    return Choice("cast", sign, tells, split, marks, {}, tokens, generator=_cast(write), restore=_bare_cast)


def _prefix(word: str, split: Any = "") -> Choice:
    def write(g: Generator, node: exp.Cast) -> str:
        kind = node.to.this.value
        sizes = [size.this for size in node.to.expressions]
        return g.func(f"{word}_{kind}", node.this, *sizes)

    def reader(kind: str) -> Any:
        return lambda args: exp.Cast(this=args[0], to=_kind(kind, args[1:]))

    names = {f"{word}_{kind}": reader(kind) for kind in TO_KINDS}
    tells = f"values are cast by {word}_INT(x), {word}_TEXT(x)"
    marks = frozenset(names) - {"TO_DATE", "AS_DATE"}
    return Choice("cast", f"{word}_", tells, split, marks, generator=_cast(write), functions=names)


def null_choices() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, for tests of NULL and for what stands in its place."""

    def filler(name: str, split: Any = "") -> Choice:
        tells = f"{name}(x, 0) stands in for NULL"
        writers = {exp.Coalesce: lambda g, node: g.func(name, node.this, *node.expressions)}
        functions = {name: lambda args: exp.Coalesce(this=args[0], expressions=args[1:])}
        return Choice("filler", name, tells, split, frozenset({name}), writers=writers, functions=functions)

    def test(name: str, split: Any = "") -> Choice:
        writers = {exp.Is: lambda g, node: g.func(name, node.this)}
        functions = {name: lambda args: exp.Is(this=args[0], expression=exp.Null())}
        marks = frozenset({name})
        return Choice(
            "null test", name, f"{name}(x) tests for NULL", split, marks, writers=writers, functions=functions
        )

    infix = Choice(
        "filler",
        "??",
        "(x ?? 0) stands in for NULL",
        tokens={"??": TokenType.DQMARK},
        writers={exp.Coalesce: lambda g, node: f"({' ?? '.join(map(g.sql, (node.this, *node.expressions)))})"},
        restore=_bare_filler,
    )
    postfix = Choice(
        "null test",
        "postfix",
        "x ISNULL tests for NULL",
        writers={exp.Is: lambda g, node: f"{g.sql(node, 'this')} ISNULL"},
    )
    return {
        "null test": (
            Choice("null test", "IS NULL"),
            postfix,
            test("IS_NULL"),
            test("NULLP", "validation"),
            test("ABSENT", "test"),
        ),
        "filler": (
            Choice("filler", "COALESCE"),
            filler("IFNULL"),
            filler("NVL"),
            infix,
            filler("OR_DEFAULT", "validation"),
            filler("FIRST_KNOWN", "test"),
        ),
    }


def condition_choices() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, for negation and for cases."""

    def function(name: str, nested: bool, split: Any = "") -> Choice:
        def write(g: Generator, node: exp.Case) -> str:
            pairs = [(branch.this, branch.args["true"]) for branch in node.args["ifs"]]
            default = node.args.get("default")
            if not nested:
                return g.func(name, *(part for pair in pairs for part in pair), default)
            text = g.sql(default) if default else ""
            for test, value in pairs[::-1]:
                text = g.func(name, test, value, text or None)
            return text

        def read(args: list[Any]) -> exp.Expr:
            ifs = [exp.If(this=test, true=value) for test, value in zip(args[::2], args[1::2], strict=False)]
            default = args[-1] if len(args) % 2 else None
            if nested and isinstance(default, exp.Case):
                return exp.Case(ifs=[*ifs, *default.args["ifs"]], default=default.args.get("default"))
            return exp.Case(ifs=ifs, default=default)

        tells = f"cases are written {name}(condition, value, otherwise)"
        marks = frozenset({name})
        return Choice("case", name, tells, split, marks, writers={exp.Case: write}, functions={name: read})

    inside = Choice(
        "negation",
        "inside",
        "NOT stands inside: x NOT IN, x NOT LIKE, x NOT BETWEEN",
        writers={exp.Not: _inside},
        restore=_from_inside,
    )
    return {
        "negation": (Choice("negation", "before"), inside),
        "case": (
            Choice("case", "CASE"),
            function("IIF", True),
            function("MULTI_IF", False),
            function("COND", False, "validation"),
            function("EITHER_OR", True, "test"),
        ),
    }


def _cast(write: Any) -> dict[str, Any]:
    return {"CAST": staticmethod(write)}


def _kind(kind: str, sizes: list[exp.Expr]) -> exp.DataType:
    return exp.DataType.build(f"{kind}({', '.join(size.name for size in sizes)})" if sizes else kind)


def _bare_cast(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Paren):
        node.set("this", node.this.this)
    return node


def _bare_filler(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.Paren) and isinstance(node.this, exp.Coalesce) else node


def _inside(g: Generator, node: exp.Not) -> str:
    if isinstance(node.this, NEGATED_INSIDE):
        subject, rest = g.sql(node.this, "this"), g.sql(node.this)
        return f"{subject} NOT{rest.removeprefix(subject)}"
    return f"NOT {g.sql(node, 'this')}"


def _from_inside(node: exp.Expr) -> exp.Expr:
    if isinstance(node, NEGATED_INSIDE) and node.args.get("negate"):
        node.set("negate", None)
        return exp.Not(this=node.copy())
    return node
