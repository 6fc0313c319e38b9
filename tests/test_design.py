"""From formulas and data to arrays: coding, missing values, responses, new data, and every kind of bad input."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from formulaic import model_matrix
from formulaic.transforms.contrasts import HelmertContrasts

from glmmjax import _recipes
from glmmjax._errors import ArgumentError, DataError, FormulaError, GlmmjaxError, ResponseError
from glmmjax.design import Component, Design, build_design, new_design
from glmmjax.formula import parse_formula

N = 24


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "y": rng.poisson(4, N).astype(float),
            "x": rng.normal(size=N),
            "z": rng.normal(size=N),
            "t": rng.gamma(2.0, size=N),
            "f": np.tile(["b", "a", "c"], N // 3),
            "flag": np.tile([True, False, False, True], N // 4),
            "g": np.repeat(["g10", "g2", "g1"], N // 3),
            "h": np.tile([3, 1, 2, 1], N // 4),
            "k": rng.integers(0, 4, N),
            "n": rng.integers(4, 9, N),
            "soil.dry": rng.gamma(2.0, size=N),
            "my x": rng.normal(size=N),
            "one": "only",
            "day": pd.date_range("2020-01-01", periods=N),
        }
    )


def design(formula: str, data: Any = None, *, disp: str | None = None, **options: Any) -> Design:
    formulas = {"cond": parse_formula(formula)}
    if disp is not None:
        formulas["disp"] = parse_formula(disp, response=False)
    return build_design(formulas, frame() if data is None else data, **options)


def cond(formula: str, data: Any = None, **options: Any) -> Component:
    return design(formula, data, **options).components["cond"]


# --- fixed part ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fixed",
    [
        "1",
        "x",
        "0 + x",
        "x - 1",
        "-1 + f",
        "f",
        "x * f",
        "x:f",
        "(x + z + f)**2",
        "x + I(x**2) + np.log(t) + log(z**2) + exp(x)",
        "C(f, contr.sum) * x",
        "C(h) + C(f, levels=['c', 'b', 'a'])",
        "poly(x, 2) + bs(z, df=4)",
        "cr(x, df=3) - 1",
        "`my x` + log(`my x`**2)",
        "scale(x) + center(z) + standardize(t)",
        "{x + z} + f %in% x",
        "0 + f:x",
        "x.clip(-1, 1)",
    ],
)
def test_fixed_part_is_formulaics(fixed: str) -> None:
    component = cond(f"y ~ {fixed} + (1 | g)")
    expected = model_matrix(fixed, frame())
    np.testing.assert_array_equal(component.X, expected.to_numpy(dtype=float))
    assert component.columns == tuple("(Intercept)" if name == "Intercept" else name for name in expected.columns)
    assert component.X.dtype == np.float64


@pytest.mark.parametrize(
    "fixed",
    [
        "x + f",
        "0 + f",
        "f * flag",
        "f:x + flag:f",
        "x:z + I(x**2) + np_free",
        "log(t) * f",
        "C(h) + C(h):x",
        "f * flag * x - x",
    ],
)
def test_a_matrix_computed_from_its_recipe_is_formulaics(fixed: str) -> None:
    first = frame().assign(np_free=1.5)
    second = first.sample(frac=1.0, random_state=1).reset_index(drop=True).assign(x=np.linspace(-2.0, 3.0, N))
    cond(f"y ~ {fixed}", first)
    learned = {text for text, *_ in _recipes._kept}
    assert any(text.replace(" ", "") == fixed.replace(" ", "") for text in learned)
    component = cond(f"y ~ {fixed}", second)
    _recipes._kept.clear()
    again = cond(f"y ~ {fixed}", second)
    assert component.columns == again.columns
    np.testing.assert_array_equal(component.X, again.X)


def test_a_recipe_does_not_serve_other_levels_types_or_contrasts() -> None:
    data = frame()
    cond("y ~ f + h", data)
    other = data.assign(f=data["f"].replace("c", "d"), h=data["h"].astype(str))
    assert cond("y ~ f + h", other).columns == ("(Intercept)", "f[T.b]", "f[T.d]", "h[T.2]", "h[T.3]")
    assert cond("y ~ f", data, contrasts={"f": "sum"}).columns == ("(Intercept)", "f[S.a]", "f[S.b]")
    assert cond("y ~ f", data).columns == ("(Intercept)", "f[T.b]", "f[T.c]")


def test_a_recipe_does_not_serve_functions_of_the_user() -> None:
    plain = cond("y ~ log(t)").X
    doubled = cond("y ~ log(t)", context={"log": lambda t: 2.0 * np.log(t)}).X
    np.testing.assert_allclose(doubled[:, 1], 2.0 * plain[:, 1])


@pytest.mark.parametrize("fixed", ["poly(x, 2)", "scale(x)", "bs(x, df=4)", "x.clip(0)"])
def test_what_depends_on_all_rows_is_never_computed_from_a_recipe(fixed: str) -> None:
    cond(f"y ~ {fixed}")
    assert fixed not in {text for text, *_ in _recipes._kept}


def test_intercept_is_renamed_but_not_a_column_of_that_name() -> None:
    assert cond("y ~ Intercept", frame().assign(Intercept=frame().x)).columns == ("(Intercept)", "Intercept")


def test_no_fixed_effects_at_all() -> None:
    component = cond("y ~ 0 + (1 | g)")
    assert component.X.shape == (N, 0)
    assert component.columns == ()


def test_common_functions_and_powers_as_in_r() -> None:
    component = cond("y ~ sqrt(t) + log1p(t) + I(x^2) + sqrt(soil.dry)")
    data = frame()
    expected = [np.ones(N), np.sqrt(data.t), np.log1p(data.t), data.x**2, np.sqrt(data["soil.dry"])]
    np.testing.assert_allclose(component.X, np.column_stack(expected), rtol=1e-15)


def test_functions_and_values_of_the_user() -> None:
    built = design(
        "y ~ double(x) + I(z * factor_)", context={"double": np.positive, "factor_": 3.0, "unused": lambda: 0}
    )
    np.testing.assert_array_equal(built.components["cond"].X[:, 1:], np.column_stack([frame().x, 3 * frame().z]))
    assert set(built.scope.context) == {"double", "factor_"}
    pickle.dumps(built)


def test_booleans_are_factors() -> None:
    component = cond("y ~ flag * x")
    assert component.columns == ("(Intercept)", "flag[T.True]", "x", "flag[T.True]:x")
    np.testing.assert_array_equal(component.X[:, 1], frame().flag)
    assert cond("y ~ 0 + flag").columns == ("flag[False]", "flag[True]")
    np.testing.assert_array_equal(cond("y ~ I(flag * x)").X[:, 1], frame().flag * frame().x)


def test_categories_keep_their_order_and_unused_ones_vanish() -> None:
    data = frame().assign(f=pd.Categorical(frame().f, categories=["c", "unused", "b", "a"]))
    assert cond("y ~ f", data).columns == ("(Intercept)", "f[T.b]", "f[T.a]")


def test_contrasts() -> None:
    component = cond("y ~ f * x + (f | g)", contrasts={"f": "sum"})
    assert component.columns == ("(Intercept)", "f[S.a]", "f[S.b]", "x", "f[S.a]:x", "f[S.b]:x")
    code = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [-1.0, -1.0]}
    np.testing.assert_array_equal(component.X[:, 1:3], [code[level] for level in frame().f])
    assert component.terms[0].columns == ("(Intercept)", "f[S.a]", "f[S.b]")
    assert cond("y ~ f", contrasts={"f": "Treatment"}).columns == ("(Intercept)", "f[T.b]", "f[T.c]")
    by_name, by_object = (cond("y ~ f", contrasts={"f": c}) for c in ("helmert", HelmertContrasts()))
    np.testing.assert_array_equal(by_name.X, by_object.X)
    assert by_name.columns == by_object.columns == ("(Intercept)", "f[H.b]", "f[H.c]")
    np.testing.assert_allclose(cond("y ~ f", contrasts={"f": "poly"}).X[:, 1:].sum(axis=0), 0.0, atol=1e-12)


def test_small_integers_do_not_wrap_around() -> None:
    data = {"y": np.arange(4.0), "u": np.array([0, 100, 200, 3], dtype=np.uint8)}
    np.testing.assert_array_equal(
        cond("y ~ I(u**2) + I(u - 9)", data).X[:, 1:], [[0, -9], [1e4, 91], [4e4, 191], [9, -6]]
    )


def test_collinear_columns_are_dropped_with_a_note() -> None:
    data = frame().assign(w=2 * frame().x - frame().z, c=5.0)
    built = design("y ~ x + z + w + c + I(0 * x) + f", data)
    component = built.components["cond"]
    assert component.columns == ("(Intercept)", "x", "z", "f[T.b]", "f[T.c]")
    assert component.dropped == ("w", "c", "I(0 * x)")
    assert component.X.shape == (N, 5)
    assert [note.split(": ", 1)[1] for note in built.notes] == [
        "'w' is a linear combination of 'x', 'z'.",
        "'c' is constant.",
        "'I(0 * x)' is zero in every row.",
    ]
    np.testing.assert_array_equal(new_design(built, data).components["cond"].X, component.X)


def test_columns_on_wild_scales_are_not_collinear() -> None:
    data = frame().assign(big=1e200 * frame().x, small=1e-200 * frame().z)
    assert cond("y ~ big + small + t", data).dropped == ()


@pytest.mark.parametrize("distance, dropped", [(1e-3, ()), (1e-6, ()), (1e-8, ("w",)), (0.0, ("w",))])
def test_nearly_collinear_columns(distance: float, dropped: tuple[str, ...]) -> None:
    data = frame()
    data["w"] = data.x + data.z + distance * np.random.default_rng(1).normal(size=N)
    assert cond("y ~ x + z + w + t", data).dropped == dropped


def test_more_columns_than_rows() -> None:
    component = cond("y ~ x + z + t", frame().iloc[:3])
    assert component.columns == ("(Intercept)", "x", "z")
    assert component.dropped == ("t",)


def test_a_factor_with_one_level_is_noted() -> None:
    built = design("y ~ one + x")
    assert built.components["cond"].columns == ("(Intercept)", "x")
    assert built.notes == (
        "Dropped from the formula 'y ~ one + x': 'one' has one level only, 'only', and adds no column.",
    )


# --- random-effects terms -------------------------------------------------------------------------------------------


def test_bars_by_hand() -> None:
    data = {
        "y": [1.0, 2.0, 3.0, 4.0, 5.0],
        "x": [0.5, 1.5, 2.5, 3.5, 4.5],
        "f": ["u", "v", "v", "u", "v"],
        "a": [2, 10, 2, 10, 2],
        "b": ["p", "p", "q", "q", "q"],
    }
    component = cond("y ~ 1 + (1 | a) + (x || a) + (0 + x | b) + (f | b) + (0 + f | a) + (1 + x | a:b)", data)
    by_a, by_b, by_ab = [0, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 2, 1, 3, 1]
    ones, x, u = np.ones(5), np.array(data["x"]), np.array([1.0, 0, 0, 1, 0])
    expected: list[tuple[str, str, tuple[str, ...], list[Any], list[int], tuple[Any, ...]]] = [
        ("a", "us", ("(Intercept)",), [ones], by_a, (2, 10)),
        ("a", "diag", ("(Intercept)", "x"), [ones, x], by_a, (2, 10)),
        ("b", "us", ("x",), [x], by_b, ("p", "q")),
        ("b", "us", ("(Intercept)", "f[T.v]"), [ones, 1 - u], by_b, ("p", "q")),
        ("a", "us", ("f[u]", "f[v]"), [u, 1 - u], by_a, (2, 10)),
        ("a:b", "us", ("(Intercept)", "x"), [ones, x], by_ab, ("2:p", "2:q", "10:p", "10:q")),
    ]
    for term, (group, covariance, columns, Z, index, levels) in zip(component.terms, expected, strict=True):
        assert (term.group, term.covariance, term.columns, term.levels) == (group, covariance, columns, levels)
        np.testing.assert_array_equal(term.Z, np.column_stack(Z))
        np.testing.assert_array_equal(term.index, index)
        assert (term.Z.dtype, term.index.dtype) == (np.float64, np.int32)


def test_nested_groups_are_the_combinations_that_occur() -> None:
    term = cond("y ~ 1 + (1 | g/f/h)").terms
    data = frame()
    assert [t.group for t in term] == ["g", "g:f", "g:f:h"]
    assert term[2].n_levels == len(data[["g", "f", "h"]].drop_duplicates())
    rows = data.g + ":" + data.f + ":" + data.h.astype(str)
    assert [term[2].levels[i] for i in term[2].index] == rows.tolist()
    assert term[2].factors == ("g", "f", "h")


@pytest.mark.parametrize(
    "values, levels",
    [
        (["g10", "g2", "g1"], ("g1", "g2", "g10")),
        ([10, 2, 1], (1, 2, 10)),
        ([10.0, 2.0, 1.5], (1.5, 2, 10)),
        ([True, False, True], (False, True)),
        (pd.Categorical(["z", "a", "a"], categories=["z", "q", "a"]), ("z", "a")),
        (pd.array([3, 1, 2], dtype="Int64"), (1, 2, 3)),
        (pd.array(["b", "a", "c"], dtype="string"), ("a", "b", "c")),
        (["x", 2, "y"], (2, "x", "y")),
    ],
)
def test_levels_are_in_natural_order(values: Any, levels: tuple[Any, ...]) -> None:
    term = cond("y ~ 1 + (1 | g)", {"y": [1.0, 2.0, 3.0], "g": values}).terms[0]
    assert term.levels == levels
    assert [term.levels[i] for i in term.index] == list(values)


def test_a_group_for_each_row_is_allowed_and_visible() -> None:
    built = design("y ~ x + (1 | row)", frame().assign(row=np.arange(N)))
    assert built.components["cond"].terms[0].n_levels == built.n


def test_components_share_rows_and_have_their_own_terms() -> None:
    data = frame()
    data.loc[3, "z"] = np.nan
    built = design("y ~ x + (1 | g)", data, disp="~ z + offset(t) + (1 | h)", offset="x")
    assert built.components["cond"].X.shape == (N - 1, 2)
    disp = built.components["disp"]
    assert disp.columns == ("(Intercept)", "z")
    assert disp.terms[0].group == "h"
    np.testing.assert_array_equal(disp.offset, data.t.drop(3))
    np.testing.assert_array_equal(built.components["cond"].offset, data.x.drop(3))


# --- missing values, offsets, weights ---------------------------------------------------------------------------------


def test_missing_values_are_dropped_once_and_counted() -> None:
    data = frame()
    data.loc[0, "y"] = np.nan
    data.loc[1, "x"] = np.nan
    data.loc[[1, 2], "g"] = None
    data.loc[4, "t"] = np.nan
    data.loc[5, "k"] = 1  # not used, and not missing
    data.loc[6, "day"] = pd.NaT  # not used
    weights = np.ones(N)
    weights[7] = np.nan
    built = design("y ~ x + offset(log(t)) + (1 | g)", data, disp="~ z", weights=weights)
    gone = [0, 1, 2, 4, 7]
    assert built.rows.tolist() == [row for row in range(N) if row not in gone]
    assert (built.n_dropped, built.n) == (5, N - 5)
    assert built.notes == (f"5 rows of {N} dropped for missing values in 'x', 'g', 't', 'y', weights=.",)
    np.testing.assert_array_equal(built.y, data.y.drop(gone))
    np.testing.assert_array_equal(built.components["cond"].offset, np.log(data.t.drop(gone)))


def test_levels_that_only_missing_rows_had_vanish() -> None:
    data = frame()
    data.loc[data.g == "g2", "x"] = np.nan
    assert cond("y ~ x + (1 | g)", data).terms[0].levels == ("g1", "g10")


def test_nothing_missing_is_not_mentioned() -> None:
    built = design("y ~ x")
    assert (built.notes, built.n_dropped, built.rows.tolist()) == ((), 0, list(range(N)))


def test_offsets_add_up() -> None:
    data = frame()
    expected = np.log(data.t) + data.z + data.x
    for offset in ("x", data.x, data.x.to_numpy(), data.x.tolist(), pl.Series(data.x.to_numpy()), "x + 0"):
        component = cond("y ~ 1 + offset(log(t)) + offset(z)", offset=offset)
        np.testing.assert_allclose(component.offset, expected, rtol=1e-14)
    np.testing.assert_array_equal(cond("y ~ x").offset, np.zeros(N))
    np.testing.assert_array_equal(cond("y ~ x", offset=0.5).offset, np.full(N, 0.5))


def test_weights_of_other_families_weigh_the_likelihood() -> None:
    for weights in ("n", frame().n, frame().n.tolist(), "n * 1", pd.array(frame().n, dtype="Int64")):
        built = design("y ~ x", weights=weights)
        np.testing.assert_array_equal(built.weights, frame().n)
        np.testing.assert_array_equal(built.trials, np.ones(N))
    np.testing.assert_array_equal(design("y ~ x").weights, np.ones(N))


# --- response -------------------------------------------------------------------------------------------------------


def test_expressions_as_response() -> None:
    data = frame()
    np.testing.assert_array_equal(design("log(y + 1) ~ x").y, np.log(data.y + 1))
    np.testing.assert_array_equal(design("I(k / n) ~ x").y, data.k / data.n)
    np.testing.assert_array_equal(design("`my x` ~ x").y, data["my x"])
    np.testing.assert_array_equal(design("soil.dry ~ x").y, data["soil.dry"])
    np.testing.assert_array_equal(design("flag ~ x").y, data.flag.astype(float))
    assert design("log(y + 1) ~ x").response_name == "log(y + 1)"


def test_a_constant_response_is_allowed() -> None:
    assert design("y ~ x", frame().assign(y=3.0)).y.tolist() == [3.0] * N


def test_every_binomial_form_counts_successes() -> None:
    data = frame()
    data["fail"], data["share"] = data.n - data.k, data.k / data.n
    for formula, weights in [
        ("cbind(k, n - k) ~ x", None),
        ("cbind(k, fail) ~ x", None),
        ("k / n ~ x", "n"),
        ("share ~ x", data.n),
        ("I(k / n) ~ x", "n"),
    ]:
        built = design(formula, data, weights=weights, response_kind="trials")
        np.testing.assert_array_equal(built.y, data.k)
        np.testing.assert_array_equal(built.trials, data.n)
        np.testing.assert_array_equal(built.weights, np.ones(N))


def test_weights_of_counts_stay_likelihood_weights() -> None:
    built = design("cbind(k, n - k) ~ x", weights="t", response_kind="trials")
    np.testing.assert_array_equal(built.weights, frame().t)
    np.testing.assert_array_equal(built.trials, frame().n)


def test_weights_of_zeros_and_ones() -> None:
    data = frame().assign(y=(frame().x > 0).astype(int))
    whole = design("y ~ z", data, weights="n", response_kind="trials")
    np.testing.assert_array_equal(whole.y, data.y * data.n)
    np.testing.assert_array_equal(whole.trials, data.n)
    np.testing.assert_array_equal(whole.weights, np.ones(N))
    for weights in ("t", "n - 4"):  # fractions; whole numbers with a zero among them
        fractional = design("y ~ z", data, weights=weights, response_kind="trials")
        np.testing.assert_array_equal(fractional.y, data.y)
        np.testing.assert_array_equal(fractional.trials, np.ones(N))
        np.testing.assert_array_equal(fractional.weights, data.eval(weights))


@pytest.mark.parametrize(
    "values, levels",
    [
        (["no", "yes", "no"], ("no", "yes")),
        (pd.Categorical(["no", "yes", "no"], categories=["yes", "no"]), ("yes", "no")),
        (pd.Categorical(["no", "yes", "no"], categories=["yes", "gone", "no"]), ("yes", "no")),
        (pd.Categorical(["no", "no", "no"], categories=["no", "yes"]), ("no", "yes")),
    ],
)
def test_two_level_response(values: Any, levels: tuple[str, str]) -> None:
    built = design("y ~ 1", {"y": values}, response_kind="trials")
    assert built.response_levels == levels
    assert built.y.tolist() == [float(value == levels[1]) for value in values]
    assert built.trials.tolist() == [1.0, 1.0, 1.0]


def test_boolean_and_comparison_responses() -> None:
    data = frame()
    np.testing.assert_array_equal(design("flag ~ x", response_kind="trials").y, data.flag)
    np.testing.assert_array_equal(design("f == 'a' ~ x", response_kind="trials").y, data.f == "a")
    np.testing.assert_array_equal(design("x > 0 ~ z", response_kind="trials").y, data.x > 0)


def test_rounded_proportions() -> None:
    data = {"y": [0.333333333, 0.6666667, 1.0], "w": [3, 3, 3]}
    assert design("y ~ 1", data, weights="w", response_kind="trials").y.tolist() == [1.0, 2.0, 3.0]


# --- kinds of data --------------------------------------------------------------------------------------------------


def as_lists(data: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: data[name].tolist() for name in data}


READERS: list[Callable[[pd.DataFrame], Any]] = [
    lambda data: data.set_index(pd.Index([f"r{i}" for i in range(len(data))])),
    lambda data: data.astype({"f": "category", "g": "string", "h": "Int64", "x": "Float64", "flag": "boolean"}),
    lambda data: data.astype({"f": object, "g": object, "flag": object, "x": object}),
    as_lists,
    lambda data: {name: data[name].to_numpy() for name in data},
    lambda data: {name: pl.Series(data[name].tolist()) for name in data},
    lambda data: pl.DataFrame(as_lists(data)),
    lambda data: pl.DataFrame(as_lists(data)).lazy(),
    lambda data: pl.DataFrame(as_lists(data)).with_columns(pl.col("f", "g").cast(pl.Categorical)),
    lambda data: pl.DataFrame(as_lists(data)).with_columns(pl.col("f").cast(pl.Enum(["a", "b", "c"]))),
]


@pytest.mark.parametrize("reader", READERS)
def test_all_kinds_of_data_give_the_same_design(reader: Callable[[pd.DataFrame], Any]) -> None:
    formula = "y ~ x * f + flag + offset(log(t)) + (1 + x | g) + (1 | h)"
    data = frame()
    expected, got = design(formula, data, weights="n"), design(formula, reader(data), weights="n")
    np.testing.assert_array_equal(got.y, expected.y)
    np.testing.assert_array_equal(got.weights, expected.weights)
    one, other = expected.components["cond"], got.components["cond"]
    assert one.columns == other.columns
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.offset, other.offset)
    for left, right in zip(one.terms, other.terms, strict=True):
        assert left.levels == right.levels
        np.testing.assert_array_equal(left.Z, right.Z)
        np.testing.assert_array_equal(left.index, right.index)
    predicted = new_design(expected, reader(data)).components["cond"]
    np.testing.assert_array_equal(predicted.X, one.X)
    np.testing.assert_array_equal(predicted.terms[1].index, one.terms[1].index)


@pytest.mark.parametrize(
    "data",
    [
        {
            "y": [1.0, None, 3.0, 4.0],
            "x": [1, 2, None, 4],
            "f": ["a", "b", "b", None],
            "flag": [True, True, None, False],
        },
        pl.DataFrame(
            {
                "y": [1.0, None, 3.0, 4.0],
                "x": [1, 2, None, 4],
                "f": ["a", "b", "b", None],
                "flag": [True, True, None, False],
            }
        ),
        pd.DataFrame(
            {
                "y": pd.array([1.0, None, 3.0, 4.0], dtype="Float64"),
                "x": pd.array([1, 2, None, 4], dtype="Int64"),
                "f": pd.array(["a", "b", "b", None], dtype="string"),
                "flag": pd.array([True, True, None, False], dtype="boolean"),
            }
        ),
    ],
)
def test_every_way_of_missing(data: Any) -> None:
    built = design("y ~ 0 + x + flag", data)
    assert built.rows.tolist() == [0, 3]
    assert built.components["cond"].columns == ("x", "flag[False]")
    assert design("y ~ 1 + (1 | f)", {**as_lists(frame().iloc[:4]), "f": ["a", "b", "b", None]}).rows.tolist() == [
        0,
        1,
        2,
    ]


def test_scalars_in_a_dict_stand_for_every_row() -> None:
    data = {"y": [1.0, 2.0, 3.0], "x": [1.0, 2.0, 4.0], "s": "a", "w": 2}
    assert design("y ~ x", data, weights="w").weights.tolist() == [2.0, 2.0, 2.0]


def test_data_are_not_changed() -> None:
    data = frame()
    before = data.copy(deep=True)
    built = design("y ~ x * f + flag + I(k**2) + (x | g)", data)
    built.y[:] = -1.0
    built.components["cond"].X[:] = -1.0
    pd.testing.assert_frame_equal(data, before)


def test_irrelevant_columns_do_not_matter() -> None:
    data = pd.concat([frame(), frame()[["z"]]], axis=1).assign(junk=[object()] * N)
    data[7] = 1
    assert cond("y ~ x", data).columns == ("(Intercept)", "x")


# --- new data -------------------------------------------------------------------------------------------------------


FULL = "y ~ f * x + C(h) + flag + poly(z, 2) + bs(x, df=4) + scale(t) + offset(log(t)) + (1 + x | g) + (f | g:h)"


def test_new_data_are_coded_like_the_data_of_the_fit() -> None:
    data = frame()
    built = pickle.loads(pickle.dumps(design(FULL, data, disp="~ center(z)", offset="x")))
    some = [20, 3, 3, 7]
    new = new_design(built, data.drop(columns="y").iloc[some])
    assert new.rows.tolist() == [0, 1, 2, 3]
    for name, component in built.components.items():
        np.testing.assert_allclose(new.components[name].X, component.X[some], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(new.components[name].offset, component.offset[some])
        assert new.components[name].columns == component.columns
        for fitted, term in zip(component.terms, new.components[name].terms, strict=True):
            np.testing.assert_array_equal(term.index, fitted.index[some])
            np.testing.assert_array_equal(term.Z, fitted.Z[some])
            assert term.levels == fitted.levels
    assert np.isnan(new.y).all()
    assert (new.trials.tolist(), new.weights.tolist()) == ([1.0] * 4, [1.0] * 4)


def test_one_row_of_scalars_is_new_data() -> None:
    component = new_design(design("y ~ f + x"), {"f": "c", "x": 0.5}).components["cond"]
    np.testing.assert_array_equal(component.X, [[1.0, 0.0, 1.0, 0.5]])


def test_contrasts_travel_with_the_design() -> None:
    built = pickle.loads(pickle.dumps(design("y ~ f + flag", contrasts={"f": "sum", "flag": HelmertContrasts()})))
    component = new_design(built, {"f": ["c", "a"], "flag": [True, True]}).components["cond"]
    np.testing.assert_array_equal(component.X, [[1, -1, -1, 1], [1, 1, 0, 1]])


def test_booleans_may_come_back_as_zero_and_one() -> None:
    built = design("y ~ flag")
    np.testing.assert_array_equal(new_design(built, {"flag": [1, 0]}).components["cond"].X, [[1, 1], [1, 0]])


def test_groups_in_new_data() -> None:
    built = design("y ~ x + (1 | g) + (1 | g:h) + (1 | h)")
    new = {"x": [0.0] * 5, "g": ["g2", None, "new", "g1", "g10"], "h": [3, 3, 1, 9, None]}
    terms = new_design(built, new, allow_new_levels=True).components["cond"].terms
    assert terms[0].index.tolist() == [1, -1, -1, 0, 2]
    assert [terms[1].levels[i] if i >= 0 else None for i in terms[1].index] == ["g2:3", None, None, None, None]
    assert terms[2].index.tolist() == [2, 2, 0, -1, -1]
    assert new_design(built, {"x": [1.0]}, groups=False).components["cond"].terms == ()


@pytest.mark.parametrize(
    "column",
    [
        ["g2", None, "g1", None],
        pd.Categorical(["g2", None, "g1", None], categories=["g1", "g2", "unused"]),
        pd.array(["g2", None, "g1", None], dtype="string"),
        pl.Series(["g2", None, "g1", None]),
        pl.Series(["g2", None, "g1", None], dtype=pl.Categorical),
    ],
)
def test_missing_groups_are_the_population(column: Any) -> None:
    built = design("y ~ 1 + (1 | g)")
    assert new_design(built, {"g": column}).components["cond"].terms[0].index.tolist() == [1, -1, 0, -1]
    nothing = pd.DataFrame({"g": pd.Categorical([None, None])})
    assert new_design(built, nothing).components["cond"].terms[0].index.tolist() == [-1, -1]


def test_combinations_can_be_new_where_their_parts_are_not() -> None:
    data = {"y": [1.0, 2.0, 3.0], "a": ["p", "p", "q"], "b": ["u", "v", "u"]}
    built = design("y ~ 1 + (1 | a:b)", data)
    new = {"a": ["q", "q"], "b": ["v", "u"]}
    assert new_design(built, new, allow_new_levels=True).components["cond"].terms[0].index.tolist() == [-1, 2]
    with pytest.raises(DataError, match=r"'a:b' has levels .*'q:v', first in row 0"):
        new_design(built, new)


def test_rows_without_predictors_are_left_out() -> None:
    new = new_design(design("y ~ x + (1 | g)"), {"x": [1.0, np.nan, 2.0], "g": ["g1", "g1", None]})
    assert (new.rows.tolist(), new.n_dropped) == ([0, 2], 1)
    assert new.components["cond"].terms[0].index.tolist() == [0, -1]


def test_offset_arrays_must_be_given_again() -> None:
    built = design("y ~ x + offset(z)", offset=np.ones(N))
    new = {"x": [1.0, 2.0], "z": [0.5, 0.5]}
    np.testing.assert_array_equal(new_design(built, new, offset=[1.0, 2.0]).components["cond"].offset, [1.5, 2.5])
    with pytest.raises(ArgumentError, match="need one too"):
        new_design(built, new)
    with pytest.raises(ArgumentError, match="must be an array"):
        new_design(built, new, offset="z")
    with pytest.raises(ArgumentError, match="only for models"):
        new_design(design("y ~ x", offset="z"), new, offset=[1.0, 2.0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"f": "d"}, r"Level 'd' of 'f' in row 0 .* Levels of the fit: 'a', 'b', 'c'"),
        ({"h": 9}, "Level 9 of 'h' in row 0"),
        ({"f": 1}, "Level 1 of 'f' in row 0"),
        ({"x": "text"}, "Column 'x' holds text"),
        ({"g": "new"}, r"'g' has levels .* 'new', first in row 0.*allow_new_levels=True"),
        ({"x": np.inf}, "'x' in the formula .* is inf in row 0"),
        ({"t": 0.0}, r"offset\(log\(t\)\) is -inf in row 0"),
    ],
)
def test_errors_of_new_data(change: dict[str, Any], message: str) -> None:
    built = design("y ~ f + x + C(h) + offset(log(t)) + (1 | g)")
    with pytest.raises(DataError, match=message):
        new_design(built, frame().iloc[:4].assign(**change))


@pytest.mark.parametrize("absent, message", [("x", "Unknown column 'x'"), ("g", "Unknown column 'g' in the grouping")])
def test_new_data_without_a_column(absent: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        new_design(design("y ~ x + (1 | g)"), frame().drop(columns=absent))


# --- bad input ------------------------------------------------------------------------------------------------------

BAD: list[tuple[str, str, dict[str, Any], type[GlmmjaxError], str]] = [
    # formula, message, changed columns, error
    ("y ~ xx", "Unknown column 'xx' in the formula 'y ~ xx'. Did you mean 'x'", {}, DataError, "column"),
    ("y ~ log(tt)", "Unknown column 'tt'.*Did you mean 't'", {}, DataError, "column in a call"),
    ("y ~ bs(tt, df=4)", "Unknown column 'tt'", {}, DataError, "column in a stateful transform"),
    ("y ~ I(id)", "Unknown column 'id'", {}, DataError, "a name that is Python's"),
    ("yy ~ x", "Unknown column 'yy' in the response.*Did you mean 'y'", {}, DataError, "response"),
    ("y ~ (1 | gg)", r"Unknown column 'gg' in the random-effects term \(1 \| gg\).*'g'", {}, DataError, "group"),
    ("y ~ x + offset(tt)", r"Unknown column 'tt' in offset\(tt\)", {}, DataError, "offset"),
    ("y ~ sqt(t)", "Unknown function 'sqt'.*Did you mean 'sqrt'", {}, DataError, "function"),
    ("y ~ as.factor(f)", "Unknown function 'as.factor'.*C\\(x\\)", {}, DataError, "R function"),
    ("y ~ x z", "Missing operator", {}, FormulaError, "formulaic's complaints"),
    ("y ~ x +* z", r"Operator `\+\*`", {}, FormulaError, "formulaic's complaints"),
    ("y ~ I(x +)", "invalid syntax", {}, FormulaError, "Python's complaints"),
    ("y ~ x", "'x' .* is inf in row 2", {"x": np.r_[0.0, 1.0, np.inf, np.arange(N - 3.0)]}, DataError, "infinite"),
    ("y ~ x", "'y' .* is -inf in row 0", {"y": np.r_[-np.inf, np.arange(N - 1.0)]}, DataError, "infinite response"),
    ("y ~ log(k)", r"'log\(k\)' .* is -inf in row 1", {"k": np.r_[1, 0, np.ones(N - 2)]}, DataError, "log of zero"),
    ("y ~ sqrt(k)", r"'sqrt\(k\)' .* is nan in row 0", {"k": -1.0}, DataError, "root of a negative number"),
    ("y ~ x + (log(k) | g)", "is -inf in row 0", {"k": 0}, DataError, "infinite random-effects column"),
    ("y ~ x + offset(log(k))", r"offset\(log\(k\)\) is -inf in row 0", {"k": 0}, DataError, "infinite offset"),
    ("y ~ x + offset(f)", r"offset\(f\) is not one number", {}, DataError, "offset by a factor"),
    ("y ~ x + offset(log(2))", "uses no column", {}, DataError, "offset without a column"),
    ("y ~ day", "Column 'day' is of type datetime64", {}, DataError, "dates"),
    ("y ~ x", "complex", {"x": 1j}, DataError, "complex numbers"),
    ("y ~ (1 | one)", r"'one' of \(1 \| one\) has one level only, 'only'", {}, DataError, "one level"),
    ("y ~ (0 | g)", "has no columns", {}, FormulaError, "no columns"),
    ("f ~ x", "response 'f' is text .*'a', 'b', 'c'.*astype", {}, DataError, "text response"),
    ("day ~ x", "'day' is of type datetime64", {}, DataError, "dates as response"),
    ("poly(y, 2) ~ x", "not one number for each row", {}, DataError, "two columns as response"),
    ("cbind(k, n - k) ~ x", "only a binomial-like family", {}, ResponseError, "cbind elsewhere"),
]


@pytest.mark.parametrize("formula, message, change, error", [row[:4] for row in BAD], ids=[row[4] for row in BAD])
def test_bad_formulas_and_columns(formula: str, message: str, change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=message):
        design(formula, frame().assign(**change))


@pytest.mark.parametrize(
    "formula, weights, message",
    [
        ("cbind(n, k - n) ~ x", None, "In row 0 .* trials are fewer than the successes: . successes and -"),
        ("cbind(-n, k) ~ x", None, "row 0: -. is a negative number of successes"),
        ("cbind(t, n) ~ x", None, "row 0: .* is not a whole number"),
        ("cbind(k, t) ~ x", None, "row 0: .* is not a whole number"),
        ("cbind(k, n, t) ~ x", None, "two expressions"),
        ("cbind(k) ~ x", None, "two expressions"),
        ("cbind(k, n) / 2 ~ x", None, "two expressions"),
        ("n ~ x", None, "row 0: . lies outside 0 to 1"),
        ("-k - 1 ~ x", None, "row 0: -. lies outside 0 to 1"),
        ("(k + 0.5) / n / 2 ~ x", None, "is 0.* in row 0, a proportion: give the numbers of trials"),
        ("(k + 0.5) / n ~ x", "n", "row 0: .* successes .* not a whole number"),
        ("k / n ~ x", "n / 3", "row 0: .* trials .* not a whole number"),
        ("f ~ x", None, "has 3 level.* needs two"),
        ("one ~ x", None, "has 1 level.* needs two"),
    ],
)
def test_bad_binomial_responses(formula: str, weights: str | None, message: str) -> None:
    data = frame().assign(n=lambda d: d.n.where(d.index > 0, 7), k=lambda d: d.k.where(d.index > 0, 2))
    with pytest.raises((ResponseError, DataError), match=message):
        design(formula, data, weights=weights, response_kind="trials")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"weights": [1.0, 2.0]}, DataError, f"weights= has 2 values, but the data have {N} rows"),
        ({"weights": np.r_[1.0, -2.0, np.ones(N - 2)]}, DataError, "weights= is -2 in row 1"),
        ({"weights": "x - 100"}, DataError, "weights= is -.* in row 0"),
        ({"weights": np.full(N, np.inf)}, DataError, "weights= is inf in row 0"),
        ({"weights": np.zeros(N)}, DataError, "zero in every row"),
        ({"weights": ["a"] * N}, ArgumentError, "weights= must be numbers"),
        ({"weights": "f"}, DataError, "weights= is not one number"),
        ({"weights": "nn"}, DataError, "Unknown column 'nn' in weights="),
        ({"weights": np.ones((N, 2))}, DataError, "weights= has the shape"),
        ({"offset": np.r_[np.inf, np.ones(N - 1)]}, DataError, "offset= is inf in row 0"),
        ({"offset": np.ones(3)}, DataError, "offset= has 3 values"),
        ({"offset": "log(tt)"}, DataError, "Unknown column 'tt' in offset="),
        ({"offset": object()}, ArgumentError, "offset= must be numbers"),
        ({"contrasts": {"ff": "sum"}}, ArgumentError, "'ff', which no formula uses. Did you mean 'f'"),
        ({"contrasts": {"f": "summ"}}, ArgumentError, "Unknown contrasts 'summ'.*Did you mean 'sum'"),
        ({"na_action": "dropp"}, ArgumentError, "na_action='dropp'. Did you mean 'drop'"),
        ({"rank_deficient": "x"}, ArgumentError, "rank_deficient='x'"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        design("y ~ f", **options)


@pytest.mark.parametrize(
    "data, error, message",
    [
        (3, ArgumentError, "must be a pandas, polars .* 'int'"),
        ([[1.0, 2.0]], ArgumentError, "'list'"),
        ({}, DataError, "no rows"),
        ({"y": [], "x": []}, DataError, "no rows"),
        ({"y": [1.0, 2.0], "x": [1.0]}, DataError, "'y' has 2 rows, 'x' has 1"),
        ({"y": [1.0, 2.0], "x": [[1.0], [2.0]]}, DataError, "Column 'x' holds neither numbers nor text"),
        ({"y": [1.0, 2.0], "x": np.ones((2, 2))}, DataError, r"Column 'x' has the shape \(2, 2\)"),
        (
            {"y": [1.0, np.nan], "x": [np.nan, 2.0]},
            DataError,
            "Every one of the 2 rows has a missing value in 'x', 'y'",
        ),
        (pd.DataFrame([[1.0, 2.0, 3.0]], columns=["y", "x", "x"]), DataError, "2 columns called 'x'"),
    ],
)
def test_bad_data(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        design("y ~ x", data)


def test_refusing_instead_of_dropping() -> None:
    data = frame()
    data.loc[[2, 5], "x"] = np.nan
    with pytest.raises(DataError, match=r"Missing values in 'x' \(2\), first in row 2"):
        design("y ~ x", data, na_action="raise")
    with pytest.raises(DataError, match=r"not independent: 'I\(2 \* x\)' is a linear combination of 'x'"):
        design("y ~ x + I(2 * x)", rank_deficient="raise")
    with pytest.raises(DataError, match="'one' has one level only"):
        design("y ~ one", rank_deficient="raise")


def test_rows_are_called_by_position_and_label() -> None:
    data = frame().assign(x=np.r_[np.arange(N - 1.0), np.inf])
    data.loc[0, "y"] = np.nan
    with pytest.raises(DataError, match=rf"in row {N - 1}:"):
        design("y ~ x", data)
    with pytest.raises(DataError, match=rf"in row {N - 1} \(index 'r{N - 1}'\)"):
        design("y ~ x", data.set_index(pd.Index([f"r{i}" for i in range(N)])))
    with pytest.raises(DataError, match=rf"in row {N - 1} \(index {2 * (N - 1)}\)"):
        design("y ~ x", data.set_index(pd.Index(range(0, 2 * N, 2))))


def test_wide_data_are_not_listed_whole() -> None:
    data = {"y": [1.0, 2.0]} | {f"gene{i}": [0.0, 1.0] for i in range(200)}
    with pytest.raises(DataError, match="Did you mean 'gene7") as caught:
        design("y ~ gene7x", data)
    assert len(str(caught.value)) < 300


# --- speed ----------------------------------------------------------------------------------------------------------


def test_large_data_are_coded_by_columns_and_not_by_rows() -> None:
    n = 70_000
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "x": rng.normal(size=n),
            "s": np.char.add("s", rng.integers(0, 3000, n).astype(str)),
            "d": np.char.add("d", rng.integers(0, 1100, n).astype(str)),
            "e": rng.integers(0, 14, n),
        }
    )
    design("y ~ x + (1 | s) + (1 | d) + (1 | e)", data.iloc[:100])
    started = time.perf_counter()
    built = design("y ~ x + (1 | s) + (1 | d) + (1 | e)", data, response_kind="trials")
    assert time.perf_counter() - started < 1.0  # about 0.05 s; Python loops over rows take several
    assert [term.n_levels for term in built.components["cond"].terms] == [data[c].nunique() for c in ("s", "d", "e")]
