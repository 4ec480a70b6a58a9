"""In-context learning of function classes. Garg, Tsipras, Liang, Valiant, 2022, arXiv 2208.01066.

A causal transformer reads x1, y1, ..., xk, yk, x and answers f(x); nothing is updated. It is trained on the mean over
all prefixes of the squared error (M(x1, y1, ..., x_i) - y_i)^2, so that one sequence trains every number of examples.

The paper gives x_i and y_i a token each, which position embeddings pair up. Here one token holds the pair, which saves
the layers that find the pairs, and x_i alone is a question that only its own answer sees. What the examples leave
behind is their keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, weighted_mean
from quickstudy.learners.transformer import HIDDEN, Kept, Transformer, normal


@dataclass(frozen=True)
class FunctionTransformer(Learner):
    """Reads the examples once, in their order, and answers each question by one more pass.

    Attributes:
        dimension: number of coordinates of an input.
        transformer: what reads.
        outputs: number of outputs of a function.
        device: where the meta-parameters lie; draws are made on the CPU.
    """

    name: ClassVar[str] = "function_transformer"
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    dimension: int = 8
    transformer: Transformer = field(default_factory=Transformer)
    outputs: int = 1
    device: str = "cpu"

    def init(self, generator: torch.Generator) -> Params:
        """Read-ins `pair` and `question` with biases, the transformer's parameters and `answer`, which is small."""
        width, size = self.transformer.width, self.dimension
        start = {
            "pair": normal(width, size + self.outputs, generator),
            "pair_bias": torch.randn(width, generator=generator),
            "question": normal(width, size, generator),
            "question_bias": torch.randn(width, generator=generator),
            "answer": 0.1 * normal(self.outputs, width, generator),
            "answer_bias": torch.zeros(self.outputs),
            **self.transformer.init(generator),
        }
        return {name: tensor.to(self.device) for name, tensor in start.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The mean squared error over all prefixes of the support followed by the query."""
        support, query = blank(episode.support), blank(episode.query)
        pairs = [torch.cat([one, other]) for one, other in zip(_parts(support), _parts(query), strict=True)]
        inputs, targets, weights = pairs
        errors = (self.along(params, inputs, targets, weights) - targets).square().mean(-1)
        return weighted_mean(errors, weights)

    def along(self, params: Params, inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """[example, output]: the answer to each of `inputs`, given the examples before it.

        Args:
            params: those of `init`.
            inputs: [example, coordinate].
            targets: [example, output].
            weights: [example]; nobody sees an example of weight 0.
        """
        count = len(inputs)
        order = torch.arange(count, device=inputs.device)
        earlier = order[:, None] > order
        rows = torch.cat([earlier | torch.eye(count, dtype=torch.bool, device=inputs.device), earlier])
        tokens, questions = self._pair_tokens(params, inputs, targets), self._question_tokens(params, inputs)
        read = self.transformer.answer(params, tokens, questions, _mask(rows, weights))
        return self._answers(params, read)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`keys` and `values` [layer, example, width], and `weights` [example].

        Raises:
            TaskError: the task is a classification, or its inputs or targets have another size.
        """
        inputs, targets, weights = _parts(blank(support))
        self._check(support, inputs, targets)
        order = torch.arange(len(inputs), device=inputs.device)
        tokens = self._pair_tokens(params, inputs, targets)
        mask = _mask(order[:, None] >= order, weights)
        *_, kept = self.transformer.read(params, tokens, tokens[:0], mask)
        return Adapter({"keys": kept.keys, "values": kept.values, "weights": weights}, self.name)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Means [example, output]."""
        assert isinstance(inputs, Tensor)
        tensors = adapter.tensors
        kept, weights = Kept(tensors["keys"], tensors["values"]), tensors["weights"]
        mask = _mask(torch.ones(len(inputs), len(weights), dtype=torch.bool, device=inputs.device), weights)
        read = self.transformer.ask(params, kept, self._question_tokens(params, inputs), mask)
        return Prediction(self._answers(params, read))

    def _pair_tokens(self, params: Params, inputs: Tensor, targets: Tensor) -> Tensor:
        return linear(torch.cat([inputs, targets], -1), params["pair"], params["pair_bias"])

    def _question_tokens(self, params: Params, inputs: Tensor) -> Tensor:
        return linear(inputs, params["question"], params["question_bias"])

    def _answers(self, params: Params, read: Tensor) -> Tensor:
        return linear(read, params["answer"], params["answer_bias"])

    def _check(self, support: Batch, inputs: Tensor, targets: Tensor) -> None:
        if support.ways:
            raise TaskError(
                "the function transformer answers with numbers and this task has classes; use text_transformer"
            )
        if inputs.shape[-1] != self.dimension or targets.shape[-1] != self.outputs:
            found = f"inputs of {inputs.shape[-1]} coordinates and {targets.shape[-1]} outputs"
            raise TaskError(f"{found}; this transformer reads {self.dimension} and gives {self.outputs}")


def _parts(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    assert isinstance(batch.inputs, Tensor)
    return batch.inputs.flatten(1), batch.targets, batch.weights


def _mask(sees: Tensor, weights: Tensor) -> Tensor:
    """[row, example]: 0 where the row sees the example, else `HIDDEN`."""
    return torch.where(sees & (weights > 0), 0.0, HIDDEN)
