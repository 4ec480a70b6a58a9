"""Choices of how clauses are built: limits, names of results, joins, which clause comes first."""

from __future__ import annotations

from typing import Any

from sqlglot import TokenType, exp
from sqlglot.generator import Generator

from quickstudy.tasks.sql.choice import Choice


def limit_choices() -> tuple[Choice, ...]:
    """The choices of how the number of rows is limited, and how rows are skipped."""

    def words(limit: str, offset: str, split: Any = "") -> Choice:
        tells = f"rows are limited by {limit} 5 {offset} 10"
        tokens = {limit: TokenType.LIMIT, offset: TokenType.OFFSET}
        return Choice("limit", limit, tells, split, frozenset(tokens), {"LIMIT": limit, "OFFSET": offset}, tokens)

    def first(word: str, split: Any = "") -> Choice:
        tells = f"rows are limited by SELECT {word} 5"
        tokens = {word: TokenType.TOP}
        spelled = {} if word == "TOP" else {"TOP": word}
        marks = frozenset({word})
        return Choice("limit", word, tells, split, marks, spelled, tokens, generator={"LIMIT_IS_TOP": True})

    fetch = Choice(
        "limit",
        "FETCH",
        "rows are limited by OFFSET 10 ROWS FETCH FIRST 5 ROWS ONLY",
        generator={"LIMIT_FETCH": "FETCH", "offset_limit_modifiers": _offset_fetch},
        restore=_from_fetch,
    )
    comma = Choice("limit", "comma", "rows are limited by LIMIT 10, 5", generator={"offset_limit_modifiers": _comma})
    rows = Choice(
        "limit",
        "ROWS",
        "rows are limited by ROWS 11 TO 15",
        "test",
        frozenset({"ROWS"}),
        tokens={"ROWS": TokenType.LIMIT},
        generator={"offset_limit_modifiers": _rows_to},
        parser={"QUERY_MODIFIER_PARSERS": {TokenType.LIMIT: _parse_rows_to}},
    )
    return (
        Choice("limit", "LIMIT"),
        first("TOP"),
        fetch,
        comma,
        words("TAKE", "SKIP"),
        words("AT MOST", "STARTING AFTER"),
        first("FIRST_ROWS", "validation"),
        words("CAP", "PASSING", "validation"),
        words("NO MORE THAN", "LEAVING OUT", "test"),
        first("UPTO", "test"),
        rows,
    )


def name_choices() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, for aliases, joins, counting rows, positions, and which clause comes first."""

    plain = Choice("alias", "none", "names follow without AS", generator={"alias_sql": _bare_alias, "TABLE_AS": " "})
    comma = Choice(
        "cross join", "comma", "FROM a, b joins all rows", generator={"CROSS_IS_COMMA": True}, restore=_from_comma
    )
    inner = Choice(
        "join",
        "INNER",
        "joins are INNER JOIN and LEFT OUTER JOIN",
        generator={"JOINS": {"": "INNER JOIN", "LEFT": "LEFT OUTER JOIN"}},
        restore=_from_inner,
    )
    from_first = Choice(
        "clauses", "FROM first", "FROM stands before SELECT", generator={"FROM_FIRST": True}, restore=_from_first
    )
    return {
        "alias": (Choice("alias", "AS"), plain),
        "cross join": (Choice("cross join", "CROSS JOIN"), comma),
        "join": (Choice("join", "JOIN"), inner),
        "count of rows": (
            Choice("count of rows", "COUNT(*)"),
            _count("COUNT_ROWS"),
            _count("ROW_COUNT"),
            _count("NROWS", "validation"),
            _count("ROWS_HERE", "test"),
        ),
        "position": (
            Choice("position", "STR_POSITION"),
            _position("STRPOS", False),
            _position("INSTR", False),
            _position("LOCATE", True),
            _position("CHARINDEX", True),
            _position("FIND_IN", False, "validation"),
            _position("WHERE_IS", True, "test"),
        ),
        "clauses": (Choice("clauses", "SELECT first"), from_first),
    }


def _count(name: str, split: Any = "") -> Choice:
    return Choice(
        "count of rows",
        name,
        f"rows are counted by {name}()",
        split,
        frozenset({name}),
        generator={"COUNT_OF_ROWS": name},
        functions={name: lambda _: exp.Count(this=exp.Star(), big_int=True)},
    )


def _position(name: str, swapped: bool, split: Any = "") -> Choice:
    def write(g: Generator, node: exp.StrPosition) -> str:
        args = (node.this, node.args["substr"])
        return g.func(name, *(args[::-1] if swapped else args))

    def read(args: list[Any]) -> exp.Expr:
        this, part = args[::-1] if swapped else args
        return exp.StrPosition(this=this, substr=part)

    given = "'x', s" if swapped else "s, 'x'"
    tells = f"the place of 'x' in s is {name}({given})"
    marks = frozenset({name})
    return Choice("position", name, tells, split, marks, writers={exp.StrPosition: write}, functions={name: read})


def _bare_alias(g: Generator, node: exp.Alias) -> str:
    return f"{g.sql(node, 'this')} {g.sql(node, 'alias')}"


def _numbers(node: exp.Expr) -> tuple[int, int]:
    """How many rows are skipped, and how many are taken."""
    offset, limit = node.args.get("offset"), node.args.get("limit")
    return int(offset.expression.name) if offset else 0, int(limit.expression.name) if limit else 0


def _offset_fetch(g: Any, node: exp.Expr, _fetch: bool, limit: Any) -> list[str]:
    offset = node.args.get("offset")
    skipped = f" OFFSET {g.sql(offset, 'expression')} ROWS" if offset else ""
    return [skipped, f" FETCH FIRST {g.sql(limit.args['count'])} ROWS ONLY" if limit else ""]


def _comma(g: Any, node: exp.Expr, *_: Any) -> list[str]:
    skipped, taken = _numbers(node)
    if not taken:
        return [g.sql(node, "offset")]
    return [f" LIMIT {skipped}, {taken}" if skipped else f" LIMIT {taken}"]


def _rows_to(g: Any, node: exp.Expr, *_: Any) -> list[str]:
    skipped, taken = _numbers(node)
    if not taken:
        return [g.sql(node, "offset")]
    return [f" ROWS {skipped + 1} TO {skipped + taken}"]


def _parse_rows_to(parser: Any) -> tuple[str, exp.Expr]:
    parser._match(TokenType.LIMIT)
    first = parser._parse_number()
    parser._match_text_seq("TO")
    last = parser._parse_number()
    skipped = int(first.name) - 1
    taken = exp.Literal.number(int(last.name) - skipped)
    return "limit", exp.Limit(expression=taken, offset=exp.Literal.number(skipped) if skipped else None)


def _from_fetch(node: exp.Expr) -> exp.Expr:
    return exp.Limit(expression=node.args["count"]) if isinstance(node, exp.Fetch) else node


def _from_comma(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Join) and not (node.args.get("on") or node.args.get("using") or node.kind or node.side):
        node.set("kind", "CROSS")
    return node


def _from_inner(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Join) and node.kind in ("INNER", "OUTER"):
        node.set("kind", None)
    return node


def _from_first(node: exp.Expr) -> exp.Expr:
    source = node.args.get("from_") if isinstance(node, exp.Select) else None
    joins = source.this.args.get("joins") if source is not None else None
    if source is not None and joins:
        source.this.set("joins", None)
        node.set("joins", joins)
    return node
