"""The forward pass of a causal language model, safe under `torch.vmap`, for whole texts and token by token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quickstudy.backbones.causal_mask import masks_for, places, seen
from quickstudy.backbones.encoder_module import choose_attention


class CausalModule(nn.Module):
    """Logits of the tokens that come next.

    Attributes:
        model: the transformers model. Parameter names therefore begin with `model.`, as PEFT's do after `base_model.`.
    """

    def __init__(self, model: Any, attention: str) -> None:
        super().__init__()
        self.model = _with_linears(model)
        self.attention = attention
        self._asked: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._only_asked)

    def forward(self, inputs: dict[str, Tensor], cache: Any = None) -> Tensor:
        """[row, asked, vocabulary]: for each token asked about, the logits of the one after it.

        Args:
            inputs: `input_ids` int64 [row, token]; `segments` int64 [row, token], the number of the text that a token
                belongs to, from 1, `SHARED` for what all later texts see, and 0 for padding; `asked` int64
                [row, asked], places in the row, counted from 1, and 0 for padding.
            cache: transformers' cache of what came before, which gets the tokens of `inputs` too. `segments` then holds
                the earlier tokens as well: [row, earlier + token].
        """
        choose_attention(self.model, self.attention)
        ids, segments = inputs["input_ids"], inputs["segments"]
        sees = seen(segments)
        everywhere = places(sees)
        new = ids.shape[-1]
        asking = everywhere[:, -new:]
        masks = masks_for(self.model, sees[:, -new:], asking, everywhere)
        self._asked = (inputs["asked"] - 1).clamp(min=0)
        more = {} if cache is None else {"past_key_values": cache}
        try:
            found = self.model(
                input_ids=ids, attention_mask=masks, position_ids=asking, use_cache=cache is not None, **more
            )
        finally:
            self._asked = None
        logits: Tensor = found.logits
        return logits

    def _only_asked(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Before the output layer: keeps the activations that are asked about, so that no other logits are made."""
        assert self._asked is not None, "the output layer was called by another than this module"
        index = self._asked[:, :, None].expand(-1, -1, inputs[0].shape[-1])
        return (inputs[0].gather(1, index), *inputs[1:])


def _with_linears(model: Any) -> Any:
    """`model` with a linear layer, on the same memory, in the place of each of GPT-2's transposed ones."""
    from transformers.pytorch_utils import Conv1D

    for name, part in list(model.named_modules()):
        if isinstance(part, Conv1D):
            inputs, outputs = part.weight.shape
            linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
            linear.weight = nn.Parameter(part.weight.detach().T, requires_grad=False)
            linear.bias = part.bias
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, linear)
    return model
