"""The verdict on fits that are no good: each says so in words, and none passes as a good one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import glmmjax as gj
from glmmjax.batch.many import Many

QUIET = gj.Control(warn=False)
LINKS = ("logit", "probit", "cloglog", "loglog", "cauchit")


def test_a_variance_at_zero_is_named_and_the_rest_is_that_of_the_glm() -> None:
    """No variation between groups at all: estimates and standard errors are those of the model without the effect."""
    x = np.tile([0.0, 1.0], 20)
    k = np.tile([1.0, 2.0], 20)
    data = {"k": k, "f": 4 - k, "x": x, "g": np.repeat(np.arange(10), 4)}
    fit = gj.glmm("cbind(k, f) ~ x + (1 | g)", data, "binomial")
    glm = gj.glmm("cbind(k, f) ~ x", data, "binomial")
    assert fit.converged and fit.pd_hess and fit.verdict.good
    assert "boundary (singular) fit: the standard deviation of (1 | g) is zero" in fit.status
    assert fit.llf == pytest.approx(glm.llf, abs=1e-6)
    np.testing.assert_allclose(fit.params, glm.params, atol=1e-5)
    np.testing.assert_allclose(fit.bse, glm.bse, rtol=1e-4)
    assert np.isnan(fit.cov_params(full=True).loc["theta_1 | g.1", "theta_1 | g.1"])
    assert glm.status == "converged"


def test_a_correlation_of_one_is_named() -> None:
    """The effects of a group are proportional to each other, and small beside the noise."""
    rng = np.random.default_rng(1)
    y, x, g = rng.normal(size=60), rng.normal(size=60), np.repeat(np.arange(12), 5)
    fit = gj.glmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g})
    assert fit.converged
    assert abs(fit.terms[0].correlations[0]) > 0.999
    assert "boundary (singular) fit: (x | g) has a variance of zero or a correlation of one" in fit.status
    assert np.all(np.isfinite(fit.bse))


# -- separation --------------------------------------------------------------------------------------------------------
def sound_sets() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Predictors as they are found in the field, and 100 binary responses and 100 of counts that are not separated."""
    rng = np.random.default_rng(11)
    n = 205
    year = np.tile(np.arange(1980.0, 2021.0), 5)
    data = {"year": year, "skewed": rng.lognormal(0.0, 1.5, n), "e": np.full(n, 9.0) + rng.normal(0.0, 2.0, n)}
    t = (year - 2000.0) / 20.0
    eta = 0.4 * t - 0.5 * t**2 + 0.05 * np.minimum(data["skewed"], 20.0)
    binary = rng.binomial(1, 1.0 / (1.0 + np.exp(-eta[:, None])), (n, 100)).astype(float)
    counts = rng.poisson(np.exp(eta[:, None] - 1.0), (n, 100)).astype(float)
    return data, binary, counts


@pytest.mark.parametrize("kind", ["binomial", "poisson"])
def test_sound_data_with_years_squares_skew_and_offsets_have_no_finding(kind: str) -> None:
    data, binary, counts = sound_sets()
    formula = "~ year + I(year**2) + skewed"
    if kind == "poisson":  # the linear predictor is that of the rate, and its intercept far from zero
        formula += " + offset(e)"
    found: Many = gj.fit_many(formula, data, binary if kind == "binomial" else counts, kind)
    assert set(found.status) == {"converged"}
    assert np.all(np.isfinite(found.bse))


@pytest.mark.parametrize("weights", [1e-6, 1.0])
def test_small_weights_and_a_cubic_are_no_finding(weights: float) -> None:
    data, binary, _ = sound_sets()
    given = {**data, "y": binary[:, 0]}
    fit = gj.glmm("y ~ year + I(year**2) + I(year**3)", given, "binomial", weights=np.full(205, weights * 1.5))
    assert fit.status == "converged" and fit.df == 4


