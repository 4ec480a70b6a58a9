"""Backbone + delta + head: the network that a learner adapts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.backbones.base import Backbone
from quickstudy.core.functional import Functional
from quickstudy.core.inner import InnerLoop
from quickstudy.core.types import Inputs, Params
from quickstudy.deltas.base import Delta, Steering


@dataclass(frozen=True)
class Network:
    """A backbone with a delta on it and, where `outputs` is not 0, a linear head.

    Parameter names are `body.<name in the attached module>`, `head.weight` [output, feature] and `head.bias` [output].

    Attributes:
        backbone: what computes features.
        delta: which of its tensors move.
        outputs: number of outputs of the head (the largest number of ways, or the regression outputs); 0 for no head.
        device: where the base and the meta-parameters lie. Draws are made on the CPU, so a seed means the same
            anywhere.
    """

    backbone: Backbone
    delta: Delta
    outputs: int = 0
    device: str = "cpu"

    @cached_property
    def _body(self) -> Functional:
        return Functional(self._attached)

    def _attached(self) -> nn.Module:
        return self.delta.attach(self.backbone.module()).to(self.device)

    def init(self, generator: torch.Generator) -> Params:
        """Starting values of everything that moves; head weights are drawn uniformly in +-1/sqrt(width)."""
        movable = self.delta.init(self._body.module(), self.backbone.start(generator), generator)
        params = {f"body.{name}": tensor for name, tensor in movable.items()}
        if self.outputs:
            bound = 1 / math.sqrt(self.backbone.width)
            weight = torch.rand(self.outputs, self.backbone.width, generator=generator)
            params["head.weight"] = (2 * weight - 1) * bound
            params["head.bias"] = torch.zeros(self.outputs)
        return {name: tensor.to(self.device) for name, tensor in params.items()}

    def steered(self, loop: InnerLoop) -> InnerLoop:
        """`loop` with the steps that the delta needs: itself for most, one that allots ranks for AdaLoRA."""
        return self.delta.steered(loop) if isinstance(self.delta, Steering) else loop

    def features(self, params: Params, inputs: Inputs, *more: Any) -> Tensor:
        """[example, width]; `more` goes to the backbone's module too."""
        prefix = "body."
        body = {name[len(prefix) :]: tensor for name, tensor in params.items() if name.startswith(prefix)}
        return self._body(body, inputs, *more)

    def __call__(self, params: Params, inputs: Inputs) -> Tensor:
        """[example, output]: the head on the features; the features themselves where there is no head."""
        features = self.features(params, inputs)
        if not self.outputs:
            return features
        return nn.functional.linear(features, params["head.weight"], params["head.bias"])
