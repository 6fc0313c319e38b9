"""Predictions and their standard errors: against glmmTMB 1.1.5's predict, Henderson's equations and the fit itself."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import glmmjax as gj
from glmmjax import ArgumentError, DataError, Fit
from glmmjax.families import resolve_family
from glmmjax.prediction import Prediction

Fitted = Callable[[str], Fit]


@pytest.fixture(scope="module")
def wine() -> Fit:
    """Two crossed factors."""
    return gj.glmm("response ~ contact + (1 | judge) + (1 | bottle)", gj.datasets.load("wine"))


@pytest.fixture(scope="module")
def dispersed() -> Fit:
    """A dispersion that varies between rows."""
    return gj.glmm("count ~ mined", gj.datasets.load("salamanders"), family="nbinom2", dispformula="~ DOY")


@pytest.fixture(scope="module")
def curved() -> Fit:
    """Transforms that must be coded in new data as in the data of the fit; no random effects."""
    formula = "count ~ spp + bs(DOY, df=4) + poly(cover, 2) + C(mined, contr.sum) + log(sample)"
    return gj.glmm(formula, gj.datasets.load("salamanders"), family="poisson")


# predict(fit, ..., se.fit = TRUE) of glmmTMB 1.1.5 at a Newton-polished optimum, in 0-based rows of the fit or new data
R_PREDICTIONS: list[tuple[str, str, Any, dict[str, Any], list[float], list[float]]] = [
    ("sleepstudy_us_ml", "response", [0, 99], {}, [254.220788, 457.968389], [12.9451358, 14.1394321]),
    (
        "sleepstudy_us_ml",
        "link",
        {"Days": [0, 9, 3.5], "Subject": ["308", "372", "new"]},
        {"allow_new_levels": True},
        [254.220788, 369.525840, 288.040606],
        [12.9451358, 13.8128786, 33.2460342],
    ),
    (
        "sleepstudy_us_ml",
        "response",
        {"Days": [0, 9, 3.5]},
        {"re_form": "NA"},
        [251.405105, 345.610678, 288.040606],
        [6.63227681, 14.21662449, 7.87645248],
    ),
    # a missing group is the population
    (
        "sleepstudy_us_ml",
        "response",
        {"Days": [0, 9], "Subject": [None, "372"]},
        {},
        [251.405105, 369.525840],
        [6.63227681, 13.81287863],
    ),
    (
        "sleepstudy_uncorrelated",
        "response",
        [0, 99, 179],
        {},
        [253.259761, 457.807228, 369.367542],
        [12.5226678, 14.1861138, 13.8609025],
    ),
    ("sleepstudy_gamma", "response", [0, 99], {}, [287.732206, 427.760399], [9.2187577, 13.6140586]),
    (
        "cbpp_nested",
        "response",
        [0, 1, 29, 55],
        {},
        [0.1630837027, 0.1529059522, 0.0484143629, 0.0243249204],
        [0.0887565099, 0.0852934246, 0.0410689615, 0.0215500152],
    ),
    (
        "cbpp_nested",
        "link",
        [0, 1, 29, 55],
        {},
        [-1.63546048, -1.71198868, -2.97833316, -3.69162826],
        [0.650290828, 0.658505687, 0.891438982, 0.908010648],
    ),
    (
        "cbpp_nested",
        "response",
        [0, 1, 29, 55],
        {"re_form": "~ 0"},
        [0.1823820015, 0.0614103075, 0.0614103075, 0.0333571553],
        [0.0442455206, 0.0230133743, 0.0230133743, 0.0172112710],
    ),
    (
        "salamanders_nb2",
        "response",
        [0, 99, 643],
        {},
        [0.197759121, 0.523415197, 0.319701665],
        [0.0763418549, 0.1673617121, 0.1146180570],
    ),
    (
        "wine",
        "response",
        [0, 36, 71],
        {},
        [42.6454208, 47.9783336, 60.1698876],
        [5.78081566, 5.47694818, 5.51743738],
    ),
    (
        "wine",
        "response",
        {"contact": ["no", "yes", "yes"], "judge": ["j1", "new", "j9"], "bottle": ["8", "3", "99"]},
        {"allow_new_levels": True},
        [63.2472900, 43.9566614, 50.0637698],
        [9.84759819, 9.61389713, 13.23131558],
    ),
    (
        "dispersed",
        "disp",
        [0, 99, 643],
        {},
        [0.925282942, 0.784705758, 0.366770419],
        [0.2083775493, 0.1366127456, 0.0727432621],
    ),
]


@pytest.mark.parametrize(("name", "type", "rows", "arguments", "mean", "se"), R_PREDICTIONS)
def test_agrees_with_glmmtmb(
    name: str,
    type: str,
    rows: Any,
    arguments: dict[str, Any],
    mean: list[float],
    se: list[float],
    fitted: Fitted,
    wine: Fit,
    dispersed: Fit,
) -> None:
    fit = {"wine": wine, "dispersed": dispersed}.get(name) or fitted(name)
    newdata, where = (rows, slice(None)) if isinstance(rows, dict) else (None, rows)
    prediction = fit.predict(newdata, type=type, se=True, **arguments)
    # glmmTMB takes its Hessian by differences of gradients, hence the wider limit for standard errors
    assert_allclose(prediction.predicted_mean[where], mean, rtol=2e-6)
    assert_allclose(prediction.se[where], se, rtol=2e-5)
    assert_allclose(fit.predict(newdata, type=type, **arguments), prediction.predicted_mean, rtol=1e-15)


def test_variance_solves_hendersons_equations(wine: Fit) -> None:
    """With variances known, Var = [X Z] M^-1 [X Z]' with M the matrix of the mixed-model equations (Henderson 1975)."""
    part = wine.design.components["cond"]
    indicators = [np.eye(len(t.levels))[t.index] for t in part.terms]
    C = np.hstack([part.X, *indicators]) / wine.sigma
    prior = np.concatenate([np.zeros(2), *(np.full(len(t.levels), t.L.item() ** -2) for t in wine.terms)])
    M_inverse = np.linalg.inv(C.T @ C + np.diag(prior))
    vcov = np.full_like(wine.vcov, np.nan)  # NaN: known
    vcov[:2, :2] = M_inverse[:2, :2]
    known = replace(wine, vcov=vcov, verdict=replace(wine.verdict, vcov=vcov, known=np.nan_to_num(vcov)))

    rows = np.hstack([part.X, *indicators])
    expected = np.sqrt(np.einsum("ij,jk,ik->i", rows, M_inverse, rows))
    assert_allclose(known.get_prediction().se, expected, rtol=1e-9)
    rows[:, 2 : 2 + len(part.terms[0].levels)] = 0.0
    expected = np.sqrt(np.einsum("ij,jk,ik->i", rows, M_inverse, rows))
    assert_allclose(known.get_prediction(re_form="~ (1 | bottle)").se, expected, rtol=1e-9)