def separated_sets() -> tuple[dict[str, np.ndarray], np.ndarray, list[tuple[str, ...]]]:
    """Responses of one design that a program finds separated, each with the columns that are infinite."""
    rng = np.random.default_rng(12)
    n = 120
    f = np.array(["a", "b", "c"])[np.arange(n) % 3]
    x, z = rng.normal(size=n), rng.uniform(1990.0, 2010.0, n)
    columns, responses = [], []
    for k in range(10):
        y = rng.binomial(1, 0.45, n).astype(float)
        way = k % 5
        if way == 0:
            y, named = np.where(f == "b", 1.0, y), ("f[T.b]",)
        elif way == 1:
            y, named = np.where(f == "c", 0.0, y), ("f[T.c]",)
        elif way == 2:
            y, named = np.where(f == "b", 1.0, np.where(f == "c", 0.0, y)), ("f[T.b]", "f[T.c]")
        elif way == 3:
            y, named = np.where(f == "a", 0.0, y), ("(Intercept)", "f[T.b]", "f[T.c]")
        else:
            y, named = (x + 0.01 * (z - 2000.0) > 0.1).astype(float), ("(Intercept)", "f[T.b]", "f[T.c]", "x", "z")
        responses.append(y)
        columns.append(named)
    return {"f": f, "x": x, "z": z}, np.array(responses).T, columns


@pytest.mark.parametrize("link", LINKS)
def test_separation_names_exactly_the_infinite_columns_in_every_link(link: str) -> None:
    """And the rest has the standard errors that it has in the rows that are left."""
    data, Y, expected = separated_sets()
    found = gj.fit_many("~ f + x + z", data, Y, f"binomial({link})")
    for lane, named in enumerate(expected):
        whole = "complete " if len(named) == 5 else ""
        assert f"{whole}separation: infinite estimates of {', '.join(named)}" in found.status[lane]
        finite = [name for name in found.params.columns if name not in named]
        assert np.all(np.isfinite(found.bse.loc[lane, finite])) and np.all(np.isnan(found.bse.loc[lane, list(named)]))
    rest = data["f"] != "b"
    left = gj.glmm("y ~ f + x + z", {**{k: v[rest] for k, v in data.items()}, "y": Y[rest, 0]}, f"binomial({link})")
    np.testing.assert_allclose(found.bse.loc[0, left.params.index], left.bse, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "more", "y", "formula", "named"),
    [
        ("poisson", {}, "count", "y ~ f", ("f[T.b]",)),
        ("nbinom2", {}, "count", "y ~ f", ("f[T.b]",)),
        ("poisson(sqrt)", {}, "count", "y ~ f", ()),
        ("poisson", {"ziformula": "~ f"}, "inflated", "y ~ 1", ("zi:f[T.b]",)),
        ("truncated_poisson", {"ziformula": "~ f"}, "count", "y ~ 1", ("zi:f[T.b]",)),
        ("truncated_poisson", {}, "positive count", "y ~ f", ("f[T.b]",)),
        ("binomial(log)", {}, "zeros", "y ~ f", ("f[T.b]",)),
        ("cumulative", {}, "ordered", "y ~ f", ("f[T.b]",)),
        ("categorical", {}, "categories", "y ~ f", ("category2:f[T.b]",)),
        ("ordbeta", {}, "unit", "y ~ f", ()),
        ("tweedie", {}, "count", "y ~ f", ("f[T.b]",)),
    ],
)
def test_every_kind_of_response_has_its_ends(
    family: str, more: dict[str, Any], y: str, formula: str, named: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(13)
    f = np.repeat(["a", "b"], 40)
    b = f == "b"
    responses = {
        "count": np.where(b, 0.0, rng.poisson(1.5, 80)),
        "inflated": np.where(b, 0.0, rng.poisson(3.0, 80) * rng.binomial(1, 0.6, 80)),
        "positive count": np.where(b, 1.0, 1.0 + rng.poisson(1.5, 80)),
        "zeros": np.where(b, 0.0, rng.binomial(1, 0.4, 80)),
        "ordered": np.where(b, 0.0, rng.integers(0, 3, 80)),
        "categories": np.where(b, rng.integers(0, 2, 80), rng.integers(0, 3, 80)).astype(float),
        "unit": rng.uniform(0.05, 0.95, 80),
    }
    fit = gj.glmm(formula, {"y": responses[y], "f": f}, family, control=QUIET, **more)
    assert fit.verdict.separated == named
    if family != "poisson(sqrt)":  # whose predictor stands at its limit where nothing is counted
        assert np.all(np.isnan(fit.bse[list(named)])) and np.all(np.isfinite(fit.bse.drop(list(named))))


def test_what_is_identified_along_a_separated_direction_keeps_its_error() -> None:
    """The reference level is all zeros: the intercept is infinite, and so are the others, but not their differences."""
    data, Y, _ = separated_sets()
    given = {**data, "y": Y[:, 3]}
    fit = gj.glmm("y ~ f", given, "binomial", control=QUIET)
    rest = data["f"] != "a"
    left = gj.glmm("y ~ f", {"y": Y[rest, 3], "f": data["f"][rest]}, "binomial")
    se = fit.get_prediction({"f": ["a", "b", "c"]}, type="link").se
    np.testing.assert_allclose(se[1:], left.get_prediction({"f": ["b", "c"]}, type="link").se, rtol=1e-4)
    assert np.isnan(se[0])
    contrast = fit.conf_int(parameters=[{"f[T.c]": 1.0, "f[T.b]": -1.0}])
    np.testing.assert_allclose(contrast.to_numpy()[0], left.conf_int().loc["f[T.c]"], rtol=1e-4)


def test_cutpoints_that_no_response_lies_beyond_leave_the_rest_its_errors() -> None:
    rng = np.random.default_rng(14)
    data = {"y": rng.beta(2.0, 3.0, 80), "x": rng.normal(size=80)}
    fit, beta = gj.glmm("y ~ x", data, "ordbeta", control=QUIET), gj.glmm("y ~ x", data, "beta")
    assert "the lower cutpoint is infinite" in fit.status and "the upper cutpoint is infinite" in fit.status
    np.testing.assert_allclose(fit.bse, beta.bse, rtol=1e-4)


def test_all_responses_at_one_end_are_separated_and_nothing_else() -> None:
    data = {"y": np.zeros(60), "x": np.linspace(-1.0, 1.0, 60), "g": np.repeat(np.arange(6), 10)}
    fit = gj.glmm("y ~ x + (1 | g)", data, "nbinom2", control=QUIET)
    assert fit.status == "converged; complete separation: infinite estimates of (Intercept), x"


def test_held_columns_and_those_with_priors_are_not_infinite() -> None:
    data, Y, _ = separated_sets()
    given = {**data, "y": Y[:, 0]}
    held = gj.glmm("y ~ f", given, "binomial", fixed={"beta": [np.nan, 2.0, np.nan]})
    assert held.status == "converged" and np.isnan(held.bse["f[T.b]"]) and np.isfinite(held.bse["f[T.c]"])
    assert gj.glmm("y ~ f", given, "binomial", priors={"beta": "normal(0, 2)"}).status == "converged"


def test_large_effects_that_are_well_estimated_are_not_separation() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 100, 400)
    y = rng.poisson(np.exp(-4 + 0.1 * x))
    fit = gj.glmm("y ~ x", {"y": y, "x": x}, "poisson")
    assert fit.status == "converged"


