"""Covariance structures of random-effects terms: one file each, and the table of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glmmjax._errors import ArgumentError, FormulaError, did_you_mean
from glmmjax.covariance._covariance import Covariance as Covariance
from glmmjax.covariance.diagonal import diagonal as diagonal
from glmmjax.covariance.unstructured import unstructured as unstructured
from glmmjax.surroundings import check_hashable

COVARIANCES: dict[str, Covariance] = {structure.name: structure for structure in (unstructured, diagonal)}


def resolve_covariance(
    name: str, private: Mapping[str, Covariance] | None = None, options: Sequence[tuple[str, str]] = ()
) -> Covariance:
    """The covariance structure called ``name``, a private one before the known ones.

    Args:
        options: what a formula writes after the grouping factor, ``us(x | g, d = 2)``: no structure has any.

    Raises:
        FormulaError: the name is unknown, and the nearest known one is offered; or there are options.

    >>> resolve_covariance("us").n_theta(3)
    6
    """
    if private is not None and not isinstance(private, Mapping):
        raise ArgumentError(f"covariances must map names to covariance structures, not {private!r}.")
    known = {**COVARIANCES, **(private or {})}
    if name not in known:
        raise FormulaError(f"Unknown covariance structure {name!r}. {did_you_mean(name, known)}")
    if not isinstance(known[name], Covariance):
        raise FormulaError(f"covariances[{name!r}] must be a glmmjax.covariance.Covariance, not {known[name]!r}.")
    if options:
        written = ", ".join(f"{key} = {value}" if key else value for key, value in options)
        raise FormulaError(f"The covariance structure {name!r} has no options, but the formula gives {written}.")
    if private and name in private:
        check_hashable(f"covariances[{name!r}]", known[name])
    return known[name]
