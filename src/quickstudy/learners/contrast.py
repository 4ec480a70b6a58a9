"""Supervised contrastive loss. Khosla et al., 2020, arXiv 2004.11362."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.learners.losses import weighted_mean

_HIDDEN = -1e9


def supervised_contrast(features: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """How much more alike examples of other classes are than those of the same one: a scalar.

    For each example i with another one of its class: the mean over these j of -log of j's share in the softmax of
    f(x_i) f(x_k) / t over all k but i; then the mean over i by weight. 0 where no class has two examples. Rows of
    weight 0 take no part; other weights count for i and for k.

    Args:
        features: [example, feature], of length 1.
        targets: int64 [example].
        weights: [example], 0 or above.
        temperature: t.
    """
    count = len(targets)
    self_pairs = torch.eye(count, dtype=torch.bool, device=features.device)
    real = weights > 0
    logits = features @ features.T / temperature + torch.where(real, weights, 1.0).log()
    logits = torch.where(self_pairs | ~real, _HIDDEN, logits)
    shares = logits - logits.logsumexp(-1, keepdim=True)
    pairs = (targets[:, None] == targets) & ~self_pairs & real
    partners = (pairs * weights).sum(-1)
    losses = -torch.where(pairs, shares * weights, 0.0).sum(-1) / torch.where(partners > 0, partners, 1.0)
    return weighted_mean(losses, weights * (partners > 0))