# -- boundaries and what is not identified -----------------------------------------------------------------------------
def test_effects_that_cannot_be_told_apart_are_named() -> None:
    """Two factors that split the rows in the same way: only the sum of their variances is identified."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(10), 6)
    y = rng.normal(size=10)[g] + rng.normal(size=60)
    data = {"y": y, "g": g, "names": np.array([f"n{i}" for i in g])}
    fit = gj.glmm("y ~ 1 + (1 | g) + (1 | names)", data, control=QUIET)
    assert "not identifiable: the grouping factors names and g divide the rows alike" in fit.status
    np.testing.assert_allclose(fit.bse, gj.glmm("y ~ 1 + (1 | g)", data).bse, rtol=1e-4)


def test_a_dispersion_at_its_limit_is_said_and_the_rest_is_poisson() -> None:
    """Counts that vary less than Poisson: the negative binomial goes to its limit."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, 300)
    data = {"y": np.round(np.exp(1 + 0.5 * x)), "x": x}
    for family in ("nbinom1", "nbinom2"):
        fit, poisson = gj.glmm("y ~ x", data, family), gj.glmm("y ~ x", data, "poisson")
        assert "boundary (singular) fit: the dispersion parameter" in fit.status and fit.converged
        assert fit.llf == pytest.approx(poisson.llf, abs=1e-5)
        np.testing.assert_allclose(fit.bse, poisson.bse, rtol=1e-4)


