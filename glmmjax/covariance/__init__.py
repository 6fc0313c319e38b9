"""Covariance structures of random-effects terms: one file each, and the table of their names."""

from __future__ import annotations

from glmmjax._errors import FormulaError, did_you_mean
from glmmjax.covariance._covariance import Covariance as Covariance
from glmmjax.covariance.diagonal import diagonal as diagonal
from glmmjax.covariance.unstructured import unstructured as unstructured

COVARIANCES: dict[str, Covariance] = {structure.name: structure for structure in (unstructured, diagonal)}


def resolve_covariance(name: str) -> Covariance:
    """The covariance structure called ``name``.

    Raises:
        FormulaError: the name is unknown; the nearest known one is offered.

    >>> resolve_covariance("us").n_theta(3)
    6
    """
    if name not in COVARIANCES:
        raise FormulaError(f"Unknown covariance structure {name!r}. {did_you_mean(name, COVARIANCES)}")
    return COVARIANCES[name]
