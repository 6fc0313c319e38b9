"""Design -> what the engine runs on: a static layout, the key of the compiled program, and padded arrays.

Shapes are padded to buckets, so that the next data set of about the same size finds its program compiled: added rows
repeat the first row with weight zero, added groups have no rows; neither changes the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from glmmjax._types import Array
from glmmjax.centering import centering, far_columns
from glmmjax.covariance import Covariance, resolve_covariance
from glmmjax.design import Component, Design, Term
from glmmjax.families import Family
from glmmjax.grouping import choose_structure
from glmmjax.hessians import Level, Membership, RowStructure, Runs
from glmmjax.priors import Matrix as PriorMatrix
from glmmjax.priors import Prior, read_priors
from glmmjax.priors import Term as PriorTerm


@dataclass(frozen=True)
class TermLayout:
    """One random-effects term: its component, its level, its first effect there, its width, its covariance."""

    component: str
    level: int
    first: int
    width: int
    covariance: Covariance

    @property
    def n_theta(self) -> int:
        return self.covariance.n_theta(self.width)


@dataclass(frozen=True)
class Layout:
    """The static part of a formula model; hashable, the key of its compiled programs."""

    family: Family
    components: tuple[str, ...]
    terms: tuple[TermLayout, ...]
    structure: RowStructure
    n_psi: int = 0  # shape parameters
    priors: tuple[Prior, ...] = ()
    reml: int = 0  # how many fixed effects of the mean are integrated out with the random effects

    @property
    def random_components(self) -> tuple[str, ...]:
        """The components with random effects, in order."""
        return tuple(c for c in self.components if any(term.component == c for term in self.terms))

    def terms_at(self, level: int) -> list[int]:
        """The positions of the terms that share a level, in the order of their effects."""
        return [t for t, term in enumerate(self.terms) if term.level == level]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ModelData:
    """The numbers of a formula model, padded.

    Attributes:
        y, trials, weights: (n,) each.
        X, offset: per component, (n, p) and (n,); one row only where the predictor is the same for all.
        Z: per term, its columns (q, n), where they are far from zero centered by a matrix A; see
            :mod:`glmmjax.centering`.
        members: which groups each observation belongs to, with what the structure needs besides.
        distinct: ``(y, trials, weights)`` of the distinct responses where part of the density is the same in rows with
            equal responses, each with the sum of the weights of its rows; None if there is no such part.
        priors: the numbers of each prior.
        uncentering: per term ``A^-1`` (q, q), or None where A is the identity; empty where it always is.
    """

    y: Array
    trials: Array
    weights: Array
    X: dict[str, Array]
    offset: dict[str, Array]
    Z: tuple[Array, ...]
    members: Any
    distinct: tuple[Array, Array, Array] | None = None
    priors: tuple[Array, ...] = ()
    uncentering: tuple[Array | None, ...] = ()


def beta_name(component: str) -> str:
    """The name of a component's fixed effects among the parameters: beta, beta_disp, beta_zi."""
    return "beta" if component == "cond" else f"beta_{component}"