def test_a_boundary_in_one_component_leaves_the_others_their_errors() -> None:
    """Half of the rows vary less than Poisson: their dispersion is at its limit, and nothing else."""
    rng = np.random.default_rng(6)
    f = np.repeat(["a", "b"], 50)
    data = {"y": np.where(f == "a", rng.negative_binomial(2, 0.3, 100), 2), "f": f}
    fit = gj.glmm("y ~ 1", data, "nbinom2", dispformula="~ f")
    assert "the dispersion parameter is at the end of its range along disp:f[T.b]" in fit.status
    assert np.isfinite(fit.bse.iloc[:2]).all() and np.isnan(fit.bse["disp:f[T.b]"])


def test_restricted_likelihood_at_a_boundary_has_the_errors_of_least_squares() -> None:
    rng = np.random.default_rng(15)
    g, x, y = np.repeat(np.arange(10), 6), rng.normal(size=60), rng.normal(size=60)
    y -= np.array([y[g == k].mean() for k in range(10)])[g]
    fit = gj.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, reml=True)
    assert "the standard deviation of (1 | g) is zero" in fit.status
    M = np.column_stack([np.ones(60), x])
    rest = y - M @ np.linalg.lstsq(M, y, rcond=None)[0]
    np.testing.assert_allclose(fit.bse, np.sqrt(rest @ rest / 58 * np.diag(np.linalg.inv(M.T @ M))), rtol=1e-5)