def test_prediction_reports(fitted: Fitted) -> None:
    fit = fitted("cbpp_nested")
    link, response = fit.get_prediction(type="link"), fit.get_prediction()
    assert_allclose(response.predicted_mean, 1 / (1 + np.exp(-link.predicted_mean)), rtol=1e-12)
    lower, upper = response.conf_int(0.9).T
    half = 1.6448536269514722 * link.se
    assert_allclose(lower, 1 / (1 + np.exp(half - link.linear)), rtol=1e-10)
    assert_allclose(upper, 1 / (1 + np.exp(-half - link.linear)), rtol=1e-10)
    mu = response.predicted_mean
    assert_allclose(response.se, mu * (1 - mu) * link.se, rtol=1e-8)
    frame = fit.predict(interval="confidence", level=0.9)
    assert list(frame.columns) == ["mean", "mean_se", "mean_ci_lower", "mean_ci_upper"]
    assert_allclose(frame.to_numpy(), np.column_stack([mu, response.se, lower, upper]))
    assert_allclose(pickle.loads(pickle.dumps(response)).se, response.se)


@pytest.mark.parametrize(
    ("family", "eta", "limits"),
    [
        ("Gamma(inverse)", 0.5, (1 / 1.5, np.inf)),
        ("gaussian(inverse)", -0.5, (-np.inf, -1 / 1.5)),
        ("poisson(sqrt)", 0.5, (0.0, 2.25)),
        ("poisson(identity)", 0.5, (0.0, 1.5)),
        ("binomial(log)", -0.5, (np.exp(-1.5), 1.0)),
        ("poisson", 0.5, (np.exp(-0.5), np.exp(1.5))),
    ],
)
def test_limits_stay_in_the_range_of_the_mean(family: str, eta: float, limits: tuple[float, float]) -> None:
    prediction = Prediction(np.array([eta]), np.array([1 / 1.959963984540054]), resolve_family(family).link, [0])
    assert_allclose(prediction.conf_int(), [limits], rtol=1e-12)


