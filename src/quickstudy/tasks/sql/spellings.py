"""Choices of words: how keywords, functions and types are called.

Of the alternatives to a canonical word the last is for test dialects only, and the one before for validation dialects.
"""

from __future__ import annotations

from sqlglot import Tokenizer, TokenType, exp

from quickstudy.tasks.sql.choice import Choice, Reader, call, held_out, marks_of

KEYWORDS: dict[str, tuple[str, ...]] = {
    "SELECT": ("GET", "PICK", "LIST", "RETRIEVE"),
    "FROM": ("SOURCE", "OUT OF", "DRAWN FROM", "INSIDE"),
    "WHERE": ("PROVIDED", "SUCH THAT", "FILTER BY", "GIVEN", "ASSUMING"),
    "GROUP BY": ("PER", "GROUPED BY", "FOR EACH", "BUNDLED BY"),
    "HAVING": ("KEEPING", "WITH GROUPS", "WHOSE", "QUALIFIED BY"),
    "ORDER BY": ("SORTED BY", "ARRANGE BY", "RANKED BY", "IN ORDER OF"),
    "JOIN": ("LINK", "MATCHED WITH", "COMBINE", "PAIRED WITH"),
    "LEFT": ("OPTIONAL", "LOOSE", "PARTIAL", "LENIENT"),
    "ON": ("VIA", "WHEREBY", "ALONG", "THROUGH"),
    "UNION": ("COMBINED WITH", "PLUS", "TOGETHER WITH", "JOINED TO"),
    "EXCEPT": ("MINUS", "WITHOUT", "BUT NOT", "LESS"),
    "INTERSECT": ("COMMON WITH", "OVERLAP", "SHARED WITH", "MEETING"),
    "DISTINCT": ("UNIQUE", "DIFFERENT", "DEDUPED", "NO REPEATS"),
    "WITH": ("LET", "DEFINE", "NAMING", "SUPPOSE"),
    "CASE": ("CHOOSE", "SWITCH", "DEPENDING", "DECIDE"),
    "WHEN": ("IF", "SHOULD", "UPON", "WHENEVER"),
    "THEN": ("GIVE", "YIELD", "PRODUCE", "BECOMES"),
    "ELSE": ("OTHERWISE", "DEFAULTING TO", "FALLBACK", "FAILING THAT"),
    "END": ("DONE", "FINISH", "ESAC", "STOP"),
    "AND": ("ALSO", "AS WELL AS", "MOREOVER", "BESIDES"),
    "OR": ("OR ELSE", "ALTERNATIVELY", "EITHER", "FAILING"),
    "NOT": ("NON", "NO", "NEVER", "ISNT"),
    "LIKE": ("MATCHES", "RESEMBLES", "~~", "LOOKS LIKE", "SHAPED AS"),
    "IN": ("AMONG", "ONE OF", "WITHIN", "ANY FROM"),
    "BETWEEN": ("RANGING", "IN RANGE", "SPANNING", "BOUNDED BY"),
    "EXISTS": ("SOME ROW", "THERE IS", "FOUND", "NONEMPTY"),
    "NULL": ("NIL", "NONE", "MISSING", "NOTHING"),
    "DESC": ("DESCENDING", "DOWN", "REVERSED", "FALLING"),
    "AS": ("CALLED", "NAMED", "LABELLED", "KNOWN AS"),
    "OVER": ("ACROSS", "WINDOWED", "SLIDING", "THROUGHOUT"),
    "PARTITION BY": ("SPLIT BY", "PARTITIONED BY", "WITHIN EACH", "SEPARATED BY"),
}

FUNCTIONS: dict[type[exp.Func], tuple[str, ...]] = {
    exp.Length: ("LENGTH", "LEN", "CHAR_LENGTH", "STRLEN", "SIZE_OF", "CHARS_IN"),
    exp.Upper: ("UPPER", "UCASE", "TO_UPPER", "CAPITALS", "SHOUT"),
    exp.Lower: ("LOWER", "LCASE", "TO_LOWER", "SMALLS", "WHISPER"),
    exp.Substring: ("SUBSTRING", "SUBSTR", "MID", "SLICE", "CUT_FROM"),
    exp.Trim: ("TRIM", "STRIP", "TRIM_BOTH", "SHAVE", "CLEAN_ENDS"),
    exp.Replace: ("REPLACE", "SUBSTITUTE", "STR_REPLACE", "SWAP_TEXT", "EXCHANGE"),
    exp.Nullif: ("NULLIF", "NULL_IF", "BLANK_IF", "VOID_WHEN", "EMPTY_AT"),
    exp.Round: ("ROUND", "ROUND_TO", "ROUNDED", "NEAREST", "APPROX"),
    exp.Abs: ("ABS", "ABSOLUTE", "ABS_VALUE", "MAGNITUDE", "UNSIGNED_OF"),
    exp.Ceil: ("CEIL", "CEILING", "ROUND_UP", "CEIL_OF", "NEXT_WHOLE"),
    exp.Floor: ("FLOOR", "ROUND_DOWN", "FLR", "FLOOR_OF", "LAST_WHOLE"),
    exp.Sum: ("SUM", "TOTAL", "SUM_OF", "ADD_UP", "ACCUMULATE"),
    exp.Avg: ("AVG", "MEAN", "AVERAGE", "MEAN_OF", "TYPICAL"),
    exp.Min: ("MIN", "MINIMUM", "SMALLEST", "LEAST_OF", "BOTTOM"),
    exp.Max: ("MAX", "MAXIMUM", "LARGEST", "MOST_OF", "PEAK"),
    exp.Count: ("COUNT", "CNT", "COUNT_OF", "TALLY", "HOW_MANY"),
    exp.RowNumber: ("ROW_NUMBER", "ROWNUM", "ROW_NO", "LINE_NUMBER", "SEQUENCE_NO"),
    exp.Rank: ("RANK", "RANKING", "RANK_OF", "PLACE", "STANDING"),
    exp.Lag: ("LAG", "PREVIOUS", "PRIOR_VALUE", "LOOK_BACK", "BEFORE_ROW"),
}
"""Node -> its canonical name and the alternatives."""

