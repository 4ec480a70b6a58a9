"""The contract of a learner: how one learns from few examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction


class Learner(ABC):
    """Four pure functions. A learner is a frozen dataclass whose fields are its hyperparameters.

    Each function is written for one episode and must work under `torch.vmap`: no value of a tensor may decide the flow,
    and rows of weight 0 must not change the result. Fitting, saving, evaluating and vectorising are shared functions,
    never methods.
    """

    name: ClassVar[str]
    """The row of `learners.names` that finds this class again."""

    transductive: ClassVar[bool] = False
    """True where a query's answer may depend on the other queries."""

    order_matters: ClassVar[bool] = False
    """True where the order of the support's rows may change the answers."""

    class_symmetric: ClassVar[bool] = False
    """True where renumbering the classes renumbers the answers and changes nothing else."""

    weights_repeat: ClassVar[bool] = True
    """False where a row of weight 2 may count otherwise than the row twice."""

    packs: ClassVar[bool] = False
    """True where each example counts by itself, so that those of a language model may share rows."""

    @abstractmethod
    def init(self, generator: torch.Generator) -> Params:
        """Meta-parameters: dotted name -> tensor; may be empty."""

    @abstractmethod
    def loss(self, params: Params, episode: Episode) -> Tensor:
        """What meta-training lowers: a scalar, for one episode."""

    @abstractmethod
    def adapt(self, params: Params, support: Batch) -> Adapter:
        """What the support set leaves behind. Changes nothing."""

    @abstractmethod
    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """An answer for each of `inputs` [example, ...]."""
