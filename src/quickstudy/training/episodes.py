"""Episodes by number: episode `i` of a run is the same however many threads draw it, and in whatever order."""

from __future__ import annotations

import hashlib
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Protocol, TypeVar

import torch

from quickstudy.core.types import Episode

T = TypeVar("T")


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
def drawn(
    source: Source, seed: int, indices: range, workers: int, processes: bool = False
) -> Iterator[Iterator[Episode]]:
    """An iterator over the episodes `indices` of the stream "episode", drawn ahead by `workers` threads or processes.

    At most twice `workers` wait. What `sample` raises is raised where its episode is asked for. Processes need a source
    that can be pickled.
    """
    if not workers:
        yield (draw(source, seed, "episode", index) for index in indices)
        return
    with ExitStack() as stack:
        if processes:
            # A process that was forked could not use CUDA, nor locks that threads held.
            others = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(source,))
            stack.callback(others.shutdown, cancel_futures=True)
            found = _ahead(lambda index: others.submit(_drawn_there, seed, index), indices, 2 * workers)
            yield (pickle.loads(each) for each in found)
        else:
            pool = ThreadPoolExecutor(workers, thread_name_prefix="episodes")
            stack.callback(pool.shutdown, cancel_futures=True)
            yield _ahead(lambda index: pool.submit(draw, source, seed, "episode", index), indices, 2 * workers)


def _ahead(submit: Callable[[int], Future[T]], indices: range, depth: int) -> Iterator[T]:
    waiting: deque[Future[T]] = deque()
    for index in indices:
        waiting.append(submit(index))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_there: list[Source] = []
"""The source, in a process that draws."""


def _begin(source: Source) -> None:
    # Ctrl-C reaches all processes of the terminal; the one that trains decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _there[:] = [source]


def _drawn_there(seed: int, index: int) -> bytes:
    """The episode as bytes: torch would share the memory of each tensor by a file of its own."""
    return pickle.dumps(draw(_there[0], seed, "episode", index))
