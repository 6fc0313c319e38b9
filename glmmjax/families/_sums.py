"""Distributions of counts without closed forms: cumulated and drawn by adding probabilities up, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MOST_TERMS = 100_000
NOTHING = 1e-20  # a probability after which no more of the upper tail counts


def cdf_by_sums(pmf: Callable[[int], np.ndarray], y: Any) -> np.ndarray:
    """``P(Y <= y)`` from ``pmf(k)``, the probabilities of the count k in each row.

    >>> cdf_by_sums(lambda k: np.array([0.5**(k + 1)]), np.array([1.0])).tolist()
    [0.75]
    """
    y = np.floor(np.asarray(y, dtype=float))
    total: Any = 0.0 * y
    whole: Any = 0.0
    for k in range(int(min(np.max(y, initial=-1.0), MOST_TERMS)) + 1):
        own = pmf(k)
        total, whole = total + np.where(k <= y, own, 0.0), whole + own
        if np.all((own < NOTHING) & (whole > 0.5)):
            break
    return np.minimum(total, 1.0)


def draw_by_sums(rng: np.random.Generator, pmf: Callable[[int], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """A count for each row, by inverting its distribution function.

    >>> draw_by_sums(np.random.default_rng(0), lambda k: np.array([float(k == 2)]), (1,)).tolist()
    [2.0]
    """
    level = rng.uniform(size=shape)
    total, y = np.zeros(shape), np.zeros(shape)
    for k in range(MOST_TERMS):
        total = total + pmf(k)
        above = level > total
        if not np.any(above) or (k > 10 and not np.any(above & (total < 1.0 - 1e-12))):
            break
        y = np.where(above, k + 1.0, y)
    return y
