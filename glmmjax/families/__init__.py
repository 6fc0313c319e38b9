"""Response distributions: the Family record, one file per family, and the registry FAMILIES."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from glmmjax._errors import FamilyError, did_you_mean
from glmmjax._links import LINKS as LINKS
from glmmjax._links import Link as Link
from glmmjax.families._family import Family as Family
from glmmjax.families.binomial import binomial as binomial
from glmmjax.families.gamma import Gamma as Gamma
from glmmjax.families.gaussian import gaussian as gaussian
from glmmjax.families.nbinom1 import nbinom1 as nbinom1
from glmmjax.families.nbinom2 import nbinom2 as nbinom2
from glmmjax.families.poisson import poisson as poisson

#: Constructors by name: each takes a link, or None for the family's default.
FAMILIES: dict[str, Callable[[str | Link | None], Family]] = {
    "gaussian": gaussian,
    "binomial": binomial,
    "poisson": poisson,
    "nbinom1": nbinom1,
    "nbinom2": nbinom2,
    "Gamma": Gamma,
}

_ALIASES = {
    "normal": "gaussian",
    "bernoulli": "binomial",
    "negbin": "nbinom2",
    "nbinom": "nbinom2",
    "negative_binomial": "nbinom2",
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
