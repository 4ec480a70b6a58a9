"""How much memory a computation takes, told by running it on tensors that hold nothing (the device "meta")."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Self

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class MemoryWatch(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's own
    """A context that follows what the tensors made within it take, saved activations and gradients included.

    It counts all that lives at a time. What kernels take within themselves, and what an allocator holds back, is not in
    it.

    Attributes:
        live: bytes of the tensors that live now.
        peak: the most that there were.
        operations: floating-point operations of all products so far; a multiplication with an addition counts 2.
        moved: bytes that all other operations have read and written.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.live = 0
        self.peak = 0
        self.operations = 0
        self.moved = 0
        self._known: set[int] = set()

    def hold(self, tensors: Iterable[Tensor]) -> Self:
        """Itself; counts `tensors`, which were there before, until they go."""
        for tensor in tensors:
            self._count(tensor)
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.hold(made)
        operations = flop_registry.get(func.overloadpacket)
        if operations is not None:
            self.operations += operations(*args, **kwargs, out_val=output)
        elif not func.is_view:
            read = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            self.moved += sum(map(_bytes, [*read, *made]))
        return output

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        # Python's object of a storage lives as long as the storage itself.
        weakref.finalize(storage, self._forget, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _bytes(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
