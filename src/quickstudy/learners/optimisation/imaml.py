"""iMAML: implicit MAML. Rajeswaran, Finn, Kakade, Levine, 2019, arXiv 1909.04630.

Inner problem, on the support S from the meta-parameters p: q = argmin L_S(q) + (strength / 2) |q - p|^2.
Meta-gradient, on the query Q: (I + H / strength)^-1 grad L_Q(q), with H the Hessian of L_S at q. It depends on the
solution alone, not on the way there, so memory does not grow with the inner steps. Conjugate gradient solves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.parameters import detach, from_vector, split, to_vector
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, task_outputs, weighted_loss
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class IMAML(Learner):
    """Learns the point that each task's solution is held close to.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner problem is solved; its order does not matter. Gradient descent diverges at rates above
            2 / (largest curvature of L_S + strength). Frozen parameters are still meta-trained.
        strength: of the pull towards the meta-parameters, lambda in the paper. Above the largest negative curvature of
            L_S, else the inner problem has no single solution.
        solver_steps: of the conjugate gradient.

    Raises:
        ValueError: `strength` is not above 0, `solver_steps` is below 1, or the delta steers.
    """

    name: ClassVar[str] = "imaml"

    network: Network
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(steps=16))
    strength: float = 2.0
    solver_steps: int = 5

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"strength is {self.strength}; give a number above 0")
        if self.solver_steps < 1:
            raise ValueError(f"solver_steps is {self.solver_steps}; give 1 or more")
        if self.network.steered(self.inner) is not self.inner:
            raise ValueError(f"{self.network.delta} ends where no gradient is 0, as iMAML needs; give MAML, or a LoRA")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query at the inner solution; its gradient is the implicit one.

        With R(q, p) = grad_q L_S + strength (q - p), which is 0 at the solution, and u = (H + strength)^-1 grad L_Q(q),
        the gradient of -u R(q, p) by p, with q and u held still, is the way through the solution.
        """
        support, query = blank(episode.support), blank(episode.query)
        frozen, start = split(params, self.inner.freeze)
        still = detach(frozen)
        solution = self._solved(detach(params), support)

        def support_gradient(moving: Params, others: Params) -> Params:
            found: Params = torch.func.grad(lambda current: self._task_loss({**others, **current}, support))(moving)
            return found

        with torch.no_grad():
            wanted = torch.func.grad(lambda current: self._task_loss({**still, **current}, query))(solution)
            transposed = torch.func.vjp(lambda current: support_gradient(current, still), solution)[1]

            def product(vector: Tensor) -> Tensor:
                return to_vector(transposed(from_vector(vector, solution))[0]) + self.strength * vector

            direction = conjugate_gradient(product, to_vector(wanted), self.solver_steps)
        implicit = self.strength * direction @ to_vector(start)
        if frozen:
            implicit = implicit - direction @ to_vector(support_gradient(solution, frozen))
        return self._task_loss({**frozen, **solution}, query) + implicit - implicit.detach()

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters that moved, by their names in `params`, without a graph."""
        moved = self._solved(detach(params), blank(support))
        return Adapter(moved, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs with the adapter's tensors in place of the meta-parameters."""
        adapted = {**params, **adapter.tensors}
        return Prediction(task_outputs(self.network, adapted, inputs, adapter.facts["ways"]))

    def _task_loss(self, params: Params, batch: Batch) -> Tensor:
        return weighted_loss(task_outputs(self.network, params, batch.inputs, batch.ways), batch)

    def _solved(self, params: Params, support: Batch) -> Params:
        _, start = split(params, self.inner.freeze)

        def proximal(current: Params) -> Tensor:
            way = to_vector({name: current[name] for name in start}) - to_vector(start)
            return self._task_loss(current, support) + self.strength / 2 * way.square().sum()

        with torch.no_grad():
            _, solution = split(adapt_parameters(proximal, params, self.inner), self.inner.freeze)
        return solution


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, steps: int) -> Tensor:
    """x [entry] with `product(x)` near `target`, by Hestenes and Stiefel, 1952; exact after as many steps as entries.

    Args:
        product: multiplies with a symmetric positive matrix; where it shows a curvature that is not above 0, the
            solution stays as it is.
        target: [entry].
        steps: how many products are taken.
    """
    solution, residual, direction = torch.zeros_like(target), target, target
    length = residual @ residual
    for _ in range(steps):
        image = product(direction)
        curvature = direction @ image
        bent = curvature > 0
        rate = torch.where(bent, length / torch.where(bent, curvature, 1.0), 0.0)
        solution, residual = solution + rate * direction, residual - rate * image
        shorter = residual @ residual
        direction = residual + torch.where(length > 0, shorter / torch.where(length > 0, length, 1.0), 0.0) * direction
        length = shorter
    return solution