def bucket(size: int) -> int:
    """The padded size: the next number of the form ``m 2^k`` with m from 8 to 15, at most an eighth larger.

    >>> [bucket(size) for size in (5, 23, 60, 1934)]
    [5, 24, 60, 2048]
    """
    step = 1 << max(0, size.bit_length() - 4)
    return -(-size // step) * step


def lay_out(
    design: Design,
    family: Family,
    structure: str | None = None,
    covariances: Mapping[str, Covariance] | None = None,
    priors: Mapping[str, str] | str | None = None,
    reml: bool = False,
    size: Callable[[int], int] = bucket,
    in_runs: bool = False,
) -> tuple[Layout, ModelData]:
    """The static layout of a design and its padded NumPy arrays.

    Args:
        structure: of the Hessian; see :func:`glmmjax.grouping.choose_structure`.
        covariances: covariance structures by name, besides those of :data:`glmmjax.covariance.COVARIANCES`.
        priors: see :func:`glmmjax.priors.read_priors`.
        reml: integrate the fixed effects of the mean out as well.
        size: the padded number of rows, groups or distinct responses.
        in_runs: put the rows in the order of their groups where that suits; see :func:`arrange`.

    Raises:
        FormulaError: a term has an unknown covariance structure.
        ArgumentError: the structure of the Hessian does not suit the grouping factors.
    """
    groups: dict[str, Term] = {}
    for _, term in design.terms:
        groups.setdefault(term.group, term)
    finest_first = sorted(groups.values(), key=lambda term: -len(term.levels))
    position = {term.group: level for level, term in enumerate(finest_first)}

    n_effects = [0] * len(finest_first)
    placed = []
    for component, term in design.terms:
        level, width = position[term.group], len(term.columns)
        placed.append(
            TermLayout(
                component,
                level,
                n_effects[level],
                width,
                resolve_covariance(term.covariance, covariances, term.options),
            )
        )
        n_effects[level] += width

    levels = tuple(Level(size(len(term.levels)), width) for term, width in zip(finest_first, n_effects, strict=True))
    order = arrange(design, size, in_runs)
    rows = order.rows
    weights = np.where(order.used, design.weights[rows], 0.0)
    varies = {name: name == "cond" or _varies(part) for name, part in design.components.items()}
    hessian, members = choose_structure([term.index[rows] for term in finest_first], levels, structure)
    if order.runs is not None:
        members = Membership((order.runs,), {})
    y, trials = design.y[rows], design.trials[rows]
    shared = family.shared_nll is not None and not varies.get("disp", False)
    read, numbers = read_priors(priors, _matrices(design, family), _prior_terms(design, placed))
    both = zip(placed, design.terms, strict=True)
    centers = [centering(term) if far_columns(own.covariance, term) else None for own, (_, term) in both]
    any_far = any(A is not None for A in centers)
    Z = [term.Z if A is None else term.Z @ A for A, (_, term) in zip(centers, design.terms, strict=True)]
    data = ModelData(
        y=y,
        trials=trials,
        weights=weights,
        X={name: part.X[rows if varies[name] else rows[:1]] for name, part in design.components.items()},
        offset={name: part.offset[rows if varies[name] else rows[:1]] for name, part in design.components.items()},
        Z=tuple(np.ascontiguousarray(own[rows].T) for own in Z),
        members=members,
        distinct=_distinct(y, trials, weights) if shared else None,
        priors=numbers,
        uncentering=tuple(None if A is None else np.linalg.inv(A) for A in centers) if any_far else (),
    )
    n_psi = 0 if family.shape is None else len(family.shape.start(design.y, design.trials))
    n_beta = design.components["cond"].X.shape[1] if reml else 0
    return Layout(family, tuple(design.components), tuple(placed), hessian, n_psi, read, n_beta), data


def parameter_places(design: Design, layout: Layout) -> dict[str, slice]:
    """Where each block of parameters stands in the flat vector, ``beta`` with them however it is estimated.

    The blocks are the fixed effects by :func:`beta_name`, "psi", which may be empty, and "theta".
    """
    sizes = {beta_name(name): part.X.shape[1] for name, part in design.components.items()}
    sizes |= {"psi": layout.n_psi, "theta": sum(placed.n_theta for placed in layout.terms)}
    names = sorted(sizes)
    ends = np.cumsum([sizes[name] for name in names]).tolist()
    return {name: slice(end - sizes[name], end) for name, end in zip(names, ends, strict=True)}


def group_counts(design: Design, layout: Layout) -> tuple[int, ...]:
    """The number of groups of each level without padding."""
    return tuple(len(design.terms[layout.terms_at(k)[0]][1].levels) for k in range(len(layout.structure.levels)))


class Arrangement(NamedTuple):
    """The padded rows of a design: their positions in it, which of them count, and the runs of groups they form."""

    rows: np.ndarray
    used: np.ndarray
    runs: Runs | None


# Padding every group to the size of the largest costs as much as it saves from here on.
MOST_PADDING = 1.5


def arrange(design: Design, size: Callable[[int], int], in_runs: bool) -> Arrangement:
    """The rows as they are, padded at the end; or one grouping factor's groups one after the other, padded each."""
    n = len(design.y)
    padded = size(n)
    factors = {term.group: term for _, term in design.terms}
    if in_runs and len(factors) == 1:
        (term,) = factors.values()
        counts = np.bincount(term.index, minlength=size(len(term.levels)))
        length = int(np.max(counts))
        if len(counts) * length <= MOST_PADDING * padded:
            used = np.arange(length) < counts[:, None]
            grouped = np.zeros(used.shape, dtype=int)
            grouped[used] = np.argsort(term.index, kind="stable")
            return Arrangement(grouped.reshape(-1), used.reshape(-1), Runs(length))
    rows = np.arange(padded)
    return Arrangement(np.where(rows < n, rows, 0), rows < n, None)


def _matrices(design: Design, family: Family) -> dict[str, PriorMatrix]:
    """The fixed effects that priors can be about, by block."""
    each_category = family.predictors if family.response == "categories" and family.shape is None else ()
    return {
        beta_name(name): PriorMatrix(
            part.columns, part.X, name != "disp" and family.link.name != "identity", name in each_category
        )
        for name, part in design.components.items()
    }


def _prior_terms(design: Design, placed: list[TermLayout]) -> list[PriorTerm]:
    """The random-effects terms that priors can be about."""
    firsts = np.cumsum([0, *(term.n_theta for term in placed)])
    return [
        PriorTerm(component, term.group, term.columns, int(first), own.n_theta, own.covariance.correlated)
        for (component, term), own, first in zip(design.terms, placed, firsts, strict=False)
    ]


def room_for_distinct(count: int, n: int) -> int:
    """The padded number of distinct responses in n rows: of the form ``5 2^k`` or ``7 2^k``, and at least 20.

    Coarse, as it changes with every response, and a program is compiled for every size.

    >>> [room_for_distinct(count, 640) for count in (3, 23, 33, 600)]
    [20, 28, 40, 640]
    """
    low = 20
    while 2 * low < count:
        low *= 2
    return min(n, next(size for size in (low, 7 * low // 5, 2 * low) if size >= count))


def _distinct(y: Array, trials: Array, weights: Array) -> tuple[Array, Array, Array]:
    """The distinct responses (y, trials) with the sum of the weights of their rows, padded."""
    values, back = np.unique(np.stack([y, trials]), axis=1, return_inverse=True)
    count = np.bincount(back.reshape(-1), weights, minlength=values.shape[1])
    spare = room_for_distinct(values.shape[1], len(y)) - values.shape[1]
    y, trials = np.pad(values, ((0, 0), (0, spare)), mode="edge")
    return y, trials, np.pad(count, (0, spare))


def _varies(part: Component) -> bool:
    """Whether a linear predictor differs between rows; one that does not is computed once, for a single row."""
    return bool(part.terms) or np.ptp(part.offset) > 0 or bool(np.any(np.ptp(part.X, axis=0) > 0))
