"""Power by simulation: responses drawn from a model with the effect in question, refitted and tested, size by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from glmmjax._arguments import by_name, numbers, whole
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax._precision import double_precision
from glmmjax.batch.extending import Copies, extended, groups, within
from glmmjax.batch.many import Many
from glmmjax.batch.refitting import check_refittable, refit_many
from glmmjax.batch.running import Run
from glmmjax.design import Design
from glmmjax.formula_fit import FormulaFit
from glmmjax.layout import lay_out
from glmmjax.model import factors
from glmmjax.nesting import not_nested, same_priors
from glmmjax.result import check_level

if TYPE_CHECKING:
    import pandas as pd

Test: TypeAlias = "tuple[str, ...] | FormulaFit"  # Wald test of these effects, or likelihood ratio test against a fit


@dataclass(frozen=True, eq=False)
class PowerAt:
    """The replicates of one size.

    Attributes:
        size: of what :attr:`Power.varied` names.
        p_values: (n,); NaN where there is no test.
        converged, singular: (n,) bool.
        estimates: (n,) of the effect that is tested; NaN where it is not one.
    """

    size: int
    p_values: np.ndarray
    converged: np.ndarray
    singular: np.ndarray
    estimates: np.ndarray


@dataclass(frozen=True, eq=False)
class Power:
    """The share of simulated studies in which a test rejects.

    Attributes:
        formula: of the model that was simulated and fitted.
        test: in words.
        effect: the true value of the effect that is tested; NaN where it is not one.
        alpha: the level of the test.
        varied: what the sizes count.
        points: the replicates, size by size.
    """

    formula: str
    test: str
    effect: float
    alpha: float
    varied: str
    points: tuple[PowerAt, ...]

    def rejected(self, point: PowerAt) -> np.ndarray:
        """Which replicates were rejected (n,); one that did not converge, or has no test, was not."""
        return point.converged & (np.nan_to_num(point.p_values, nan=1.0) < self.alpha)

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """A row for each size.

        Columns power (rejected / n) with Clopper-Pearson limits; n, rejected, converged and singular replicates; the
        mean estimate of those that converged; type_s, the share of the rejected whose estimate has the wrong sign, and
        type_m, by which factor their estimates exaggerate the effect on average (both NaN for an effect of zero).

        Args:
            level: of the limits.

        Raises:
            ArgumentError: level is not between 0 and 1.

        Source: Clopper & Pearson (1934), Biometrika 26(4); Gelman & Carlin (2014), Perspect. Psychol. Sci. 9(6).
        """
        import pandas as pd

        check_level(level)
        rows = [self._row(point, level) for point in self.points]
        return pd.DataFrame(rows, index=pd.Index([point.size for point in self.points], name=self.varied))

    def _row(self, point: PowerAt, level: float) -> dict[str, float]:
        rejected = self.rejected(point)
        k, n = int(rejected.sum()), len(rejected)
        low, high = clopper_pearson(k, n, level)
        found, significant = point.estimates[point.converged], point.estimates[rejected]
        counts = {"n": n, "rejected": k, "converged": int(point.converged.sum()), "singular": int(point.singular.sum())}
        known = np.isfinite(self.effect) and self.effect != 0.0 and k > 0
        return {
            "power": k / n,
            "conf_low": low,
            "conf_high": high,
            **counts,
            "mean_estimate": float(np.mean(found)) if len(found) else np.nan,
            "type_s": float(np.mean(np.sign(significant) != np.sign(self.effect))) if known else np.nan,
            "type_m": float(np.mean(np.abs(significant)) / abs(self.effect)) if known else np.nan,
        }

    def __repr__(self) -> str:
        what = f"Power of {self.test} at level {self.alpha:g} in {self.formula!r}"
        lost = sum(int(np.sum(~point.converged)) for point in self.points)
        note = f"\n{lost} replicates did not converge and count as not rejected." if lost else ""
        return f"{what}\n{self.summary().round(3).to_string()}{note}"


def power(
    fit: FormulaFit,
    params: Mapping[str, Any] | None = None,
    *,
    test: str | Sequence[str] | FormulaFit | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    within: Mapping[str, Sequence[int]] | None = None,
    n: int = 1000,
    alpha: float = 0.05,
    seed: Any = 0,
    progress: bool = False,
    executor: Any = None,
    devices: Sequence[Any] | None = None,
) -> Power:
    """The power of a test by simulation: for every size ``n`` responses are drawn, refitted as one batch, and tested.

    Args:
        fit: of :func:`glmmjax.glmm`, to a pilot study or to any response of the planned design.
        params: true values in the place of the estimates, by the names of ``fit.parameter_names``, ``{"x": 0.3}``, or
            of whole blocks as in ``start=``: "beta", "beta_disp" (log), "theta" (log standard deviations first), "psi".
        test: the effect whose Wald test (normal, two-sided) is meant, several names for their joint Wald test, or the
            fit of a smaller model to the same data for the likelihood ratio test. Default the effect in ``params``.
        sizes: numbers of groups of one grouping factor, ``{"id": [10, 20, 40]}``: groups are copied with all their
            rows, or an evenly spread part of them is taken. Groups inside a copied group are new in each copy; crossed
            and coarser factors are kept. Default the design as it is.
        within: instead, numbers of rows in each group of a factor.
        n: replicates for each size.
        alpha: level of the test.
        seed: as for ``fit.simulate``; a whole number is used again for each size.
        progress, executor, devices: see :func:`glmmjax.fit_many`.

    A replicate that did not converge counts as not rejected; how many is in the summary. One whose variance is
    estimated at zero (singular) is tested like any other. Ctrl-C ends with the replicates that are done.

    Raises:
        ArgumentError: a name, a size or another argument that cannot be used.
        FamilyError: the family cannot simulate.

    Source: Green & MacLeod (2016), Methods Ecol. Evol. 7(4), for the idea of extending a fitted design.

    >>> from glmmjax import Control, datasets, glmm, power
    >>> fit = glmm("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"), control=Control(compilation="quick"))
    >>> found = power(fit, {"Days": 3.0}, sizes={"Subject": [4, 12]}, n=20)
    >>> found.summary()["power"].is_monotonic_increasing
    True
    """
    check_refittable(fit, "power")
    n = whole("power: n", n)
    if not (isinstance(alpha, (float, np.floating)) and 0.0 < alpha < 1.0):
        raise ArgumentError(f"power: alpha must lie between 0 and 1, not {alpha!r}.")
    params = by_name("power: params", params)
    truth, run = with_params(fit, params), Run(progress, None, executor, devices)
    tested = _read_test(fit, test, params)
    varied, plan = _plan(fit.design, sizes, within)
    single = tested[0] if isinstance(tested, tuple) and len(tested) == 1 else None
    points = []
    for size, copies in plan:
        larger = with_design(truth, fit.design if copies is None else extended(fit.design, copies))
        Y = larger.simulate(n, seed=seed).T
        many = refit_many(larger, Y, run)
        if not np.any(many.results.done):
            break
        p_values, converged, done = _p_values(many, tested, copies, Y, run)
        estimates = many.params[single].to_numpy() if single else np.full(n, np.nan)
        point = PowerAt(size, p_values, converged, many.verdicts.singular, estimates)
        points.append(_of_replicates(point, done))
        if not np.all(done):
            break
    if not points:
        raise KeyboardInterrupt
    effect = float(truth.params[single]) if single else np.nan
    return Power(fit.formula, _in_words(tested), effect, alpha, varied, tuple(points))


def _of_replicates(point: PowerAt, chosen: np.ndarray) -> PowerAt:
    own = {name: getattr(point, name)[chosen] for name in ("p_values", "converged", "singular", "estimates")}
    return PowerAt(point.size, **own)


def with_params(fit: FormulaFit, params: Mapping[str, Any]) -> FormulaFit:
    """The fit with other values of some parameters, by name or by block.

    Raises:
        ArgumentError: an unknown name, a wrong number of values, or one that is not finite.
    """
    flat = np.concatenate([np.asarray(values, dtype=float) for values in fit.estimates.values()])
    for name, value in params.items():
        if name in fit.estimates:
            at = fit.positions(name)
        elif name in fit.parameter_names:
            at = np.array([fit.parameter_names.index(name)])
        else:
            known = [*fit.parameter_names, *fit.estimates]
            raise ArgumentError(f"power: no parameter is called {name!r}. {did_you_mean(name, known)}")
        given = numbers(f"power: params[{name!r}]", value).reshape(-1)
        if len(given) != len(at) or not np.all(np.isfinite(given)):
            raise ArgumentError(f"power: params[{name!r}] must be {len(at)} finite numbers, not {value!r}.")
        flat[at] = given
    bounds = np.cumsum([len(values) for values in fit.estimates.values()])[:-1]
    return replace(fit, flat=flat, estimates=dict(zip(fit.estimates, np.split(flat, bounds), strict=True)))


def with_design(fit: FormulaFit, design: Design) -> FormulaFit:
    """The same parameters with the rows and groups of another design, effects at zero: something to simulate from."""
    options = fit.options
    layout, _ = lay_out(design, fit.family, options.control.structure, options.covariances, options.priors)
    with double_precision():
        found = [np.asarray(L) for L in factors(layout, {"theta": fit.theta})]
    terms = tuple(
        replace(estimate, levels=term.levels, L=L, b=np.zeros((term.n_levels, len(term.columns))))
        for estimate, (_, term), L in zip(fit.terms, design.terms, found, strict=True)
    )
    return replace(fit, design=design, terms=terms)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact limits of a probability of which k in n were seen.

    >>> [round(x, 4) for x in clopper_pearson(8, 10)]
    [0.4439, 0.9748]
    """
    from scipy.stats import binomtest

    limits = binomtest(k, n).proportion_ci(level, method="exact")
    return float(limits.low), float(limits.high)


