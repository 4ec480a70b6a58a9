"""Telling questions that belong to no class from those that do, by a score that is higher for the latter."""

from __future__ import annotations

from typing import Literal

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

ScoreKind = Literal["probability", "logit", "energy", "margin"]


def scope_scores(logits: Tensor, kind: ScoreKind = "probability") -> Tensor:
    """[example]: how sure a classifier is that an example belongs to one of its classes.

    Args:
        logits: [example, class].
        kind: the largest probability (Hendrycks and Gimpel, 2016, arXiv 1610.02136), the largest logit, the log of
            the sum of their exponentials (Liu et al., 2020, arXiv 2010.03759), or the lead of the largest logit over
            the second.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "probability":
        return logits.softmax(-1).amax(-1)
    if kind == "logit":
        return logits.amax(-1)
    if kind == "energy":
        return logits.logsumexp(-1)
    if kind == "margin":
        first, second = logits.topk(2, -1).values.unbind(-1)
        return first - second
    raise ValueError(f'the kind of score is {kind!r}; give "probability", "logit", "energy" or "margin"')


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The chance that an example in scope scores higher than one out of scope, ties counting half.

    Args:
        inside: [example] scores of examples in scope.
        outside: [example] scores of examples out of scope.

    Raises:
        ValueError: one of the two is empty or not finite.
    """
    _check(inside, outside)
    scores = torch.cat([inside, outside]).double()
    truth = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))])
    return float(roc_auc_score(truth.numpy(), scores.detach().cpu().numpy()))


def choose_threshold(inside: Tensor, kept: float = 0.95) -> float:
    """The highest threshold at which at least the share `kept` of `inside` [example] scores no lower.

    Raises:
        ValueError: no scores, scores that are not finite, or a share outside (0, 1].
    """
    _check(inside)
    if not 0 < kept <= 1:
        raise ValueError(f"the share to keep is {kept}; give a number above 0, at most 1")
    scores = inside.double().sort().values
    lost = int((1 - kept) * len(scores) + 1e-9)
    return float(scores[lost])


def outside_recall(inside: Tensor, outside: Tensor, kept: float = 0.95) -> float:
    """The share of `outside` [example] below the threshold that keeps the share `kept` of `inside` [example].

    Raises:
        ValueError: as `choose_threshold` and `auroc`.
    """
    _check(inside, outside)
    return float((outside.double() < choose_threshold(inside, kept)).double().mean())


def _check(*scores: Tensor) -> None:
    for each in scores:
        if each.dim() != 1 or not len(each) or not bool(each.isfinite().all()):
            raise ValueError(f"scores of shape {tuple(each.shape)}; give finite numbers [example], at least one")
