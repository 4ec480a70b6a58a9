"""Episodes by number: episode `i` of a run is the same however many threads draw it, and in whatever order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import torch

from quickstudy.core.types import Episode


class Source(Protocol):
    """What draws tasks: a `TaskSource`, or anything else with its `sample`. Called from several threads at once."""

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode."""
        ...


def seed_for(seed: int, stream: str, index: int) -> int:
    """A number below 2**63 that no other stream or index of the same seed shares, as far as a hash can promise."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(seed: int, stream: str, index: int = 0) -> torch.Generator:
    """The CPU generator of one draw. It depends on nothing that was drawn before."""
    return torch.Generator().manual_seed(seed_for(seed, stream, index))


def draw(source: Source, seed: int, stream: str, index: int) -> Episode:
    """Episode `index` of `stream`."""
    return source.sample(generator_for(seed, stream, index))


@contextmanager
def drawn(source: Source, seed: int, indices: range, workers: int) -> Iterator[Iterator[Episode]]:
    """An iterator over the episodes `indices` of the stream "episode", drawn ahead by `workers` threads.

    At most twice `workers` wait. What `sample` raises is raised where its episode is asked for.
    """
    if not workers:
        yield (draw(source, seed, "episode", index) for index in indices)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="episodes")
    try:
        yield _ahead(pool, source, seed, indices, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, source: Source, seed: int, indices: range, depth: int) -> Iterator[Episode]:
    waiting: deque[Future[Episode]] = deque()
    for index in indices:
        waiting.append(pool.submit(draw, source, seed, "episode", index))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
