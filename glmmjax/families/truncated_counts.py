"""Families of counts without zeros: each of the others, given that the count is not zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from glmmjax._links import Link
from glmmjax.families._family import Family, Given, nbinom_above
from glmmjax.families._truncation import from_tails, truncated
from glmmjax.families.compois import compois, nll_of_zero
from glmmjax.families.compois import within as compois_within
from glmmjax.families.genpois import genpois
from glmmjax.families.genpois import within as genpois_within
from glmmjax.families.nbinom1 import nbinom1
from glmmjax.families.nbinom2 import nbinom2
from glmmjax.families.poisson import poisson


def _poisson_zero(at: Given) -> Any:
    return at.mu


def _nbinom1_zero(at: Given) -> Any:
    return np.asarray(at.mu) * (np.log1p(at.phi) / at.phi)


def _nbinom2_zero(at: Given) -> Any:
    return at.phi * np.log1p(np.asarray(at.mu) / at.phi)


def _genpois_zero(at: Given) -> Any:
    return at.mu / np.sqrt(at.phi)


def _poisson_above(y: Any, at: Given) -> Any:
    from scipy.special import gammainc

    return gammainc(y + 1.0, at.mu)


def _nbinom1_above(y: Any, at: Given) -> Any:
    return nbinom_above(y, np.asarray(at.mu) / at.phi, at.phi / (1.0 + np.asarray(at.phi)))


def _nbinom2_above(y: Any, at: Given) -> Any:
    return nbinom_above(y, at.phi, at.mu / (np.asarray(at.mu) + at.phi))


def truncated_poisson(link: str | Link | None = None) -> Family:
    """The Poisson family given ``y > 0``; ``eta`` is that of the mean ``mu`` before the truncation.

    ``E(y) = mu / P``, ``Var(y) = (mu + mu^2) / P - E(y)^2`` with ``P = 1 - exp(-mu)``. Links: log, identity, sqrt. No
    dispersion parameter. With a formula for zero inflation this is the hurdle model of Mullahy (1986), J. Econometrics
    33(3), 341-365.

    >>> from glmmjax.families import Given
    >>> float(truncated_poisson().mean(Given(1e-20)))
    1.0
    """
    return truncated(poisson(link), _poisson_zero, from_tails(_poisson_above))


def truncated_nbinom1(link: str | Link | None = None) -> Family:
    """The family :func:`nbinom1` given ``y > 0``; ``eta`` is that of the mean ``mu`` before the truncation.

    ``E(y) = mu / P``, ``Var(y) = (mu (1 + phi) + mu^2) / P - E(y)^2`` with ``P = 1 - (1 + phi)^(-mu / phi)``. Links:
    log, identity, sqrt.

    >>> truncated_nbinom1().has_zeros
    False
    """
    return truncated(nbinom1(link), _nbinom1_zero, from_tails(_nbinom1_above))


def truncated_nbinom2(link: str | Link | None = None) -> Family:
    """The family :func:`nbinom2` given ``y > 0``; ``eta`` is that of the mean ``mu`` before the truncation.

    ``E(y) = mu / P``, ``Var(y) = (mu + mu^2 / phi + mu^2) / P - E(y)^2`` with ``P = 1 - (1 + mu / phi)^-phi``. Links:
    log, identity, sqrt.

    >>> truncated_nbinom2().has_zeros
    False
    """
    return truncated(nbinom2(link), _nbinom2_zero, from_tails(_nbinom2_above))


def truncated_genpois(link: str | Link | None = None) -> Family:
    """The family :func:`genpois` given ``y > 0``; ``eta`` is that of the mean ``mu`` before the truncation.

    ``E(y) = mu / P``, ``Var(y) = (mu phi + mu^2) / P - E(y)^2`` with ``P = 1 - exp(-mu / sqrt(phi))``. Links: log,
    identity, sqrt.

    >>> truncated_genpois().has_zeros
    False
    """
    return truncated(genpois(link), _genpois_zero, genpois_within)


def truncated_compois(link: str | Link | None = None) -> Family:
    """The family :func:`compois` given ``y > 0``; ``eta`` is that of the mean ``mu`` before the truncation.

    ``E(y) = mu / P``, ``Var(y) = (v + mu^2) / P - E(y)^2`` with ``P = 1 - 1 / Z`` and ``v`` the variance before the
    truncation. Links: log, identity, sqrt.

    >>> truncated_compois().has_zeros
    False
    """
    return truncated(compois(link), nll_of_zero, compois_within)
