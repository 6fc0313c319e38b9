"""Models side by side: likelihood-ratio tests and information criteria."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax.nesting import SHORTFALL, not_comparable, not_nested, same_priors

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.formula_fit import FormulaFit

BEHIND = "; log-likelihood below that of the model before it: not nested, or not at its maximum"
PENALIZED = "; penalized: the log-likelihood at the estimates that the priors pull"


def anova(*fits: FormulaFit) -> pd.DataFrame:
    """Likelihood-ratio tests of two or more nested models, smallest first, each against the one before it.

    ``chisq = 2 (llf - llf of the model before)``, chi-squared with ``chi_df`` more parameters where the smaller holds.

    Returns a data frame with one row per model, labeled by formula, and columns df, aic, bic, llf, deviance, chisq,
    chi_df, p_value and status: how the fit ended, and whether the test is sound.

    The models must be nested; of the formulas that is not checked. Families may differ where one is a special case of
    the other, as Poisson is of nbinom2 and nbinom1. Where the smaller model puts a parameter at the boundary of its
    range, a variance at zero or the dispersion of nbinom2 at infinity, the reference distribution is a mixture of
    chi-squared distributions and the p-value is too large: for one variance, twice as large as it should be.

    Penalized fits, with the same priors, are compared by their log-likelihoods without the priors, whose difference has
    the reference distribution only nearly: their status says so.

    Raises:
        ArgumentError: fewer than two fits, fits of different data, with different priors, with families of which none
            is a special case of the other, or two fits with the same number of parameters.

    Source: S. G. Self, K.-Y. Liang (1987), J. Am. Stat. Assoc. 82(398), for parameters at a boundary.

    >>> from glmmjax import datasets, glmm
    >>> data = datasets.load("dyestuff")
    >>> table = anova(glmm("Yield ~ 1", data), glmm("Yield ~ 1 + (1 | Batch)", data))
    >>> table["chi_df"].to_list()[1]
    1.0
    """
    import pandas as pd
    from scipy.special import chdtrc

    _check("anova", fits)
    labels, ordered = _ordered(fits, lambda fit: fit.df)
    for k in range(1, len(ordered)):
        reason = not_nested(ordered[k - 1].family, ordered[k].family)
        if reason:
            raise ArgumentError(f"anova: {reason}; compare them with glmmjax.aic_table.")
        if ordered[k].df == ordered[k - 1].df:
            raise ArgumentError(
                f"anova: {labels[k - 1]!r} and {labels[k]!r} both have {ordered[k].df} parameters, so neither holds "
                "the other as a special case; compare them with glmmjax.aic_table."
            )
    llf = np.array([fit.llf for fit in ordered])
    df = np.array([fit.df for fit in ordered])
    chisq, chi_df = np.r_[np.nan, 2.0 * np.diff(llf)], np.r_[np.nan, np.diff(df)]
    behind = chisq < -SHORTFALL
    chisq = np.where(behind, chisq, np.maximum(chisq, 0.0))
    p_value = np.where(behind, np.nan, chdtrc(chi_df, np.maximum(chisq, 0.0)))
    return pd.DataFrame(
        {
            "df": df,
            "aic": [fit.aic for fit in ordered],
            "bic": [fit.bic for fit in ordered],
            "llf": llf,
            "deviance": -2.0 * llf,
            "chisq": chisq,
            "chi_df": chi_df,
            "p_value": p_value,
            "status": [_status(fit) + (BEHIND if bad else "") for fit, bad in zip(ordered, behind, strict=True)],
        },
        index=pd.Index(labels, name="model"),
    )


def aic_table(*fits: FormulaFit) -> pd.DataFrame:
    """Models of the same data by Akaike's information criterion, the best first; they need not be nested.

    ``weight = exp(-delta / 2) / sum exp(-delta / 2)``, with delta the distance to the smallest AIC. Of penalized fits,
    with the same priors, it is that of the log-likelihood at the penalized estimates with every parameter counted,
    which is too large where the priors leave little freedom: their status says so.

    Returns a data frame with one row per model, labeled by formula, and columns df, aic, delta, weight and status.

    Raises:
        ArgumentError: fewer than two fits, fits of different data, with different priors, or a family of probabilities
            beside one of densities.

    Source: K. P. Burnham, D. R. Anderson (2002), Model Selection and Multimodel Inference, 2nd ed., section 2.9.

    >>> from glmmjax import datasets, glmm
    >>> data = datasets.load("dyestuff")
    >>> table = aic_table(glmm("Yield ~ 1", data), glmm("Yield ~ 1 + (1 | Batch)", data))
    >>> table.index[0]
    'Yield ~ 1 + (1 | Batch)'
    """
    import pandas as pd

    _check("aic_table", fits)
    labels, ordered = _ordered(fits, lambda fit: fit.aic)
    delta = np.array([fit.aic for fit in ordered]) - ordered[0].aic
    weight = np.exp(-0.5 * delta)
    return pd.DataFrame(
        {
            "df": [fit.df for fit in ordered],
            "aic": [fit.aic for fit in ordered],
            "delta": delta,
            "weight": weight / np.sum(weight),
            "status": [_status(fit) for fit in ordered],
        },
        index=pd.Index(labels, name="model"),
    )


def _status(fit: FormulaFit) -> str:
    return fit.status + (PENALIZED if fit.options.priors else "")


def _check(what: str, fits: Sequence[Any]) -> None:
    """Raise unless the fits are two or more of the same response in the same rows with the same weights."""
    from glmmjax.formula_fit import FormulaFit

    for fit in fits:
        if not isinstance(fit, FormulaFit):
            raise ArgumentError(f"{what} compares fits, as in {what}(fit0, fit1), but got {type(fit).__name__!r}.")
    if len(fits) < 2:
        raise ArgumentError(f"{what} needs two fits or more, as in {what}(fit0, fit1), but got {len(fits)}.")
    first, *others = fits
    for fit in others:
        difference = _difference(first, fit)
        if difference:
            raise ArgumentError(f"{what}: {difference}, so their likelihoods cannot be compared. Fit both to the same.")
        reason = not_comparable(first.family, fit.family)
        if reason:
            raise ArgumentError(f"{what}: {reason}.")


def _difference(a: FormulaFit, b: FormulaFit) -> str:
    """How the data of two fits differ, in words; empty if they do not."""
    names = " and ".join(repr(label) for label in _labels([a, b]))
    if a.nobs != b.nobs:
        return f"{names} use {a.nobs} and {b.nobs} rows (missing values?)"
    if not np.array_equal(a.design.rows, b.design.rows):
        return f"{names} use different rows of the data (missing values?)"
    if not (_equal(a.design.y, b.design.y) and _equal(a.design.trials, b.design.trials)):
        return f"{names} have different responses"
    if not _equal(a.design.weights, b.design.weights):
        return f"{names} have different weights"
    if not same_priors(a.options.priors, b.options.priors):
        return f"{names} have different priors, which pull their estimates away from the maximum of the likelihood"
    if a.options.reml != b.options.reml:
        return f"one of {names} was fitted by restricted maximum likelihood, the other was not"
    fixed = [fit.design.components["cond"].columns for fit in (a, b)]
    if a.options.reml and fixed[0] != fixed[1]:
        return f"{names} have different fixed effects, over which restricted maximum likelihood integrates"
    return ""


def _equal(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal up to the rounding of a proportion times its trials."""
    return bool(np.allclose(x, y, rtol=1e-9, atol=0.0))


def _ordered(fits: Sequence[FormulaFit], key: Callable[[FormulaFit], float]) -> tuple[list[str], list[FormulaFit]]:
    """Labels and fits in the order of ``key``."""
    pairs = sorted(zip(_labels(fits), fits, strict=True), key=lambda pair: key(pair[1]))
    return [label for label, _ in pairs], [fit for _, fit in pairs]


def _labels(fits: Sequence[FormulaFit]) -> list[str]:
    """A label for each fit: its formula, with what tells those apart that share one in front of it."""
    distinctions: list[list[str]] = [
        [f"{fit.family.name}({fit.family.link.name})" for fit in fits],
        [", ".join(f"{name} {f.text}" for name, f in fit.design.formulas.items() if name != "cond") for fit in fits],
        [f"#{k + 1}" for k in range(len(fits))],
    ]
    labels = [" ".join(fit.formula.split()) for fit in fits]
    for prefixes in distinctions:
        shared = Counter(labels)
        pairs = zip(prefixes, labels, strict=True)
        labels = [f"{prefix}: {label}" if prefix and shared[label] > 1 else label for prefix, label in pairs]
    return labels
