"""Residuals: against glmmTMB 1.1.5's residuals() and what defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import glmmjax as gj
from glmmjax import ArgumentError, FamilyError, Fit
from glmmjax.families import LINKS, Family

Fitted = Callable[[str], Fit]

# residuals(fit, type) of glmmTMB 1.1.5 in 0-based rows; Pearson's for gaussian and Gamma models over sigma(fit)
R_RESIDUALS: list[tuple[str, str, list[int], list[float]]] = [
    ("cbpp_nested", "response", [0, 1, 55], [-0.02022655980, 0.09709404779, -0.02432492040]),
    ("cbpp_nested", "pearson", [0, 1, 55], [-0.2048517822, 0.9345557611, -0.6115313658]),
    ("cbpp_nested", "working", [0, 1, 55], [-0.1481935954, 0.7496120948, -1.0249313741]),
    ("salamanders_nb2", "response", [0, 99, 643], [-0.1977591211, -0.5234151965, 3.6802983353]),
    ("salamanders_nb2", "pearson", [0, 99, 643], [-0.4042995986, -0.5800981578, 5.6244654555]),
    ("salamanders_nb2", "working", [0, 99, 643], [-1.0, -1.0, 11.5116646]),
    ("salamanders_weights", "pearson", [0, 99, 643], [-0.5006596497, -0.7576753217, 12.1516304027]),
    ("sleepstudy_us_ml", "pearson", [0, 1, 179], [-0.1821202602, -0.5884267167, -0.2110924694]),
    ("sleepstudy_gamma", "pearson", [0, 1, 179], [-1.37275912847, -1.35350717323, -0.07532963866]),
    ("sleepstudy_gamma", "working", [0, 1, 179], [-0.13266573977, -0.13080519860, -0.00727998236]),
    ("dispersed", "pearson", [0, 99, 643], [-0.4747215163, -0.7602880391, 5.0382665591]),
]


@pytest.mark.parametrize(("name", "type", "rows", "expected"), R_RESIDUALS)
def test_agrees_with_glmmtmb(name: str, type: str, rows: list[int], expected: list[float], fitted: Fitted) -> None:
    if name == "dispersed":
        fit = gj.glmm("count ~ mined", gj.datasets.load("salamanders"), family="nbinom2", dispformula="~ DOY")
    else:
        fit = fitted(name)
    assert_allclose(fit.resid(type)[rows], expected, rtol=1e-5)


def test_pearson_residuals_of_counts_and_proportions_are_the_same(fitted: Fitted) -> None:
    counts, proportions = fitted("cbpp_binomial"), fitted("cbpp_proportion")
    assert_allclose(counts.resid("pearson"), proportions.resid("pearson"), rtol=1e-5, atol=1e-7)


def test_rows_without_trials_have_no_residual(fitted: Fitted) -> None:
    fit = fitted("cbpp_binomial")
    y, trials = fit.design.y.copy(), fit.design.trials.copy()
    y[0] = trials[0] = 0.0
    empty = replace(fit, design=replace(fit.design, y=y, trials=trials))
    for type in ("response", "pearson", "working"):
        assert np.isnan(empty.resid(type)[0]) and np.isfinite(empty.resid(type)[1:]).all()


def test_errors_name_what_is_wrong(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    with pytest.raises(ArgumentError, match=r"type='person'. Did you mean 'pearson'.*'response', 'working'"):
        fit.resid("person")
    private = Family("private", LINKS["identity"], lambda y, eta, trials, link: (y - eta["cond"]) ** 2)
    with pytest.raises(FamilyError, match="variance"):
        replace(fit, family=private).resid("pearson")
    assert_allclose(replace(fit, family=private).resid(), fit.resid())
