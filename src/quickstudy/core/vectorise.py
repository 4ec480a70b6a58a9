"""Many episodes at once: a function of one episode, run over a stack of them by `torch.vmap`, in chunks or in a loop.

The three ways give the same results; which is fastest depends on the function and the machine (a convolution under
`vmap` becomes a grouped one, which is slow on a CPU; a small network gains twentyfold), so "auto" measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from quickstudy.core.errors import NotAvailable
from quickstudy.core.stacking import Tasks, as_stack, count_tasks, one_task, some_tasks, stacked_shapes
from quickstudy.core.types import Episode, Info, Params

Mode: TypeAlias = Literal["auto", "vmap", "chunks", "loop", "threads"]
"""All tasks by one `vmap`, `chunk` tasks at a time by `vmap`, one after the other, or the fastest of these ("auto").

"threads" is for a CPU: the tasks are shared out to as many threads as torch computes with, each with one thread of
torch and `chunk` of its tasks at a time by `vmap`, or with a chunk of 1 one after the other without it, which suits
convolutions. "auto" never takes it: the function must draw nothing at random and share no module between threads (a
`Network` does not; see `core.functional`).
"""

_UNSUPPORTED = ("vmap", "functorch", "Batching rule", "data-dependent", "torch.func", "Cannot access data pointer")

T = TypeVar("T")


class Choices:
    """Remembers which mode was the fastest for which shapes, for one function.

    Args:
        known: what `chosen` returned earlier; these shapes are not measured again. A resumed run that is to repeat an
            uninterrupted one to the bit needs it, for the modes differ in the last digits.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._chosen = dict(known or {})
        self._seconds: dict[str, float] = {}
        self._notes: list[str] = []

    def chosen(self) -> dict[str, str]:
        """Shapes, as a string -> mode."""
        return dict(self._chosen)

    def info(self) -> Info:
        """`seconds.<mode>` of the latest measurement, and a note for each measurement and each mode that fell out."""
        return Info({f"seconds.{mode}": value for mode, value in self._seconds.items()}, tuple(self._notes))

    def run(
        self, shapes: str, routes: Mapping[str, Callable[[], T]], tried: Sequence[str], warm_up: Callable[[], object]
    ) -> T:
        """The result of the fastest of `routes`; those in `tried` are run and timed when `shapes` are new.

        A route that does not work under `vmap`, or runs out of memory, is left out; "loop" must work. torch's global
        generator is left as if the fastest alone had run.
        """
        if self._chosen.get(shapes) in routes:
            return routes[self._chosen[shapes]]()
        results: dict[str, tuple[T, Any]] = {}
        seconds: dict[str, float] = {}
        draws = _random_state()
        warm_up()
        for mode in tried:
            _restore(draws)
            began = _now()
            try:
                results[mode] = routes[mode](), _random_state()
                seconds[mode] = _now() - began
            except (RuntimeError, NotImplementedError, NotAvailable) as error:
                if mode == "loop" or not _unsupported(error):
                    raise
                self._notes.append(f"{mode} does not work here: {str(error).strip().splitlines()[0]}")
        best = min(seconds, key=lambda mode: seconds[mode])
        self._chosen[shapes] = best
        self._seconds = seconds
        figures = ", ".join(f"{mode} {value:.4f} s" for mode, value in seconds.items())
        self._notes.append(f"{best} was chosen for {shapes}: {figures}")
        result, after = results[best]
        _restore(after)
        return result


