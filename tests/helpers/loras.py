"""Several LoRA adapters of one network."""

import torch


def drawn_loras(delta, body, count):
    """As many adapters that all differ, and the same stacked: tensors [adapter, ...]."""
    start = delta.init(body.module(), {}, torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1)
    adapters = [
        {name: tensor + 0.2 * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
        for _ in range(count)
    ]
    return adapters, {name: torch.stack([adapter[name] for adapter in adapters]) for name in start}