def _read_test(fit: FormulaFit, test: Any, params: Mapping[str, Any]) -> Test:
    """The effects of a Wald test, or the smaller fit of a likelihood ratio test."""
    names = [fit.parameter_names[i] for i in fit.reported]
    if isinstance(test, FormulaFit):
        check_refittable(test, "power")
        same = np.array_equal(test.design.rows, fit.design.rows) and np.array_equal(test.design.y, fit.design.y)
        if not same or test.df >= fit.df:
            raise ArgumentError("power: test= must be the fit of a smaller model to the same rows of the same data.")
        reason = not_nested(test.family, fit.family)
        if not same_priors(test.options.priors, fit.options.priors):
            reason = "the two have different priors"
        if reason:
            raise ArgumentError(f"power: test= must be the fit of a special case of the model: {reason}.")
        return test
    if test is None:
        effects = [name for name in params if name in names]
        if len(effects) != 1:
            raise ArgumentError(f"power: say with test= which effect is tested. {did_you_mean('', names)}")
        return (effects[0],)
    if not isinstance(test, (str, Sequence)) or not len(test):
        raise ArgumentError(f"power: test= must be an effect, several, or the fit of a smaller model, not {test!r}.")
    effects = [test] if isinstance(test, str) else list(test)
    for name in effects:
        if name not in names:
            raise ArgumentError(f"power: no effect is called {name!r}. {did_you_mean(name, names)}")
    return tuple(effects)


