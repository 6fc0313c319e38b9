"""Which likelihoods may be compared, and of which families one can be a special case of the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmmjax.families import Family

# A larger model may fall behind a smaller one by rounding, and by as much as the optimizer leaves.
SHORTFALL = 1e-4

# Families that hold others as special cases, or as limits.
SPECIAL_CASES: dict[str, frozenset[str]] = {
    "nbinom1": frozenset({"poisson"}),
    "nbinom2": frozenset({"poisson"}),
    "nbinom12": frozenset({"poisson", "nbinom1", "nbinom2"}),
    "genpois": frozenset({"poisson"}),
    "compois": frozenset({"poisson"}),
    "truncated_nbinom1": frozenset({"truncated_poisson"}),
    "truncated_nbinom2": frozenset({"truncated_poisson"}),
    "truncated_genpois": frozenset({"truncated_poisson"}),
    "truncated_compois": frozenset({"truncated_poisson"}),
    "betabinomial": frozenset({"binomial"}),
    "t": frozenset({"gaussian"}),
    "skewnormal": frozenset({"gaussian"}),
    "tweedie": frozenset({"Gamma"}),
}
# The kinds of responses whose families give probabilities; the others have densities.
DISCRETE = ("count", "trials", "categories")


def not_comparable(a: Family, b: Family) -> str:
    """Why likelihoods of two families are not of the same kind, in words; empty if they are.

    >>> from glmmjax.families import resolve_family
    >>> not_comparable(resolve_family("poisson"), resolve_family("nbinom2"))
    ''
    """
    if (a.response in DISCRETE) == (b.response in DISCRETE):
        return ""
    discrete, other = (a, b) if a.response in DISCRETE else (b, a)
    return (
        f"the likelihood of {discrete.name!r} is made of probabilities, that of {other.name!r} of densities, so that "
        "their difference depends on the unit of the response"
    )


def not_nested(smaller: Family, larger: Family) -> str:
    """Why the family of a smaller model is no special case of that of a larger one, in words; empty if it may be."""
    if smaller.name != larger.name and smaller.name not in SPECIAL_CASES.get(larger.name, frozenset()):
        return f"the family {smaller.name!r} is no special case of {larger.name!r}"
    if smaller.link.name != larger.link.name:
        return f"a model with the link {smaller.link.name!r} is no special case of one with {larger.link.name!r}"
    return ""


def same_priors(a: Any, b: Any) -> bool:
    """Whether two arguments priors= say the same."""
    return _plain(a) == _plain(b)


def _plain(priors: Any) -> Any:
    if isinstance(priors, Mapping):
        return {str(key): "".join(str(text).split()) for key, text in priors.items()}
    return priors or {}
