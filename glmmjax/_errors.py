"""Every error that glmmjax raises on purpose: one tree, and the help that names the nearest valid spelling."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class GlmmjaxError(Exception):
    """Base of all errors raised by glmmjax."""


class FormulaError(GlmmjaxError, ValueError):
    """The formula cannot be read."""


class DataError(GlmmjaxError, ValueError):
    """The data cannot be used: a missing column, a value that is not finite, a factor without levels."""


class FamilyError(GlmmjaxError, ValueError):
    """An unknown family or link, or a link that the family cannot have."""


class ResponseError(GlmmjaxError, ValueError):
    """The response is outside the support of the family."""


class ArgumentError(GlmmjaxError, TypeError):
    """An argument that is unknown or has the wrong type or range."""


class FitError(GlmmjaxError, RuntimeError):
    """The fit cannot give what was asked of it."""


class OptionalDependencyError(GlmmjaxError, ImportError):
    """An optional package is needed; the message says which extra installs it."""


class GlmmjaxWarning(UserWarning):
    """Something that works, but probably not as intended."""


def did_you_mean(name: object, options: Iterable[object]) -> str:
    """The sentence that follows 'unknown name': the nearest option, then all of them.

    >>> did_you_mean("poison", ["poisson", "binomial"])
    "Did you mean 'poisson'? Known: 'binomial', 'poisson'."
    """
    known = sorted({str(option) for option in options})
    lowered = {option.lower(): option for option in known}
    near = get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.5)
    listed = "Known: " + ", ".join(repr(option) for option in known) + "." if known else "None are known."
    return f"Did you mean {lowered[near[0]]!r}? {listed}" if near else listed
