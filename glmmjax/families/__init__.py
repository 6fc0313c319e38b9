"""Response distributions: the Family record, one file per family, and the registry FAMILIES."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from glmmjax._errors import FamilyError, did_you_mean
from glmmjax._links import LINKS as LINKS
from glmmjax._links import Link as Link
from glmmjax.families._family import Family as Family
from glmmjax.families._family import Given as Given
from glmmjax.families._family import Shape as Shape
from glmmjax.families._family import check_private
from glmmjax.families._family import has_plain_mean as has_plain_mean
from glmmjax.families._family import variance_if_known as variance_if_known
from glmmjax.families.bell import bell as bell
from glmmjax.families.beta import beta as beta
from glmmjax.families.betabinomial import betabinomial as betabinomial
from glmmjax.families.binomial import binomial as binomial
from glmmjax.families.categorical import categorical as categorical
from glmmjax.families.censored import censored_gaussian as censored_gaussian
from glmmjax.families.censored import censored_lognormal as censored_lognormal
from glmmjax.families.compois import compois as compois
from glmmjax.families.cumulative import cumulative as cumulative
from glmmjax.families.folded_normal import folded_normal as folded_normal
from glmmjax.families.gamma import Gamma as Gamma
from glmmjax.families.gaussian import gaussian as gaussian
from glmmjax.families.genpois import genpois as genpois
from glmmjax.families.inverse_gaussian import inverse_gaussian as inverse_gaussian
from glmmjax.families.lognormal import lognormal as lognormal
from glmmjax.families.nbinom1 import nbinom1 as nbinom1
from glmmjax.families.nbinom2 import nbinom2 as nbinom2
from glmmjax.families.nbinom12 import nbinom12 as nbinom12
from glmmjax.families.ordbeta import ordbeta as ordbeta
from glmmjax.families.poisson import poisson as poisson
from glmmjax.families.skewnormal import skewnormal as skewnormal
from glmmjax.families.t import t as t
from glmmjax.families.truncated_counts import truncated_compois as truncated_compois
from glmmjax.families.truncated_counts import truncated_genpois as truncated_genpois
from glmmjax.families.truncated_counts import truncated_nbinom1 as truncated_nbinom1
from glmmjax.families.truncated_counts import truncated_nbinom2 as truncated_nbinom2
from glmmjax.families.truncated_counts import truncated_poisson as truncated_poisson
from glmmjax.families.tweedie import tweedie as tweedie
from glmmjax.families.zero_inflation import zero_inflated as zero_inflated
from glmmjax.surroundings import check_hashable

#: Constructors by name: each takes a link, or None for the family's default.
FAMILIES: dict[str, Callable[..., Family]] = {
    "gaussian": gaussian,
    "binomial": binomial,
    "poisson": poisson,
    "nbinom1": nbinom1,
    "nbinom2": nbinom2,
    "Gamma": Gamma,
    "beta": beta,
    "betabinomial": betabinomial,
    "ordbeta": ordbeta,
    "lognormal": lognormal,
    "folded_normal": folded_normal,
    "t": t,
    "skewnormal": skewnormal,
    "inverse_gaussian": inverse_gaussian,
    "nbinom12": nbinom12,
    "censored_gaussian": censored_gaussian,
    "censored_lognormal": censored_lognormal,
    "genpois": genpois,
    "compois": compois,
    "bell": bell,
    "tweedie": tweedie,
    "truncated_poisson": truncated_poisson,
    "truncated_nbinom1": truncated_nbinom1,
    "truncated_nbinom2": truncated_nbinom2,
    "truncated_genpois": truncated_genpois,
    "truncated_compois": truncated_compois,
    "cumulative": cumulative,
    "categorical": categorical,
}

_ALIASES = {
    "normal": "gaussian",
    "bernoulli": "binomial",
    "negbin": "nbinom2",
    "nbinom": "nbinom2",
    "negative_binomial": "nbinom2",
    "ordinal": "cumulative",
    "multinomial": "categorical",
    "beta_family": "beta",
    "t_family": "t",
    "student": "t",
}
_NAMES = {name.lower(): name for name in FAMILIES} | _ALIASES
_SPEC = re.compile(r"""\s*([^()]+?)\s*(?:\(\s*(?:link\s*=\s*)?(['"]?)([^()'"]*?)\2\s*\))?\s*""")


def resolve_family(spec: Any) -> Family:
    """The family that ``spec`` means: "nbinom2", "Gamma(log)", "binomial(link='cloglog')", a constructor, or a Family.

    Raises:
        FamilyError: an unknown family or link, or a link that the family cannot have.

    >>> resolve_family("Gamma(log)").link.name, resolve_family("Binomial").name
    ('log', 'binomial')
    """
    if isinstance(spec, Family):
        check_hashable(f"family {spec.name!r}", spec, FamilyError)
        check_private(spec)
        return spec
    if any(spec is constructor for constructor in FAMILIES.values()):
        return spec(None)
    if not isinstance(spec, str):
        raise FamilyError(
            f"family must be a name such as 'poisson' or 'Gamma(log)', or a Family, got {type(spec).__name__}."
        )
    parsed = _SPEC.fullmatch(spec)
    if parsed is None:
        raise FamilyError(f"cannot read the family {spec!r}: write it like 'poisson' or 'binomial(probit)'.")
    name, _, link = parsed.groups()
    key = re.sub(r"[\s.-]+", "_", name.lower())
    if key not in _NAMES:
        raise FamilyError(f"unknown family {name!r}. {did_you_mean(name, FAMILIES)}")
    return FAMILIES[_NAMES[key]](link or None)