def test_a_fit_that_ran_into_the_limit_of_its_link_says_so() -> None:
    """Groups that are all ones have no mode below a mean of one unless their variance is small."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(20), 6)
    y = rng.binomial(1, np.minimum(np.exp(-0.4 + 0.6 * rng.normal(size=20)[group]), 0.99))
    fit = gj.glmm("y ~ 1 + (1 | g)", {"y": y, "g": group}, "binomial(log)", control=QUIET)
    assert not fit.converged
    assert "the link 'log' of the family 'binomial' allows only some linear predictors" in fit.status


def test_a_parameter_of_a_likelihood_that_runs_off_is_named_in_any_unit() -> None:
    """A variance of zero on its logarithm, whose standard error is 7e7, or 7e10 where the unit is a thousandth."""
    import jax.numpy as jnp
    from jax.scipy.stats import norm

    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(8), 6)
    y = rng.normal(size=48)
    y -= np.array([y[g == k].mean() for k in range(8)])[g]

    def nll(p: Any, r: Any, d: Any) -> Any:
        mean = p["mu"] + jnp.exp(d["unit"] * p["lt"]) * r["u"][d["g"]]
        return -jnp.sum(norm.logpdf(d["y"], mean, jnp.exp(p["ls"]))) - jnp.sum(norm.logpdf(r["u"]))

    start = {"mu": 0.0, "lt": 0.0, "ls": 0.0}
    for unit in (1.0, 1e-3):
        data = {"y": y, "g": g, "unit": np.array(unit)}
        fit = gj.fit(nll, start, {"u": np.zeros(8)}, data, structure=gj.Blocks())
        assert "boundary (singular) fit: the likelihood does not change any more as lt goes to -infinity" in fit.status
        assert np.isnan(fit.bse["lt"]) and fit.bse["mu"] == pytest.approx(np.exp(fit.params["ls"]) / np.sqrt(48))


# -- named before, or instead of, an iteration limit -------------------------------------------------------------------
X, Z = np.random.default_rng(8).normal(size=(2, 100))
TEXT = np.array([f"{value:.6f}" for value in X])


@pytest.mark.parametrize(
    ("formula", "data", "family", "says"),
    [
        ("y ~ x", {"y": np.full(100, 3.0), "x": X}, "gaussian", "y is 3 in every row"),
        ("y ~ x + (1 | g)", {"y": np.full(100, 3.0), "x": X, "g": np.arange(100) % 7}, "gaussian", "in every row"),
        ("y ~ x", {"y": np.full(100, 3.0), "x": X}, "Gamma(log)", "y is 3 in every row"),
        ("y ~ y", {"y": Z, "x": X}, "gaussian", "The response 'y' is a predictor of itself"),
        ("y ~ x + y:x", {"y": Z, "x": X}, "gaussian", "Leave 'y:x' out"),
        ("y ~ y", {"y": np.where(Z > 0, "u", "v")}, "binomial", "is a predictor of itself"),
        ("y ~ x", {"y": Z, "x": TEXT}, "gaussian", "100 columns for 100 rows.*text that holds numbers"),
        ("y ~ x + I(x**2)", {"y": Z[:3], "x": X[:3]}, "gaussian", "3 columns for 3 rows"),
        ("y ~ x", {"y": TEXT, "x": X}, "gaussian", r"convert the column with astype\(float\)"),
        ("y ~ x + (1 | r)", {"y": np.arange(100) % 4, "x": X, "r": np.arange(100)}, "cumulative", "as many levels"),
    ],
)
def test_what_no_model_can_be_fitted_to_is_named(formula: str, data: Any, family: str, says: str) -> None:
    with pytest.raises(gj.GlmmjaxError, match=says):
        gj.glmm(formula, data, family)


def test_a_text_column_of_thousands_of_numbers_is_refused_at_once() -> None:
    values = np.random.default_rng(9).normal(size=5_000)
    with pytest.raises(gj.DataError, match=r"5000 columns for 5000 rows.*The column 'x' is text that holds numbers"):
        gj.glmm("y ~ x", {"y": values, "x": [f"{value:.12f}" for value in values]})


def test_a_perfect_fit_is_named_alone_and_in_a_batch() -> None:
    with pytest.warns(gj.GlmmjaxWarning, match="perfect fit"):
        fit = gj.glmm("y ~ x", {"y": 3.0 + 2.0 * X, "x": X})
    np.testing.assert_allclose(fit.params, [3.0, 2.0], atol=1e-8)
    found = gj.fit_many("~ x", {"x": X}, np.column_stack([Z, np.full(100, 2.0), 3.0 + 2.0 * X]))
    assert found.status[0] == "converged" and "perfect fit" in found.status[2]
    assert found.status[1] == "not fitted: 2 in every row: there is no variation to explain"


def test_a_bad_fit_warns_once_at_the_users_line_unless_told_not_to() -> None:
    data = {"y": (X > 0).astype(float), "x": X}
    with pytest.warns(gj.GlmmjaxWarning, match="complete separation") as caught:
        fit = gj.glmm("y ~ x", data, "binomial")
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(gj.GlmmjaxWarning, match="complete separation") as caught:
        fit.refit(data["y"])
    assert len(caught) == 1 and caught[0].filename == __file__
    gj.glmm("y ~ x", data, "binomial", control=QUIET)
    with pytest.raises(gj.ArgumentError, match="warn must be True or False"):
        gj.Control(warn=0)  # type: ignore[arg-type]


# -- rank --------------------------------------------------------------------------------------------------------------
def test_columns_far_from_zero_are_kept_and_what_rounding_leaves_is_dropped() -> None:
    from glmmjax._rank import dependent_columns

    rng = np.random.default_rng(10)
    one, a, b = np.ones(200), *rng.normal(size=(2, 200))
    pop, year = np.round(1e7 + 1e3 * a), np.arange(200.0) % 41 + 1980.0
    share = 100.0 * rng.dirichlet([1.0, 1.0, 1.0], 200)
    single = share.astype(np.float32).astype(float)
    for independent in ([pop, pop**2], [year, year**2, year**3], [1e8 + a], [a, a + 1e-7 * b]):
        assert dependent_columns(np.column_stack([one, *independent])) == {}
    for last in ([a, b, a + b], [a, b, 3.0 * a - 0.1 * b + 1e6], [1e6 + a, (a - a.mean()) / a.std()], [*share.T]):
        assert list(dependent_columns(np.column_stack([one, *last]))) == [len(last)]
    assert list(dependent_columns(np.column_stack([one, single]))) == [3]
    fit = gj.glmm("y ~ pop + I(pop**2)", {"y": b + 0.5 * a, "pop": pop}, "gaussian", dispformula="~ 0", control=QUIET)
    assert fit.df == 3
