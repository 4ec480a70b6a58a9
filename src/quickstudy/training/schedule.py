"""The learning rate of each step."""

from __future__ import annotations

import math

from quickstudy.training.options import FitOptions


def learning_rate(options: FitOptions, step: int) -> float:
    """The learning rate of `step`, counted from 0. The last step has a rate above 0 in every schedule."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    gone = (step - options.warmup) / max(options.steps - options.warmup, 1)
    shares = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * gone)) / 2, "linear": 1 - gone}
    return options.lr * shares[options.schedule]
