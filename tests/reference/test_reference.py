"""Every model of cases.json: glmmjax agrees with R to the tolerances below.

Where the estimate is singular, R stops at a point near the boundary: there the fitted values are compared more loosely,
and the standard deviations and correlations at the boundary are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import CASES

if TYPE_CHECKING:
    from glmmjax.result import Fit


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_r(name: str, fitted: Callable[[str], Fit]) -> None:
    """One test for each case, so that every model is fitted once, whichever process runs it."""
    fit, case = fitted(name), CASES[name]
    assert fit.converged and fit.pd_hess
    assert ("singular" in fit.status) == case["singular"]
    check_likelihood(fit, case["reference"])
    check_fixed_effects(fit, case["reference"])
    np.testing.assert_allclose(
        fit.fitted()[:6], case["reference"]["fitted_head"], rtol=1e-3 if case["singular"] else 1e-4
    )
    if case["reference"]["varcorr"] and not case["singular"]:
        check_covariances(fit, case["reference"])
        check_modes(fit, case["reference"])


def check_likelihood(fit: Fit, expected: dict[str, Any]) -> None:
    assert fit.llf == pytest.approx(expected["logLik"], rel=1e-6)
    assert [fit.df, fit.aic, fit.bic] == pytest.approx([expected[k] for k in ("df", "AIC", "BIC")], rel=1e-6)
    assert fit.sigma == pytest.approx(expected["sigma"], rel=1e-4)


def check_fixed_effects(fit: Fit, expected: dict[str, Any]) -> None:
    est, se = (np.array(expected["coef"]["cond"][k]) for k in ("est", "se"))
    np.testing.assert_allclose((fit.params.to_numpy() - est) / se, 0.0, atol=1e-4)
    np.testing.assert_allclose(fit.bse.to_numpy(), se, rtol=1e-3)


def check_covariances(fit: Fit, expected: dict[str, Any]) -> None:
    blocks: dict[str, list[dict[str, Any]]] = {}
    for group, block in expected["varcorr"]["cond"].items():
        blocks.setdefault(factor(group), []).append(block)
    assert {factor(term.group) for term in fit.terms} == set(blocks)
    for group, theirs in blocks.items():
        ours = [term for term in fit.terms if factor(term.group) == group]
        sd = np.concatenate([term.sd for term in ours])
        np.testing.assert_allclose(sd, np.concatenate([block["sd"] for block in theirs]), rtol=1e-4)
        r = np.concatenate([term.correlations for term in ours])
        corr = np.atleast_2d(theirs[0]["corr"])
        np.testing.assert_allclose(r, corr[np.tril_indices(len(corr), -1)][: len(r)], atol=1e-4)


def check_modes(fit: Fit, expected: dict[str, Any]) -> None:
    modes = {factor(group): frame for group, frame in fit.ranef().items()}
    for group, rows in expected["ranef_head"].items():
        frame = modes[factor(group)]
        if ":" in group or len(rows[0]) - 1 != frame.shape[1]:
            continue  # levels of nested factors, and several terms on one factor, are labeled in another way
        ours = frame.loc[[row["_row"] for row in rows]].to_numpy()
        theirs = np.array([[value for key, value in row.items() if key != "_row"] for row in rows])
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * (1.0 + np.abs(theirs).max()))


def factor(group: str) -> str:
    """One name for a nested factor, which R writes `b:a`, and for a second term on a factor, in R `g.1`."""
    return ":".join(sorted(group.partition(".")[0].split(":")))


def test_a_balanced_design_has_the_least_squares_estimate(fitted: Callable[[str], Fit]) -> None:
    """Every subject has the same days: beta is that of least squares, whatever the variances."""
    fit = fitted("sleepstudy_us_ml")
    X = fit.design.components["cond"].X
    beta = np.linalg.lstsq(X, fit.design.y, rcond=None)[0]
    np.testing.assert_allclose((fit.params - beta) / fit.bse, 0.0, atol=1e-6)
