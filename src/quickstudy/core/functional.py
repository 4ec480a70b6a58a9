"""A module called as a function of its parameters, with one skeleton per thread.

`functional_call` puts the parameters into the module while it runs, so two threads on one module would read each
other's parameters. Each thread therefore gets a skeleton of its own; the base weights in them are shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.func import functional_call

from quickstudy.core.second_order import refuse_inner_checkpointing
from quickstudy.core.types import Params


class Functional:
    """A pure function `(params, *inputs) -> Tensor` made from a module factory.

    Args:
        factory: returns a fresh skeleton; called once per thread. Names missing in `params` keep the skeleton's own
            tensors.
    """

    def __init__(self, factory: Callable[[], nn.Module]) -> None:
        self._factory = factory
        self._local = threading.local()

    def module(self) -> nn.Module:
        """The calling thread's skeleton.

        Raises:
            NoSecondOrder: the module checkpoints its own activations.
        """
        skeleton: nn.Module | None = getattr(self._local, "module", None)
        if skeleton is None:
            # The first call may come from within torch.func or inference mode; the skeleton outlives both.
            with temporarily_clear_interpreter_stack(), torch.inference_mode(False):
                skeleton = refuse_inner_checkpointing(self._factory()).requires_grad_(False)
            self._local.module = skeleton
        return skeleton

    def __call__(self, params: Params, *inputs: Any) -> Tensor:
        """What the module returns for `inputs` when `params` stand in for its own tensors of those names."""
        output: Tensor = functional_call(self.module(), params, inputs)
        return output