class OverTasks:
    """A function of a stack of episodes; made by `over_tasks`."""

    def __init__(self, function: Callable[[Params, Episode], Any], mode: Mode, chunk: int, choices: Choices) -> None:
        self._function = function
        self._mode = mode
        self._chunk = chunk
        self._choices = choices

    def info(self) -> Info:
        """Which mode was chosen, and the seconds."""
        return self._choices.info()

    def __call__(self, params: Params, episodes: Tasks) -> Any:
        """The function's tensors, with the task on axis 0 of each.

        Raises:
            ValueError: `episodes` is neither a stack nor a list.
        """
        tasks = count_tasks(episodes)
        routes: dict[str, Callable[[], Any]] = {
            "vmap": lambda: _by_vmap(self._function, params, as_stack(episodes), None),
            "chunks": lambda: _by_vmap(self._function, params, as_stack(episodes), self._chunk),
            "loop": lambda: _by_loop(self._function, params, episodes),
            "threads": lambda: _by_threads(self._function, params, episodes, self._chunk),
        }
        if self._mode != "auto":
            return routes[self._mode]()
        first = one_task(episodes, 0)
        return self._choices.run(
            _shapes(params, episodes), routes, _worthwhile(tasks, self._chunk), lambda: self._function(params, first)
        )


def over_tasks(
    function: Callable[[Params, Episode], Any], mode: Mode = "auto", chunk: int = 8, choices: Choices | None = None
) -> OverTasks:
    """`function(params, episode)`, which returns a tree of tensors, as a function of `params` and `Tasks`.

    Keep the result: it remembers what "auto" measured. Under `vmap` random operators such as dropout draw differently
    for each task.

    Raises:
        ValueError: an unknown mode or a chunk below 1.
    """
    _check(mode, chunk)
    return OverTasks(function, mode, chunk, choices or Choices())


def mean_loss_and_gradients(
    loss: Callable[[Params, Episode], Tensor],
    params: Params,
    episodes: Tasks,
    mode: Mode = "auto",
    chunk: int = 8,
    choices: Choices | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Params]:
    """Losses [task], without a graph, and the gradient of their mean, weighted by `weights` [task].

    "loop" and "chunks" hold the graph of one task or one chunk at a time. Whatever `loss` reads besides `params` gets
    no gradient; nothing is left in `.grad`. Hand the same `choices` to each call, else "auto" measures every time.
    Tensors of `params` that are not floating-point get no gradient and no entry.

    Raises:
        ValueError: an unknown mode, a chunk below 1, or weights that are not [task] or sum to 0.
    """
    _check(mode, chunk)
    tasks = count_tasks(episodes)
    shares = _shares(weights, tasks)
    routes: dict[str, Callable[[], tuple[Tensor, Params]]] = {
        "vmap": lambda: _accumulate(loss, params, episodes, shares, tasks),
        "chunks": lambda: _accumulate(loss, params, episodes, shares, chunk),
        "loop": lambda: _accumulate(loss, params, episodes, shares, 0),
        "threads": lambda: _accumulate_by_threads(loss, params, episodes, shares, chunk),
    }
    if mode != "auto":
        return routes[mode]()
    first = some_tasks(episodes, slice(0, 1))
    return (choices or Choices()).run(
        _shapes(params, episodes),
        routes,
        _worthwhile(tasks, chunk),
        lambda: _accumulate(loss, params, first, shares[:1], 0),
    )


def _check(mode: Mode, chunk: int) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; give one of {', '.join(get_args(Mode))}")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; give 1 or more")


def _shares(weights: Tensor | None, tasks: int) -> Tensor:
    if weights is None:
        return torch.full((tasks,), 1 / max(tasks, 1))
    if weights.shape != (tasks,) or not weights.sum() > 0:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)} and sum {float(weights.sum())}; expected [{tasks}], above 0"
        )
    return weights / weights.sum()


def _by_vmap(function: Callable[[Params, Episode], Any], params: Params, episodes: Episode, chunk: int | None) -> Any:
    return torch.vmap(function, in_dims=(None, 0), randomness="different", chunk_size=chunk)(params, episodes)


def _by_loop(function: Callable[[Params, Episode], Any], params: Params, episodes: Tasks) -> Any:
    results = [function(params, one_task(episodes, number)) for number in range(count_tasks(episodes))]
    return tree_map(lambda *leaves: torch.stack(leaves), *results)


def _by_threads(function: Callable[[Params, Episode], Any], params: Params, episodes: Tasks, chunk: int) -> Any:
    def run(where: slice) -> Any:
        some = some_tasks(episodes, where)
        return _by_loop(function, params, some) if chunk == 1 else _by_vmap(function, params, as_stack(some), chunk)

    parts = _over_threads(run, count_tasks(episodes))
    return tree_map(lambda *leaves: torch.cat(leaves), *parts)


