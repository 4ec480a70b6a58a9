"""Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685): y = xW + b + s (x A^T) B^T, of one adapter or of many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.core.frozen_linear import FrozenLinear
from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta


@dataclass(frozen=True)
class LoRA(Delta):
    """A product of two small matrices beside each matched linear layer.

    Attributes:
        rank: rows of A and columns of B.
        alpha: the product is scaled by alpha / rank.
        targets: ends of the dotted names of the linear layers, whole components: `"query"` matches
            `layer.0.attention.self.query`.
        layers: numbers of the layers that take part, the last number in a dotted name; None for all.
        rslora: scale by alpha / sqrt(rank) instead (Kalajdzievski, 2023, arXiv:2312.03732).
    """

    rank: int = 8
    alpha: float = 16
    targets: tuple[str, ...] = ("query", "value")
    layers: tuple[int, ...] | None = None
    rslora: bool = False

    @property
    def scale(self) -> float:
        """The factor s of the low-rank product."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def attach(self, module: nn.Module) -> nn.Module:
        """`module` with a `LoraLinear` in the place of each matched linear layer; weights are shared, names kept.

        Raises:
            ValueError: the rank is below 1, or no linear layer matches; the message lists those there are.
        """
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; expected 1 or more")
        replace_linears(module, self.targets, self.layers, lambda part: LoraLinear(part, self.rank, self.scale))
        return module

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:  # noqa: ARG002 - contract
        """`<layer>.lora_A` [rank, input], uniform in +-1/sqrt(input), and `<layer>.lora_B` [output, rank], zero.

        With B zero, the gradient of A is zero at the first step; B moves first.
        """
        params = {}
        for name, part in module.named_modules():
            if isinstance(part, LoraLinear):
                rank, inputs = part.lora_A.shape
                drawn = torch.rand(rank, inputs, generator=generator)
                params[f"{name}.lora_A"] = (2 * drawn - 1) / math.sqrt(inputs)
                params[f"{name}.lora_B"] = torch.zeros(part.lora_B.shape)
        return params


class Beside(nn.Module):
    """A linear layer with a place for what comes beside it. A plain one's weights keep their names.

    Attributes:
        base: the layer, where it is another than a plain one, such as one of few bits; else None.
    """

    def __init__(self, linear: nn.Linear | FrozenLinear) -> None:
        super().__init__()
        plain = type(linear) is nn.Linear
        self.base = None if plain else linear
        self.weight = linear.weight if plain else None
        self.bias = linear.bias if plain else None

    def of_base(self, x: Tensor) -> Tensor:
        """[example, ..., output]: what the layer alone makes of `x` [example, ..., input]."""
        if self.weight is not None:
            return F.linear(x, self.weight, self.bias)
        assert self.base is not None
        found: Tensor = self.base(x)
        return found


def replace_linears(
    module: nn.Module,
    targets: tuple[str, ...],
    layers: tuple[int, ...] | None,
    make: Callable[[nn.Linear | FrozenLinear], Beside],
) -> None:
    """Puts what `make` makes of each matched linear layer of `module` in its place.

    Args:
        module: changed in place.
        targets: ends of names, as those of `LoRA`.
        layers: numbers, as those of `LoRA`.
        make: what comes in the place of a layer.

    Raises:
        ValueError: no linear layer matches; the message lists those there are.
    """
    linears = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear | FrozenLinear)}
    matched = {name: part for name, part in linears.items() if _matches(name, targets, layers)}
    if not matched:
        raise ValueError(
            f"targets {targets} with layers {layers} match no linear layer; there are: {', '.join(linears) or 'none'}"
        )
    for name, part in matched.items():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, make(part))


def _matches(name: str, targets: tuple[str, ...], layers: tuple[int, ...] | None) -> bool:
    if not any(name == target or name.endswith(f".{target}") for target in targets):
        return False
    numbers = [int(component) for component in name.split(".") if component.isdigit()]
    return layers is None or (bool(numbers) and numbers[-1] in layers)