def _plan(
    design: Design, sizes: Mapping[str, Sequence[int]] | None, rows: Mapping[str, Sequence[int]] | None
) -> tuple[str, list[tuple[int, Copies | None]]]:
    """What is varied, and for each size the copies that make the design."""
    if sizes is not None and rows is not None:
        raise ArgumentError("power: give sizes= or within=, one at a time.")
    asked, name, copy = (sizes, "sizes", groups) if rows is None else (rows, "within", within)
    if asked is None:
        return "rows", [(design.n, None)]
    if not isinstance(asked, Mapping) or len(asked) != 1:
        raise ArgumentError(f"power: {name}= must name one grouping factor and its sizes, like {{'id': [10, 20]}}.")
    (factor, wanted), terms = next(iter(asked.items())), {term.group: term for _, term in design.terms}
    if factor not in terms:
        raise ArgumentError(f"power: {name}= names no grouping factor: {factor!r}. {did_you_mean(factor, terms)}")
    values = list(np.atleast_1d(np.asarray(wanted)))
    if not values or any(not isinstance(size, np.integer) or size < (2 if rows is None else 1) for size in values):
        least = "2 groups" if rows is None else "1 row"
        raise ArgumentError(f"power: {name}[{factor!r}] must be whole numbers of at least {least}, not {wanted!r}.")
    varied = factor if rows is None else f"rows per {factor}"
    return varied, [(int(size), copy(terms[factor].index, int(size))) for size in values]


def _p_values(
    many: Many, tested: Test, copies: Copies | None, Y: np.ndarray, run: Run
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The p-values (n,), and which replicates converged, and were done at all, in all that the test needs."""
    done = many.results.done
    if isinstance(tested, tuple):
        return many.wald_test(tested).p_value.to_numpy(), many.verdicts.converged, done
    smaller = tested if copies is None else with_design(tested, extended(tested.design, copies))
    null = refit_many(smaller, Y, run)
    both = many.verdicts.converged & null.verdicts.converged
    return many.likelihood_ratio_test(null).p_value.to_numpy(), both, done & null.results.done


def _in_words(tested: Test) -> str:
    if isinstance(tested, FormulaFit):
        return f"the likelihood ratio test against {tested.formula!r}"
    return f"the Wald test of {' and '.join(tested)}"
