"""Repeated fits of one model by everyone, taking turns, so that a busy moment of the machine falls on all."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.models import Model
from benchmarks.peers import Fitter, Sample, all_fitters

LEAST_TURNS = 3
FITS_OF_A_TURN, SECONDS_OF_A_TURN = 5, 0.1
SHORTFALL = 1e-4  # a log-likelihood further below the best is another amount of work


@dataclass(frozen=True)
class Timing:
    """All fits of one model by one peer; the first is apart, since it may compile.

    Attributes:
        turns: the fits of each turn; where there are several, the first finds the processor's caches as others left
            them.
    """

    model: Model
    nobs: int
    peer: str
    first: Sample
    turns: tuple[tuple[Sample, ...], ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every fit but the first."""
        return tuple(sample for turn in self.turns for sample in turn)

    @property
    def llf(self) -> float:
        """The lowest log-likelihood that any of the fits reached."""
        return min(sample.llf for sample in (self.first, *self.samples))

    @property
    def seconds(self) -> list[float]:
        return [sample.seconds for sample in self.samples]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def after_others(self) -> float:
        """The median of the first fits of the turns."""
        return median(turn[0].seconds for turn in self.turns)

    def part(self, name: str) -> list[float]:
        """Seconds of a part of each repeat, such as "run"; empty where it is not known."""
        return [sample.parts[name] for sample in self.samples if name in sample.parts]


@dataclass(frozen=True)
class Comparison:
    """One model: what was timed, and what was not and why."""

    model: Model
    timings: tuple[Timing, ...]
    skipped: Mapping[str, str]

    @property
    def best_llf(self) -> float:
        return max(timing.llf for timing in self.timings)

    def short(self, timing: Timing) -> float:
        """How far a log-likelihood is below the best."""
        return self.best_llf - timing.llf

    @property
    def ours(self) -> Timing:
        """glmmjax, which is always there."""
        return next(timing for timing in self.timings if timing.peer == "glmmjax")

    def of(self, peer: str) -> Timing | None:
        return next((timing for timing in self.timings if timing.peer == peer), None)

    def fastest_peer(self) -> Timing | None:
        """The smallest median among the peers that reach the best log-likelihood."""
        equal = [t for t in self.timings if t.peer != "glmmjax" and self.short(t) <= SHORTFALL]
        return min(equal, key=lambda timing: timing.median, default=None)


def compare(model: Model, n_turns: int, budget: float) -> Comparison:
    """Fit ``model`` once with everyone, then in ``n_turns`` turns.

    A peer whose turns have taken ``budget`` seconds rests after the first ``LEAST_TURNS``.
    """
    data = model.data()
    skipped: dict[str, str] = {}
    fitters: dict[str, Fitter] = {}
    first: dict[str, Sample] = {}
    for peer, fitter in all_fitters(model, data).items():
        if isinstance(fitter, str):
            skipped[peer] = fitter
            continue
        try:
            first[peer] = fitter()
            fitters[peer] = fitter
        except Exception as error:
            if peer == "glmmjax":
                raise
            skipped[peer] = f"failed: {error}"
    turns: dict[str, list[tuple[Sample, ...]]] = {peer: [] for peer in fitters}
    for _ in range(n_turns):
        for peer, fitter in fitters.items():
            spent = sum(sample.seconds for turn in turns[peer] for sample in turn)
            if len(turns[peer]) < LEAST_TURNS or spent < budget:
                turns[peer].append(_turn(fitter))
    timings = tuple(Timing(model, len(data), peer, first[peer], tuple(turns[peer])) for peer in fitters)
    return Comparison(model, timings, skipped)


def _turn(fitter: Fitter) -> tuple[Sample, ...]:
    """A few fits in a row, as a loop would make them, or one that takes long."""
    gc.collect()
    samples: list[Sample] = []
    while len(samples) < FITS_OF_A_TURN and sum(sample.seconds for sample in samples) < SECONDS_OF_A_TURN:
        samples.append(fitter())
    return tuple(samples)