class LoraLinear(Beside):
    """A linear layer with a low-rank product beside it.

    `lora_A` and `lora_B` may be stood in for by tensors with one more axis in front, [example, rank, input] and
    [example, output, rank]: then each row of the batch has its own adapter, while the product with the base weight
    stays one product for all.
    """

    def __init__(self, linear: nn.Linear | FrozenLinear, rank: int, scale: float) -> None:
        super().__init__(linear)
        self.scale = scale
        self.lora_A = place_for(linear, rank, linear.in_features)
        self.lora_B = place_for(linear, linear.out_features, rank)

    def forward(self, x: Tensor) -> Tensor:
        """[example, ..., output] from `x` [example, ..., input].

        Raises:
            ValueError: there are adapters for another number of rows than `x` has.
        """
        base = self.of_base(x)
        return base + low_rank(x, self.scale * self.lora_A, self.lora_B).to(base.dtype)


def place_for(linear: nn.Linear | FrozenLinear, *shape: int) -> nn.Parameter:
    """Zeros of this shape: of the type and on the device of a plain layer's weights, else in float32 on the CPU."""
    return nn.Parameter(torch.zeros(shape) if linear.weight is None else linear.weight.new_zeros(shape))


def low_rank(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """[example, ..., output]: x down^T up^T, in the precision of `x`.

    Args:
        x: [example, ..., input].
        down: [rank, input], or [example, rank, input] where each row has its own.
        up: [output, rank], or [example, output, rank].

    Raises:
        ValueError: there are matrices for another number of rows than `x` has.
    """
    # With the second matrix as [rank, output] in memory, gradients take products that are fast on a CPU.
    down, up = down.to(x.dtype), up.to(x.dtype).transpose(-1, -2).contiguous()
    if down.dim() == 2:
        return F.linear(x, down) @ up
    if len(down) != len(x):
        raise ValueError(f"adapters for {len(down)} rows were given, but the batch has {len(x)}")
    rows = x.reshape(len(x), -1, x.shape[-1])
    low = torch.bmm(torch.bmm(rows, down.transpose(1, 2)), up)
    return low.reshape(*x.shape[:-1], -1)


def downs_of(params: Params) -> Params:
    """The matrices A, by their names."""
    return {name: tensor for name, tensor in params.items() if name.endswith(".lora_A")}


def up_of(name: str) -> str:
    """The name of the matrix B that belongs to the matrix A of this name."""
    return name.removesuffix("A") + "B"


def pruned(lora: LoRA, params: Params, share: float = 0.01) -> tuple[LoRA, Params]:
    """The delta and its matrices without ranks that hardly count, of one smaller rank and of the same scale.

    The strength of a rank of a layer is |A_r| |B_r|, the norm of its product. Layers that keep fewer ranks than others
    are filled up with zeros, so that files have one rank, which all engines read.

    Args:
        lora: as the matrices were made.
        params: `<layer>.lora_A` and `<layer>.lora_B`.
        share: ranks weaker than this part of the strongest rank of all layers go.

    Raises:
        ValueError: `share` is not between 0 and 1, or there are no matrices.
    """
    downs = downs_of(params)
    if not 0 <= share < 1 or not downs:
        raise ValueError(f"share is {share} and there are {len(downs)} layers; give 0 to below 1, and at least one")
    ups = {name: params[up_of(name)] for name in downs}
    strengths = {name: down.norm(dim=1) * ups[name].norm(dim=0) for name, down in downs.items()}
    least = share * max(float(strength.max()) for strength in strengths.values())
    rank = max(1, *(int((strength > least).sum()) for strength in strengths.values()))
    found = {}
    for name, strength in strengths.items():
        kept = strength.argsort(descending=True)[:rank].sort().values
        real = strength[kept] > least
        found[name] = downs[name][kept]
        found[up_of(name)] = ups[name][:, kept] * real
    return replace(lora, rank=rank, alpha=lora.scale * (math.sqrt(rank) if lora.rslora else rank)), found


def gather_adapters(stacked: Params, index: Tensor) -> Params:
    """For each row of a batch its own adapter: tensors [example, ...].

    Args:
        stacked: tensors [adapter, ...], the adapters of one shape one above the other.
        index: int64 [example], the adapter of each row.
    """
    return {name: tensor.index_select(0, index) for name, tensor in stacked.items()}
