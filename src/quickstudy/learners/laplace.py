"""Posteriors of a linear head under a normal prior, in the space of the examples, which are fewer than the features.

K [example, example] is the prior covariance of the outputs at the support; weights w multiply an example's likelihood.
Rasmussen and Williams, 2006, sections 2.2 and 3.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quickstudy.core.types import Params
from quickstudy.learners.heads import hide_absent

NEWTON = 12
"""Steps of Newton's method to the mode. It doubles the digits with each of the last ones."""


def regress(covariance: Tensor, residuals: Tensor, weights: Tensor, noise: Tensor) -> Params:
    """`alpha` [example, output] and `half` [example, example], from which `regressed` answers.

    Args:
        covariance: K.
        residuals: [example, output], targets less their prior means.
        weights: [example].
        noise: variance of a target about the function, a scalar.
    """
    precision = _root_of(weights / noise)[:, None]
    root = _root(_plus_identity(precision * covariance * precision.mT))
    alpha = precision * torch.cholesky_solve(precision * residuals, root)
    return {"alpha": alpha, "half": _triangle_solve(root, torch.diag(precision[:, 0]))}


def regressed(cross: Tensor, own: Tensor, tensors: Params) -> tuple[Tensor, Tensor]:
    """Mean [query, output] and variance [query, 1] of the function, from K [query, example] and K [query]."""
    explained = (cross @ tensors["half"].mT).square().sum(-1)
    return cross @ tensors["alpha"], (own - explained).clamp_min(0)[:, None]


def classify(covariance: Tensor, classes: Tensor, weights: Tensor) -> Params:
    """`alpha` [example, class], `each` and `shared` [class, example, example], and `counts` [class].

    Laplace's approximation: the mode of the outputs by Newton's method (algorithm 3.3), each class a function of its
    own with covariance K. The gradient is that of the mode itself, by its last step. A class without examples has no
    part.

    Args:
        covariance: K.
        classes: [example, class], 1 at the class, else 0.
        weights: [example].
    """
    counts = (classes * weights[:, None]).sum(0)
    outputs = torch.zeros_like(classes)
    with torch.no_grad():
        for _ in range(NEWTON):
            outputs = covariance @ _step(covariance, outputs, classes, weights)[0]
    alpha = _step(covariance, outputs, classes, weights)[0]
    _, each, together = _step(covariance, covariance @ alpha, classes, weights)
    return {"alpha": alpha, "each": each, "shared": _triangle_solve(_root(together), each), "counts": counts}


def classified(cross: Tensor, own: Tensor, tensors: Params) -> Tensor:
    """Logits [query, class] whose softmax is about the mean of the softmax over the posterior.

    p(c) is proportional to 1 / sum_j exp(-(m_c - m_j) / sqrt(1 + pi/8 var(f_c - f_j))), m being means, which for two
    classes is MacKay's approximation (Lu, Ie, Sha, 2020, arXiv 2006.07584). From K [query, example] and K [query].
    """
    mean, covariance = cross @ tensors["alpha"], class_covariance(cross, own, tensors)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    apart = (variance[:, :, None] + variance[:, None] - 2 * covariance).clamp_min(0)
    lead = (mean[:, :, None] - mean[:, None]) / (1 + math.pi / 8 * apart).sqrt()
    return hide_absent(-hide_absent(-lead, tensors["counts"]).logsumexp(-1), tensors["counts"])


def class_covariance(cross: Tensor, own: Tensor, tensors: Params) -> Tensor:
    """[query, class, class]: the posterior covariance of the outputs of one query, from what `classify` gave."""
    found = torch.einsum("qi,cij->qcj", cross, tensors["each"])
    half = torch.einsum("qi,cji->qcj", cross, tensors["shared"])
    return torch.diag_embed(own[:, None] - (found * cross[:, None]).sum(-1)) + half @ half.mT


def _step(covariance: Tensor, outputs: Tensor, classes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One Newton step: `alpha` of the next outputs K alpha; the precisions of the classes; and what binds them."""
    shares = hide_absent(outputs, (classes * weights[:, None]).sum(0)).softmax(-1)
    scaled = (_root_of(weights)[:, None] * shares.clamp_min(1e-20).sqrt()).mT[:, :, None]
    inner = _root(_plus_identity(scaled * covariance * scaled.mT))
    half = _triangle_solve(inner, torch.diag_embed(scaled[..., 0]))
    each = half.mT @ half
    # A row of weight 0 would make the sum singular, and multiplies nothing but zeros.
    together = each.sum(0) + torch.diag((weights == 0).to(covariance))
    curvature = weights[:, None] * shares * (outputs - (shares * outputs).sum(-1, keepdim=True))
    target = curvature + weights[:, None] * (classes - shares)
    pushed = torch.einsum("cij,jc->ic", each, covariance @ target)
    common = torch.cholesky_solve(pushed.sum(-1, keepdim=True), _root(together))
    alpha = target - pushed + torch.einsum("cij,jk->ic", each, common)
    return alpha, each, together


def _root_of(weights: Tensor) -> Tensor:
    """The square root, with a slope of 0 where it is 0, in place of an infinite one."""
    real = weights > 0
    return torch.where(real, torch.where(real, weights, 1.0).sqrt(), 0.0)


def _plus_identity(matrix: Tensor) -> Tensor:
    return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def _root(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor. Of a matrix that is none, NaN, which the loss then tells."""
    root: Tensor = torch.linalg.cholesky_ex(matrix).L
    return root


def _triangle_solve(root: Tensor, right: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solved
