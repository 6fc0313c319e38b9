"""Lanes run by other processes: the lanes cut into pieces, each piece run by a worker, the ends put together.

What a worker is sent is picklable: some lanes, and how to run them. What it returns is where they ended; the parent
judges. A piece that fails is a sentence in the statuses of its lanes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np

from glmmjax._errors import ArgumentError, FitError
from glmmjax.batch.engine import LaneResults, interruptible, run_lanes
from glmmjax.batch.lanes import Lanes
from glmmjax.control import Control

PIECES_PER_WORKER = 3  # so that none waits long for the slowest
MOST_LANES = 1_000  # in a piece


@dataclass(frozen=True, eq=False)
class Piece:
    """Lanes for a worker.

    Attributes:
        lanes, control: what is run, and how.
        room: the number of lanes that slots are made for, the same in all pieces, so that one program serves them.
    """

    lanes: Lanes
    control: Control
    room: int


@dataclass(frozen=True)
class Failure:
    """Why a piece came to nothing."""

    reason: str


def run_piece(piece: Piece) -> tuple[LaneResults, float] | Failure:
    """Where the lanes of a piece ended, and the seconds spent compiling; what a worker calls."""
    try:
        everything = np.arange(piece.lanes.size)
        return run_lanes(piece.lanes, everything, piece.control, room=piece.room)
    except Exception as error:  # whatever it is, it must not stop the other pieces
        return _failure(error)


def run_elsewhere(
    lanes: Sequence[Lanes],
    chosen: Sequence[np.ndarray],
    control: Control,
    executor: Any,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[LaneResults], list[dict[int, str]], float]:
    """Run the chosen lanes of several batches by an executor.

    Returns for each batch where its lanes ended and why some were not run, and the longest time that a worker spent
    compiling one piece. Ctrl-C gives up the pieces that have not begun.

    Raises:
        ArgumentError: an executor whose workers cannot run compiled programs.
        FitError: every piece failed.
    """
    check_executor(executor)
    total = sum(map(len, chosen))
    cut = [(batch, part) for batch, some in enumerate(chosen) for part in pieces(some, total, workers(executor))]
    room = {batch: max(len(part) for owner, part in cut if owner == batch) for batch, _ in cut}
    results = [LaneResults.empty(one.size, one.starts.shape[1], one.n_effects) for one in lanes]
    problems: list[dict[int, str]] = [{} for _ in lanes]
    compile_time, done, failures = 0.0, 0, []
    given = [Piece(lanes[batch].take(part), control, room[batch]) for batch, part in cut]
    for (batch, part), ended in zip(cut, _ends(executor, given), strict=True):
        if isinstance(ended, Failure):
            failures.append(ended.reason)
            problems[batch] |= dict.fromkeys(part.tolist(), f"the worker failed with {ended.reason}")
        elif ended is not None:
            results[batch].put(part, ended[0])
            compile_time = max(compile_time, ended[1])
        done += len(part)
        if progress is not None:
            progress(done, total)
    if failures and len(failures) == len(cut):
        raise FitError(f"executor: every worker failed; the first with {failures[0]}")
    return results, problems, compile_time


def pieces(chosen: np.ndarray, total: int, n_workers: int) -> list[np.ndarray]:
    """The chosen lanes in pieces of about equal size, a few for each worker if they are all of the ``total``.

    >>> [len(piece) for piece in pieces(np.arange(10), 10, 1)]
    [4, 3, 3]
    """
    size = min(MOST_LANES, max(1, -(-total // (PIECES_PER_WORKER * n_workers))))
    return np.array_split(chosen, -(-len(chosen) // size)) if len(chosen) else []


def workers(executor: Any) -> int:
    """How many workers an executor has; as many as there are processors where it does not say."""
    found = getattr(executor, "_max_workers", None) or getattr(executor, "_processes", None)
    if found is None and callable(getattr(executor, "nthreads", None)):  # a Dask client: threads by worker
        found = len(executor.nthreads())
    return found if isinstance(found, int) and found > 0 else os.cpu_count() or 1


def check_executor(executor: Any) -> None:
    """Raise where the workers of an executor cannot run compiled programs.

    Raises:
        ArgumentError: forked processes, several threads, or no executor at all.
    """
    if not (hasattr(executor, "submit") or hasattr(executor, "map")):
        raise ArgumentError(f"executor must have submit() or map(), as in concurrent.futures, not be {executor!r}.")
    if isinstance(executor, (ThreadPoolExecutor, ThreadPool)) and workers(executor) > 1:
        raise ArgumentError(
            "executor: threads that run compiled programs at the same time wait for each other for ever. Use "
            "processes: ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))."
        )
    context = getattr(executor, "_mp_context", None) or getattr(executor, "_ctx", None)
    if context is not None and context.get_start_method() == "fork":
        raise ArgumentError(
            "executor: its processes are forked, which JAX does not survive. Give it another context, "
            "ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn')) or 'forkserver', or use "
            "joblib.externals.loky.get_reusable_executor()."
        )


def _ends(executor: Any, given: list[Piece]) -> Iterator[Any]:
    """What became of each piece in order; None for those that were given up."""
    if not hasattr(executor, "submit"):
        found = iter(executor.map(run_piece, given))
        yield from (_tried(partial(next, found, Failure("no result: the executor has stopped"))) for _ in given)
        return
    with interruptible() as interrupted:
        futures = [_tried(partial(executor.submit, run_piece, piece)) for piece in given]
        for future in futures:
            if isinstance(future, Failure):
                yield future
            elif interrupted() and future.cancel():
                yield None
            else:
                yield _tried(future.result)


def _tried(call: Callable[[], Any]) -> Any:
    """What a call returns, or the failure: a worker may die, or its work not be picklable."""
    try:
        return call()
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Failure:
    return Failure(f"{type(error).__name__}: {error}")