@pytest.mark.parametrize("kind", ["pandas", "polars", "dict"])
def test_new_data_of_every_kind_repeat_the_fit(kind: str, fitted: Fitted) -> None:
    fit, data = fitted("cbpp_nested"), gj.datasets.load("cbpp").drop(columns=["incidence", "size"])
    if kind == "polars":
        newdata: Any = pytest.importorskip("polars").DataFrame({name: data[name].to_numpy() for name in data})
    else:
        newdata = data if kind == "pandas" else {name: data[name].to_numpy() for name in data}
    assert_allclose(fit.predict(newdata), fit.fitted(), rtol=1e-12)


def test_rows_of_new_data_alone_are_coded_as_together(curved: Fit) -> None:
    data = gj.datasets.load("salamanders")
    for row in (0, 250, 643):
        assert_allclose(curved.predict(data.iloc[[row]]), curved.fitted()[[row]], rtol=1e-10)
    frame = data.iloc[[643, 0]]
    one = curved.predict(frame, se=True)
    assert_allclose(one.se, curved.predict(se=True).se[[643, 0]], rtol=1e-8)
    assert list(one.summary_frame().index) == list(frame.index)


def test_scalars_make_one_row(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    assert_allclose(fit.predict({"Days": 0, "Subject": "308"}), fit.fitted()[:1], rtol=1e-12)


def test_missing_predictors_give_nan(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    newdata = pd.DataFrame({"Days": [np.nan, 0.0], "Subject": ["308", "308"]}, index=["a", "b"])
    frame = fit.predict(newdata, interval="confidence")
    assert frame.loc["a"].isna().all() and list(frame.index) == ["a", "b"]
    assert_allclose(frame.loc["b", "mean"], fit.fitted()[0])
    assert_allclose(fit.predict(newdata), [np.nan, fit.fitted()[0]])


TERMS: list[tuple[str, str | None, list[int]]] = [
    ("sleepstudy_uncorrelated", None, [0, 1]),
    ("sleepstudy_uncorrelated", "NA", []),
    ("sleepstudy_uncorrelated", "~0", []),
    ("sleepstudy_uncorrelated", "~ (1 | Subject)", [0]),
    ("sleepstudy_uncorrelated", "~ (Days - 1 | Subject)", [1]),
    ("sleepstudy_uncorrelated", "~ (0 + Days | Subject) + (1|Subject)", [0, 1]),
    ("sleepstudy_us_ml", "~ (1 + Days | Subject)", [0]),
    ("cbpp_nested", "~ (1 | herd)", [0]),
    ("cbpp_nested", "~ (1 | period:herd)", [1]),
    ("cbpp_nested", "~ (1 | herd/period)", [0, 1]),
]


@pytest.mark.parametrize(("name", "re_form", "terms"), TERMS)
def test_re_form_chooses_terms(name: str, re_form: str | None, terms: list[int], fitted: Fitted) -> None:
    fit = fitted(name)
    part = fit.design.components["cond"]
    expected = part.X @ fit.params.to_numpy()
    for t in terms:
        expected = expected + np.sum(part.terms[t].Z * fit.terms[t].b[part.terms[t].index], axis=1)
    assert_allclose(fit.predict(type="link", re_form=re_form), expected, rtol=1e-12)


def test_only_the_columns_that_are_needed(wine: Fit, dispersed: Fit) -> None:
    one = wine.predict({"contact": ["yes"], "judge": ["j1"]}, re_form="~ (1 | judge)")
    assert_allclose(one, wine.params.sum() + wine.ranef()["judge"].loc["j1"], rtol=1e-12)
    assert_allclose(dispersed.predict({"mined": ["no"]}), np.exp(dispersed.params.iloc[0]), rtol=1e-12)
    assert_allclose(dispersed.predict({"DOY": [0.0]}, type="disp"), np.exp(dispersed.estimates["beta_disp"][:1]))


def test_offsets(fitted: Fitted) -> None:
    as_array, in_formula = fitted("owls_offset_argument"), fitted("owls_nb2_offset")
    newdata = gj.datasets.load("owls").iloc[:5]
    offset = np.log(newdata["BroodSize"].to_numpy())
    assert_allclose(as_array.predict(newdata, offset=offset), in_formula.predict(newdata), rtol=1e-5)
    assert_allclose(as_array.predict(newdata, offset=offset), as_array.fitted()[:5], rtol=1e-12)
    assert_allclose(as_array.predict(newdata, type="disp"), np.full(5, as_array.sigma))
    with pytest.raises(ArgumentError, match="offset="):
        as_array.predict(newdata)
    with pytest.raises(ArgumentError, match="goes with newdata="):
        as_array.predict(offset=offset)
    with pytest.raises(DataError, match="'BroodSize' in offset"):
        in_formula.predict(newdata.drop(columns="BroodSize"))


def test_no_standard_errors_without_a_positive_definite_hessian(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    broken = replace(fit, vcov=np.full_like(fit.vcov, np.nan), verdict=replace(fit.verdict, pd_hess=False))
    frame = broken.predict({"Days": 1.0}, re_form="NA", interval="confidence")
    assert np.isfinite(frame["mean"]).all() and frame.iloc[:, 1:].isna().all(axis=None)


SUBJECT = {"Days": [1.0, 2.0], "Subject": ["308", "999"]}
BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("sleepstudy_us_ml", {"newdata": SUBJECT}, DataError, "'999'"),
    ("sleepstudy_us_ml", {"newdata": {"Days": [1.0]}}, DataError, "'Subject'"),
    ("sleepstudy_us_ml", {"newdata": {"day": [1.0]}, "re_form": "NA"}, DataError, "'Days'.*Did you mean 'day'"),
    ("sleepstudy_us_ml", {"type": "reponse"}, ArgumentError, "Did you mean 'response'.*'disp', 'link', 'probs'"),
    ("sleepstudy_us_ml", {"type": "zprob"}, ArgumentError, "fit with ziformula="),
    ("cbpp_nested", {"type": "disp"}, ArgumentError, "'binomial' has none"),
    ("sleepstudy_us_ml", {"interval": "wald"}, ArgumentError, "'confidence'"),
    ("sleepstudy_us_ml", {"interval": "confidence", "level": 95}, ArgumentError, "between 0 and 1"),
    ("sleepstudy_us_ml", {"re_form": "~ (1 | Subject)"}, ArgumentError, r"no .*\(1 \| Subject\).*\(Days \| Subject\)"),
    ("sleepstudy_us_ml", {"re_form": "~ Days"}, ArgumentError, "random-effects terms only"),
    ("sleepstudy_us_ml", {"re_form": 0}, ArgumentError, "re_form must be"),
    ("cbpp_nested", {"newdata": {"period": ["5"], "herd": ["1"]}}, DataError, "Level '5' of 'period'"),
]


@pytest.mark.parametrize(("name", "arguments", "error", "message"), BAD)
def test_errors_name_what_is_wrong(
    name: str, arguments: dict[str, Any], error: type[Exception], message: str, fitted: Fitted
) -> None:
    with pytest.raises(error, match=message):
        fitted(name).predict(**arguments)
