"""Prompts and prefixes of all kinds."""

from quickstudy.deltas import Prefix, Prompt

FRONT = (5, 9, 7)
DELTAS = [
    Prompt(4),
    Prompt(2, "random"),
    Prompt(5, FRONT),
    Prefix(4),
    Prefix(2, "random"),
    Prefix(3, FRONT),
    Prefix(3, "random", through=8),
]
