"""Every way a solve or a fit can end: one code and one sentence each."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """How an iterative solve ended. Codes travel through compiled programs; ``sentence`` is for people."""

    CONVERGED = 0
    RUNNING = 1
    MAX_ITERATIONS = 2
    NO_PROGRESS = 3
    START_NOT_FINITE = 4

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]

    @property
    def without_remedy(self) -> str:
        """The sentence for an end whose cause is known, which is said beside it."""
        return self.sentence.partition(";")[0]


_SENTENCES = {
    Outcome.CONVERGED: "converged",
    Outcome.RUNNING: "stopped before it had converged",
    Outcome.MAX_ITERATIONS: "did not converge: the iteration limit was reached; raise Control(max_iter=...)",
    Outcome.NO_PROGRESS: "did not converge: no step improves the likelihood, although the gradient is not zero",
    Outcome.START_NOT_FINITE: "did not start: the likelihood is not finite at the start values; give start=",
}
