"""Every model of cases.json: glmmjax agrees with R to the tolerances below.

Where the estimate is singular, R stops at a point near the boundary: there the log-likelihood, the fixed effects and
the fitted values are compared, more loosely, and the values at the boundary are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import CASES

if TYPE_CHECKING:
    from glmmjax.result import Fit

REGULAR = [name for name, case in CASES.items() if not case["singular"]]
MIXED = [name for name in REGULAR if CASES[name]["reference"]["varcorr"]]


def factor(group: str) -> str:
    """One name for a nested factor, which R writes `b:a`, and for a second term on a factor, in R `g.1`."""
    return ":".join(sorted(group.partition(".")[0].split(":")))


def blocks(reference: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The covariance blocks of R by factor, in R's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group, block in reference["varcorr"]["cond"].items():
        found.setdefault(factor(group), []).append(block)
    return found


@pytest.mark.parametrize("name", CASES)
def test_likelihood_and_fixed_effects(name: str, fitted: Callable[[str], Fit]) -> None:
    fit, expected, loose = fitted(name), CASES[name]["reference"], CASES[name]["singular"]
    assert fit.converged
    assert fit.llf == pytest.approx(expected["logLik"], rel=1e-6)
    assert [fit.df, fit.aic, fit.bic] == pytest.approx([expected[k] for k in ("df", "AIC", "BIC")], rel=1e-6)
    est, se = (np.array(expected["coef"]["cond"][k]) for k in ("est", "se"))
    np.testing.assert_allclose((fit.params.to_numpy() - est) / se, 0.0, atol=1e-4)
    np.testing.assert_allclose(fit.bse.to_numpy(), se, rtol=1e-3)
    assert fit.sigma == pytest.approx(expected["sigma"], rel=1e-4)
    np.testing.assert_allclose(fit.fitted()[:6], expected["fitted_head"], rtol=1e-3 if loose else 1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_standard_deviations_and_correlations(name: str, fitted: Callable[[str], Fit]) -> None:
    fit, expected = fitted(name), blocks(CASES[name]["reference"])
    assert {factor(term.group) for term in fit.terms} == set(expected)
    for group, theirs in expected.items():
        ours = [term for term in fit.terms if factor(term.group) == group]
        sd = np.concatenate([term.sd for term in ours])
        np.testing.assert_allclose(sd, np.concatenate([block["sd"] for block in theirs]), rtol=1e-4)
        r = np.concatenate([term.correlations for term in ours])
        corr = np.atleast_2d(theirs[0]["corr"])
        np.testing.assert_allclose(r, corr[np.tril_indices(len(corr), -1)][: len(r)], atol=1e-4)


@pytest.mark.parametrize("name", MIXED)
def test_conditional_modes(name: str, fitted: Callable[[str], Fit]) -> None:
    modes = {factor(group): frame for group, frame in fitted(name).ranef().items()}
    for group, rows in CASES[name]["reference"]["ranef_head"].items():
        frame = modes[factor(group)]
        if ":" in group or len(rows[0]) - 1 != frame.shape[1]:
            continue  # levels of nested factors, and several terms on one factor, are labeled in another way
        ours = frame.loc[[row["_row"] for row in rows]].to_numpy()
        theirs = np.array([[value for key, value in row.items() if key != "_row"] for row in rows])
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * (1.0 + np.abs(theirs).max()))


def test_every_singular_case_is_called_singular(fitted: Callable[[str], Fit]) -> None:
    said = {name: fitted(name).status for name, case in CASES.items() if case["singular"]}
    assert said and [name for name, status in said.items() if "singular" not in status] == []