Types = exp.DType
TYPES: dict[str, tuple[str, ...]] = {
    "canonical": ("INT", "DOUBLE", "TEXT", "BIGINT", "DECIMAL", "BOOLEAN"),
    "long": ("INTEGER", "DOUBLE PRECISION", "CLOB", "LONG INTEGER", "NUMERIC", "LOGICAL"),
    "sized": ("INT4", "FLOAT8", "STRING", "INT8", "NUMBER", "BOOL"),
    "bits": ("INT32", "FLOAT64", "UTF8", "INT64", "DECIMAL128", "BIT1"),
    "plain": ("WHOLE", "FRACTION", "CHARS", "BIG_WHOLE", "EXACT", "YES_NO"),
    "short": ("NUM_I", "NUM_F", "STR", "NUM_L", "NUM_D", "FLAG"),
}
"""A naming of types -> names of INT, DOUBLE, TEXT, BIGINT, DECIMAL and BOOLEAN."""

TYPE_TOKENS = (
    (Types.INT, TokenType.INT),
    (Types.DOUBLE, TokenType.DOUBLE),
    (Types.TEXT, TokenType.TEXT),
    (Types.BIGINT, TokenType.BIGINT),
    (Types.DECIMAL, TokenType.DECIMAL),
    (Types.BOOLEAN, TokenType.BOOLEAN),
)


def keyword_features() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, one feature for each keyword."""
    return {f"keyword {canonical}": _keyword(canonical, others) for canonical, others in KEYWORDS.items()}


def function_features() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, one feature for each function."""
    return {f"function {names[0]}": _function(node, names) for node, names in FUNCTIONS.items()}


def type_feature() -> tuple[Choice, ...]:
    """The choices of how types are called."""
    made = []
    for place, (naming, names) in enumerate(TYPES.items()):
        tells = f"types are called {', '.join(names[:-1])} and {names[-1]}" if place else ""
        tokens = {name: token for name, (_, token) in zip(names, TYPE_TOKENS, strict=True)}
        mapping = {kind: name for name, (kind, _) in zip(names, TYPE_TOKENS, strict=True)}
        split = held_out(place - 1, len(TYPES) - 1)
        settings = {"TYPE_MAPPING": mapping}
        made.append(Choice("types", naming, tells, split, frozenset(names), tokens=tokens, generator=settings))
    return tuple(made)


def _keyword(canonical: str, others: tuple[str, ...]) -> tuple[Choice, ...]:
    feature, token = f"keyword {canonical}", Tokenizer.KEYWORDS[canonical]
    made = [Choice(feature, canonical, marks=frozenset({canonical}))]
    for place, other in enumerate(others):
        tells = f"{canonical} is spelled {other}"
        split = held_out(place, len(others))
        spelled = {canonical: other}
        made.append(Choice(feature, other, tells, split, marks_of(other), spelled, {other: token}))
    return tuple(made)


def _function(node: type[exp.Func], names: tuple[str, ...]) -> tuple[Choice, ...]:
    feature, read = f"function {names[0]}", _reader(node)
    made = [Choice(feature, names[0], marks=frozenset({names[0]}))]
    for place, other in enumerate(names[1:]):
        tells = f"{names[0]} is called {other}"
        split = held_out(place, len(names) - 1)
        made.append(
            Choice(
                feature, other, tells, split, frozenset({other}), writers={node: call(other)}, functions={other: read}
            )
        )
    return tuple(made)


def _reader(node: type[exp.Func]) -> Reader:
    if node is exp.Count:
        return lambda args: exp.Count(this=args[0], big_int=True)
    return node.from_arg_list
