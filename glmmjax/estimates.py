"""What a compiled program returns -> estimates of each random-effects term, on its natural scale, without padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmmjax.design import Design
from glmmjax.families import Family
from glmmjax.layout import Layout, beta_name
from glmmjax.optimizer import NewtonState
from glmmjax.programs import Report


@dataclass(frozen=True, eq=False)
class TermEstimate:
    """The estimates of one random-effects term with q columns and G groups; k is the number of all parameters.

    Attributes:
        component, group, columns, levels: what it is.
        n_theta: how many entries of ``theta`` belong to it.
        correlated: whether its structure has correlations.
        L: Cholesky factor of ``Sigma = L L'`` (q, q).
        sd, sd_jacobian: standard deviations (q,) and their derivatives in all parameters (q, k).
        correlations, correlations_jacobian: below the diagonal, row by row, and their derivatives (..., k).
        b, b_vcov, b_jacobian: conditional modes ``b = L u`` (G, q), their covariance given the parameters (G, q, q),
            and their derivatives in all parameters (G, q, k).
    """

    component: str
    group: str
    columns: tuple[str, ...]
    levels: tuple[Any, ...]
    n_theta: int
    correlated: bool
    L: np.ndarray
    sd: np.ndarray
    sd_jacobian: np.ndarray
    correlations: np.ndarray
    correlations_jacobian: np.ndarray
    b: np.ndarray
    b_vcov: np.ndarray
    b_jacobian: np.ndarray

    @property
    def label(self) -> str:
        """The term as in a formula: ``1 + x | g``."""
        return term_label(self.columns, self.group)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The columns (earlier, later) of each correlation, in the order of ``correlations``."""
        later, earlier = np.tril_indices(len(self.columns), -1)
        return list(zip(earlier.tolist(), later.tolist(), strict=True)) if self.correlated else []

    def b_total_vcov(self, vcov: np.ndarray) -> np.ndarray:
        """The covariance (G, q, q) of the modes' error, ``b_vcov + J V J'``, for a covariance V of the parameters.

        Parameters at a boundary, zero in V, count as known.
        """
        return self.b_vcov + np.einsum("gik,kl,gjl->gij", self.b_jacobian, vcov, self.b_jacobian)


def parameter_names(design: Design, layout: Layout, family: Family) -> tuple[str, ...]:
    """A name for every parameter in flat order: columns, with a prefix unless they are those of cond, psi, theta."""
    names: list[str] = []
    for component in sorted(design.components, key=beta_name):
        prefix = "" if component == "cond" else f"{component}:"
        names += [prefix + column for column in design.components[component].columns]
    one_each = family.shape is not None and len(family.shape.names) == layout.n_psi
    names += [f"psi_{family.shape.names[i] if one_each else i + 1}" for i in range(layout.n_psi)]  # type: ignore[union-attr]
    for placed, (component, term) in zip(layout.terms, design.terms, strict=True):
        prefix = "" if component == "cond" else f"{component}:"
        names += [f"{prefix}theta_{term_label(term.columns, term.group)}.{i + 1}" for i in range(placed.n_theta)]
    return tuple(names)


def term_label(columns: tuple[str, ...], group: str) -> str:
    """A term as in a formula: ``1 + x | g``."""
    return f"{' + '.join('1' if c == '(Intercept)' else c for c in columns)} | {group}"


def term_estimates(design: Design, layout: Layout, state: NewtonState, report: Report) -> tuple[TermEstimate, ...]:
    """The estimates of every term, in the order of the layout."""
    out = []
    for t, (placed, (component, term)) in enumerate(zip(layout.terms, design.terms, strict=True)):
        L, sd, correlations = report.value[t]
        L_jacobian, sd_jacobian, correlations_jacobian = report.jacobian[t]
        own = slice(placed.first, placed.first + placed.width)
        groups = slice(len(term.levels))
        u = state.at.modes[placed.level][own, groups]
        u_jacobian = state.at.modes_jacobian[placed.level][own, groups]
        u_vcov = state.at.modes_vcov[placed.level][own, own, groups]
        out.append(
            TermEstimate(
                component=component,
                group=term.group,
                columns=term.columns,
                levels=term.levels,
                n_theta=placed.n_theta,
                correlated=placed.covariance.correlated,
                L=L,
                sd=sd,
                sd_jacobian=sd_jacobian,
                correlations=correlations,
                correlations_jacobian=correlations_jacobian,
                b=(L @ u).T,
                b_vcov=np.einsum("ij,jkg,lk->gil", L, u_vcov, L),
                b_jacobian=np.einsum("ij,jgk->gik", L, u_jacobian) + np.einsum("ijk,jg->gik", L_jacobian, u),
            )
        )
    return tuple(out)
