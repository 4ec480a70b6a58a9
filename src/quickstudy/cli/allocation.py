"""How the C library keeps memory between one tensor and the next."""

from __future__ import annotations

import ctypes
import os

KEPT = 256 * 2**20
"""Freed blocks up to so many bytes are kept for the next tensors."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""The options of mallopt(3), as malloc.h numbers them."""


def keep_freed_memory() -> bool:
    """Lets glibc keep freed blocks, in one heap for all threads, for the rest of the process.

    By default it hands large blocks back to the system as soon as they are free, and the next tensor of that size has
    all its pages mapped and cleared anew: a fifth of the time of meta-training four convolutions. What the environment
    says of the allocator (MALLOC_*, GLIBC_TUNABLES, LD_PRELOAD) stays as it is.

    Returns:
        Whether it does; False as well where the C library is another.
    """
    if any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ):
        return False
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    options = {_MMAP_THRESHOLD: KEPT, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1}
    return all(set_option(option, value) for option, value in options.items())
