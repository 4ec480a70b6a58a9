"""An endless family of invented dialects, each made from a seed.

The seeds of train, validation and test dialects are disjoint ranges. Some choices are kept for validation or test
dialects, and each of these has at least two of them: so neither they nor any combination with them is in training.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from sqlglot import Dialect, ErrorLevel, Token, TokenType, exp
from sqlglot.errors import ParseError

from quickstudy.core.errors import TaskError
from quickstudy.tasks.sql import clause_forms, date_forms, expression_forms, lexical_forms, spellings
from quickstudy.tasks.sql.choice import SPLITS, Choice, Split, readable
from quickstudy.tasks.sql.dialect_classes import built

SEEDS: dict[Split, range] = {
    "train": range(2**40),
    "validation": range(2**40, 2**41),
    "test": range(2**41, 2**41 + 2**40),
}
"""The seeds of each split."""

OWN_CHOICES = 2
"""How many choices a validation or test dialect has at least that no other split has."""


@cache
def features() -> dict[str, tuple[Choice, ...]]:
    """Name of a feature -> its choices, the canonical one first."""
    return {
        "identifier quotes": lexical_forms.quoting_choices(),
        "quoting": lexical_forms.when_quoted_choices(),
        "strings": lexical_forms.string_choices(),
        "truth": lexical_forms.truth_choices(),
        "letters": lexical_forms.letter_choices(),
        "end": lexical_forms.end_choices(),
        **lexical_forms.operator_choices(),
        "limit": clause_forms.limit_choices(),
        "cast": expression_forms.cast_choices(),
        **expression_forms.null_choices(),
        **expression_forms.condition_choices(),
        **clause_forms.name_choices(),
        "date literal": date_forms.literal_choices(),
        "today": date_forms.today_choices(),
        "date part": date_forms.extract_choices(),
        "date difference": date_forms.difference_choices(),
        "date sum": date_forms.sum_choices(),
        "types": spellings.type_feature(),
        **spellings.function_features(),
        **spellings.keyword_features(),
    }


@dataclass(frozen=True)
class InventedDialect:
    """One invented dialect: the same seed gives the same.

    Attributes:
        seed: of one of the ranges `SEEDS`.
    """

    seed: int

    @property
    def name(self) -> str:
        """`invented-SEED`."""
        return f"invented-{self.seed}"

    @property
    def split(self) -> Split:
        """The split that the seed belongs to.

        Raises:
            TaskError: to none.
        """
        for split in SPLITS:
            if self.seed in SEEDS[split]:
                return split
        raise TaskError(f"the seed {self.seed} is of no split; give one from 0 to {SEEDS['test'].stop - 1}")

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """One choice for each feature."""
        return _drawn(self.seed, self.split)

    @property
    def description(self) -> str:
        """In English, what differs from canonical SQL: one clause for each choice."""
        told = [choice.tells for choice in self.choices if choice.tells]
        return "; ".join(told) if told else "canonical SQL"

    @property
    def dialect(self) -> Dialect:
        """The sqlglot dialect."""
        return built(self.choices)

    def write(self, tree: exp.Expr) -> str:
        """The text of a canonical tree."""
        return self.dialect.generate(tree, unsupported_level=ErrorLevel.IGNORE)

    def tokens(self, text: str) -> list[Token]:
        """The text, cut into words and signs, in their own spelling."""
        found = self.dialect.tokenize(text)
        for token in found:
            if token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
                token.text = text[token.start : token.end + 1]
        return found

    def read(self, text: str) -> exp.Expr:
        """The canonical tree of a text.

        Raises:
            sqlglot.errors.SqlglotError: it cannot be read.
        """
        found = readable(self._statements, text)
        if len(found) != 1 or found[0] is None:
            raise ParseError(f"expected one statement, got {len(found)}: {text!r}")
        return found[0]

    def _statements(self, text: str) -> list[exp.Expr | None]:
        return self.dialect.parse(text)


def draw_invented(split: Split, source: torch.Generator) -> InventedDialect:
    """A dialect of the split."""
    seeds = SEEDS[split]
    place = int(torch.randint(len(seeds), (), generator=source))
    return InventedDialect(seeds[place])


def _drawn(seed: int, split: Split) -> tuple[Choice, ...]:
    rng = random.Random(seed)
    rates = {"keyword": rng.uniform(0, 0.4), "function": rng.uniform(0, 0.5), "": rng.uniform(0.2, 0.8)}
    taken: set[str] = set()
    made: dict[str, Choice] = {}
    order = list(features())
    own = (
        [name for name in order if any(choice.split == split for choice in features()[name])]
        if split != "train"
        else []
    )
    forced = set(rng.sample(own, min(OWN_CHOICES, len(own))))
    for name in sorted(order, key=lambda name: name not in forced):
        canonical, *others = features()[name]
        wanted = [choice for choice in others if (choice.split == split if name in forced else choice.fits(split))]
        free = [choice for choice in wanted if not choice.marks & taken]
        group = name.split()[0]
        rate = rates.get(group, rates[""]) * (0.5 if len(others) == 1 else 1)
        changed = name in forced or canonical.marks & taken or rng.random() < rate
        made[name] = rng.choice(free) if free and changed else canonical
        taken |= made[name].marks
    return tuple(made[name] for name in order)
