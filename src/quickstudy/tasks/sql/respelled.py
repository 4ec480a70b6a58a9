"""SQL tasks whose completions are spelled in words and signs that nobody can know beforehand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.sql import words
from quickstudy.tasks.sql.schemas import seeded
from quickstudy.tasks.text_tasks import Pair, TextTask, TextTaskSource, WritingTask

WORD = re.compile(r"[A-Za-z_]\w*")
OPERATOR = re.compile(r"(?<= )[!@$%^&*|:~?/<>=+\-]+(?= )")
QUOTES = '"`[]'
"""Signs around names and strings, each of which may become another one."""

NEW_QUOTES = "`^|!$@?;:&\\"
"""What they may become; none of those that invented dialects of validation and test quote by."""

SIGNS = "!@$%^&*|:~?/<>=+-#.{}[]"
PUNCTUATION = {"(": "[{<^:", ")": "]}>$;", ",": ";|:&/"}
"""Signs that part arguments, and what they may become: an opening one goes with the closing one of the same place."""

NAMES = tuple(row for _, row in words.TABLES) + words.ALIASES + words.QUERY_NAMES
"""Words that prompts have too, as names."""

BEGINNINGS: tuple[str, ...] = (
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "j",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "r",
    "s",
)
BEGINNINGS += ("sh", "st", "t", "tr", "v", "w", "x", "z", "")
MIDDLES = ("a", "e", "i", "o", "u", "ai", "ee", "ou", "y")
ENDINGS = ("", "", "", "n", "r", "l", "s", "t", "x", "nd", "rk", "m", "p", "g")


@dataclass(frozen=True)
class Respelled(TextTaskSource):
    """The tasks of another source, some words and signs of the completions spelled anew, alike throughout a task.

    The words are those of SQL, not names, numbers or strings of the prompt. What comes out is no dialect that can be
    read back. A model trained on it must take spellings from the examples, for none comes twice.

    Attributes:
        source: of translations from canonical SQL, whose words are in capitals and whose names are not.
        most: each word, operator and quotation mark is respelled with a probability that is drawn for each task, from 0
            to this; brackets and commas with a third of it.

    Raises:
        TaskError: at the first task, if `most` is not between 0 and 1.
    """

    source: TextTaskSource
    most: float = 0.5

    def draw(self, generator: torch.Generator) -> WritingTask:
        """One task; its description is that of the source and no longer the whole truth."""
        if not 0 <= self.most <= 1:
            raise TaskError(f"most is {self.most}; give a probability from 0 to 1")
        task, rng = self.source.draw(generator), seeded(generator)
        pairs = (*task.support, *task.query)
        spelling = _Spelling.drawn(pairs, rng.uniform(0, self.most), rng)
        made = [Pair(pair.prompt, spelling.of(pair)) for pair in pairs]
        return TextTask(task.name, task.description, tuple(made[: len(task.support)]), tuple(made[len(task.support) :]))


@dataclass(frozen=True)
class _Spelling:
    """Word in small letters, operator or single sign -> how it is written."""

    words: dict[str, str]
    operators: dict[str, str]
    signs: dict[int, str]

    @classmethod
    def drawn(cls, pairs: Iterable[Pair], share: float, rng: random.Random) -> _Spelling:
        pairs = list(pairs)
        texts = " ".join(pair.completion for pair in pairs)
        known = sorted(
            {word.lower() for pair in pairs for word in WORD.findall(pair.completion) if _of_sql(word, pair)}
        )
        spelled = {word: _phrase(rng) for word in known if rng.random() < share}
        found = sorted(set(OPERATOR.findall(texts)))
        operators = {sign: _operator(rng) for sign in found if rng.random() < share}
        return cls(spelled, operators, _signs(texts, share, rng))

    def of(self, pair: Pair) -> str:
        """The completion of `pair`, spelled so."""

        def spelled(found: re.Match[str]) -> str:
            word = found[0]
            new = self.words.get(word.lower())
            if new is None or not _of_sql(word, pair):
                return word
            return new.upper() if word.isupper() else new

        text = WORD.sub(spelled, pair.completion)
        text = OPERATOR.sub(lambda found: self.operators.get(found[0], found[0]), text)
        return text.translate(self.signs)


def _of_sql(word: str, pair: Pair) -> bool:
    """Whether a word of the completion is the dialect's own: not in the prompt, or one of its words in capitals."""
    there = WORD.findall(pair.prompt)
    return word.upper() in there or word.lower() not in {other.lower() for other in there}


def _phrase(rng: random.Random) -> str:
    """One to three made-up words; some of them are words that tables and columns are called by."""
    count = rng.choices((1, 2, 3), (12, 4, 1))[0]
    return " ".join(rng.choice(NAMES) if rng.random() < 0.25 else _word(rng) for _ in range(count))


def _word(rng: random.Random) -> str:
    def part() -> str:
        count = rng.choice((1, 1, 2, 2))
        return "".join(rng.choice(BEGINNINGS) + rng.choice(MIDDLES) + rng.choice(ENDINGS) for _ in range(count))

    return f"{part()}_{part()}" if rng.random() < 0.1 else part()


def _operator(rng: random.Random) -> str:
    return "".join(rng.choice(SIGNS) for _ in range(rng.choice((1, 1, 2, 2, 3))))


def _signs(texts: str, share: float, rng: random.Random) -> dict[int, str]:
    """Code of a quotation mark, bracket or comma -> what stands for it, which is not in the texts."""
    free = [sign for sign in NEW_QUOTES if sign not in texts]
    rng.shuffle(free)
    present = [sign for sign in QUOTES if sign in texts and rng.random() < share]
    made = dict(zip(present, free, strict=False))
    taken = set(texts) | set(made.values())
    brackets = [pair for pair in zip(PUNCTUATION["("], PUNCTUATION[")"], strict=True) if not taken & set(pair)]
    if brackets and rng.random() < share / 3:
        made["("], made[")"] = rng.choice(brackets)
    commas = [sign for sign in PUNCTUATION[","] if sign not in taken | set(made.values())]
    if commas and rng.random() < share / 3:
        made[","] = rng.choice(commas)
    return {ord(old): new for old, new in made.items()}
