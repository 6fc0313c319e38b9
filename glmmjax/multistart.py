"""The best of several searches for a maximum, and what each of them found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from glmmjax._status import Outcome
from glmmjax.coordinates import along
from glmmjax.solving import Solution

PLAIN = "plain"


class Search(NamedTuple):
    """Where the search from one start ended: the marginal negative log-likelihood, how, after how many iterations."""

    start: str
    value: float
    outcome: Outcome
    iterations: int


def better(value: float, outcome: int, than: float, than_outcome: int) -> bool:
    """Whether one end of a search is preferred to another: converged before not, then the clearly smaller value."""
    new, old = outcome == Outcome.CONVERGED, than_outcome == Outcome.CONVERGED
    if new != old:
        return new
    return bool(np.isfinite(value) and not value >= than - 1e-9 * (1.0 + abs(value)))


def kept(searches: tuple[Search, ...]) -> int:
    """Which of several searches is preferred to those before it."""
    best = 0
    for i, new in enumerate(searches):
        if better(new.value, new.outcome, searches[best].value, searches[best].outcome):
            best = i
    return best


def scattered(flat: np.ndarray, T: np.ndarray, count: int) -> list[tuple[str, np.ndarray]]:
    """``count`` starts around ``flat`` (k,), each parameter moved by about half its size and one, along T (k, r)."""
    rng = np.random.default_rng(0)
    steps = [0.5 * (1.0 + np.abs(flat)) * rng.normal(size=len(flat)) for _ in range(count)]
    return [(f"random {i + 1}", flat + along(T, step)) for i, step in enumerate(steps)]


def best_of(
    run: Callable[[np.ndarray], Solution],
    flat: np.ndarray,
    others: Callable[[Solution], Iterable[tuple[str, np.ndarray]]],
) -> tuple[Solution, tuple[Search, ...]]:
    """The best solution from the start ``flat`` (k,) and from the others that its solution calls for."""
    best = run(flat)
    searches = [_search(PLAIN, best)]
    if int(best.state.outcome) == Outcome.RUNNING:  # interrupted
        return best, tuple(searches)
    seconds = best.compile_time
    for name, start in others(best):
        new = run(start)
        seconds += new.compile_time
        searches.append(_search(name, new))
        best = new if kept(tuple(searches)) == len(searches) - 1 else best
        if searches[-1].outcome == Outcome.RUNNING:
            break
    return best._replace(compile_time=seconds), tuple(searches)


def _search(name: str, solution: Solution) -> Search:
    state = solution.state
    return Search(name, float(state.at.value), Outcome(int(state.outcome)), int(state.iterations))