def _accumulate_by_threads(
    loss: Callable[[Params, Episode], Tensor], params: Params, episodes: Tasks, shares: Tensor, chunk: int
) -> tuple[Tensor, Params]:
    """As `mean_loss_and_gradients`."""

    def run(where: slice) -> tuple[Tensor, Params]:
        return _accumulate(loss, params, some_tasks(episodes, where), shares[where], 0 if chunk == 1 else chunk)

    parts = _over_threads(run, len(shares))
    total = {name: torch.stack([gradients[name] for _, gradients in parts]).sum(0) for name in parts[0][1]}
    return torch.cat([losses for losses, _ in parts]), total


def _over_threads(run: Callable[[slice], T], tasks: int) -> list[T]:
    """`run` of as many equal parts of the tasks as torch has threads, each in a thread where torch has one."""
    threads = max(1, min(torch.get_num_threads(), tasks))
    parts = [slice(tasks * number // threads, tasks * (number + 1) // threads) for number in range(threads)]
    if threads == 1:
        return [run(parts[0])]
    grad = torch.is_grad_enabled()

    def alone(where: slice) -> T:
        torch.set_num_threads(1)
        with torch.set_grad_enabled(grad):
            return run(where)

    before = torch.get_num_threads()
    try:
        return list(_pool(threads).map(alone, parts))
    finally:
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay, for each builds its own skeleton of a network once."""
    return ThreadPoolExecutor(threads, thread_name_prefix="tasks")


def _accumulate(
    loss: Callable[[Params, Episode], Tensor], params: Params, episodes: Tasks, shares: Tensor, chunk: int
) -> tuple[Tensor, Params]:
    """As `mean_loss_and_gradients`, `chunk` tasks at a time by `vmap`, or one without it where `chunk` is 0."""
    run = torch.vmap(loss, in_dims=(None, 0), randomness="different") if chunk else loss
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items() if tensor.is_floating_point()}
    everything = {**params, **leaves}
    total: Params = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in leaves.items()}
    losses = []
    for number in range(0, len(shares), chunk or 1):
        where = slice(number, number + chunk) if chunk else number
        part = as_stack(some_tasks(episodes, where)) if isinstance(where, slice) else one_task(episodes, where)
        with torch.enable_grad():
            found = run(everything, part)
            mean = (found * shares[where].to(found)).sum()
        losses.append(found.detach().reshape(-1))
        if mean.requires_grad:
            grads = torch.autograd.grad(mean, list(leaves.values()), materialize_grads=True)
            for name, grad in zip(leaves, grads, strict=True):
                total[name] += grad
    return torch.cat(losses), total


def _worthwhile(tasks: int, chunk: int) -> list[Mode]:
    """The modes that differ for this number of tasks; "loop" comes last, for it always works."""
    if tasks == 1:
        return ["loop"]
    return ["vmap", "loop"] if tasks <= chunk else ["vmap", "chunks", "loop"]


def _shapes(params: Params, episodes: Tasks) -> str:
    """What the choice depends on; sizes are rounded up to powers of two, for each new text has another length."""
    sizes = ["x".join(str(_power(size)) for size in shape) for shape in stacked_shapes(episodes)]
    device = tree_leaves(one_task(episodes, 0))[0].device
    entries = sum(tensor.numel() for tensor in params.values())
    grad = "with" if torch.is_grad_enabled() else "without"
    return f"{', '.join(sizes)} on {device.type}, {_power(entries)} parameters, {grad} gradients"


def _power(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def _unsupported(error: Exception) -> bool:
    if isinstance(error, NotAvailable | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _UNSUPPORTED)


def _on_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call] # torch leaves it untyped


def _now() -> float:
    if _on_cuda():
        torch.cuda.synchronize()
    return time.perf_counter()


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if _on_cuda() else []


def _restore(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
