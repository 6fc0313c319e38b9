"""What a fit reports: printed summary, tidy, glance, augment and the protocol of maketables."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import glmmjax as gj
from glmmjax._tables import TextTable, as_html, as_latex, as_text, decimals, latex_escape, numbers

if TYPE_CHECKING:
    from glmmjax.result import Fit

COLUMNS = ["effect", "component", "group", "level", "term"]
COLUMNS += ["estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high"]


@pytest.fixture(scope="module")
def slopes(fitted: Any) -> Fit:
    return fitted("sleepstudy_us_ml")


@pytest.fixture(scope="module")
def glm(fitted: Any) -> Fit:
    return fitted("cbpp_glm")


@pytest.fixture(scope="module")
def counts(fitted: Any) -> Fit:
    return fitted("salamanders_nb2")


@pytest.fixture(scope="module")
def dispersion() -> Fit:
    data = gj.datasets.load("salamanders")
    return gj.glmm("count ~ spp + mined + (1 | site)", data, family="nbinom2", dispformula="~ mined")


@pytest.fixture(scope="module")
def singular() -> Fit:
    """No variance between groups, a missing value and a redundant column."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(size=60), "x": rng.normal(size=60), "g": np.repeat(np.arange(12), 5)})
    data.loc[3, "x"] = np.nan
    return gj.glmm("y ~ x + twice + (1 | g)", data.assign(twice=2 * data["x"]))


def rows_of(table: pd.DataFrame, effect: str) -> pd.DataFrame:
    return table[table["effect"] == effect].set_index("term")


# -- summary -----------------------------------------------------------------------------------------------------------
def line_with(fit: Fit, start: str) -> list[str]:
    (line,) = [line for line in str(fit.summary()).splitlines() if line.startswith(start)]
    return re.split(r"\s{2,}", line.strip())


def test_summary_says_what_glmmtmb_says(slopes: Fit, reference: Any) -> None:
    lines = str(slopes.summary()).splitlines()
    expected = reference("sleepstudy_us_ml")
    assert lines[0] == "Linear mixed model fitted by maximum likelihood"
    assert line_with(slopes, "Status:") == ["Status:", "converged"]
    assert line_with(slopes, "Formula:")[1] == "Reaction ~ Days + (Days | Subject)"
    assert line_with(slopes, "Family:")[1] == "gaussian, link identity"
    assert line_with(slopes, "Data:")[1] == "180 rows used, none dropped"
    assert line_with(slopes, "Groups:")[1] == "Subject 18"
    statistics = dict(zip(*(lines[i + k].split() for i in [lines.index("", 1) + 1] for k in (0, 1)), strict=True))
    aic, bic, llf = expected["AIC"], expected["BIC"], expected["logLik"]
    assert statistics == {
        **{"AIC": f"{aic:.1f}", "BIC": f"{bic:.1f}", "logLik": f"{llf:.1f}", "deviance": f"{-2 * llf:.1f}"},
        **{"df": "6", "df.resid": "174"},
    }
    assert line_with(slopes, "Subject") == ["Subject", "(Intercept)", "565.52", "23.781"]
    assert line_with(slopes, "          Days") == ["Days", "32.68", "5.717", "0.081"]
    assert line_with(slopes, "Residual") == ["Residual", "654.94", "25.592"]
    assert line_with(slopes, "(Intercept)") == ["(Intercept)", "251.405", "6.632", "37.91", "<0.001"]
    assert line_with(slopes, "Days") == ["Days", "10.467", "1.502", "6.97", "<0.001"]
    assert len({line.rindex(" ") for line in lines[-2:]}) == 1, "columns are aligned"


def test_summary_of_a_glm_has_no_random_part(glm: Fit) -> None:
    text = str(glm.summary())
    assert text.startswith("Generalized linear model fitted by maximum likelihood\n")
    assert not re.search("random|mixed|laplace|groups|dispersion|nan", text, re.IGNORECASE)
    assert "Fixed effects (logit scale):" in text


def test_summary_reports_the_dispersion(counts: Fit, dispersion: Fit) -> None:
    assert "(Laplace approximation)" in str(counts.summary())
    cells = line_with(counts, "dispersion parameter")
    assert float(cells[1]) == pytest.approx(counts.sigma, rel=1e-3)
    low, high = np.exp(counts.conf_int(parameters=["disp:(Intercept)"]).iloc[0])
    np.testing.assert_allclose([float(x) for x in cells[3:]], [low, high], rtol=1e-3)
    text = str(dispersion.summary())
    assert "Dispersion:" not in text
    assert line_with(dispersion, "Formula, disp:")[1] == "~ mined"
    body = text.split("Fixed effects of the dispersion (log scale):\n")[1].splitlines()
    assert [line.split() for line in body[1:]] == [
        ["(Intercept)", "0.0815", "0.1445", "0.56", "0.573"],  # glmmTMB: 0.08147 (0.14446)
        ["mined[T.yes]", "-1.1990", "0.3774", "-3.18", "0.001"],  # -1.19900 (0.37743)
    ]


def test_summary_of_a_shape_reports_sigma_too(fitted: Any) -> None:
    fit = fitted("sleepstudy_gamma")
    assert line_with(fit, "Sigma:")[1] == f"{fit.sigma:.4g}"
    assert float(line_with(fit, "shape")[1]) == pytest.approx(fit.sigma**-2, rel=1e-3)


def test_what_is_wrong_stands_in_front(singular: Fit) -> None:
    assert singular.status != "converged"
    lines = str(singular.summary()).splitlines()
    assert f"*** {singular.status} ***" in lines[1]
    assert line_with(singular, "Data:")[1] == "59 rows used, 1 dropped for missing values"
    assert [line for line in lines if line.startswith("Note: ")] == [f"Note: {note}" for note in singular.design.notes]
    assert any("'twice'" in line for line in lines)
    html = singular.summary().as_html()
    assert html.index(singular.status) < html.index("Fixed effects")


def test_standard_errors_that_are_not_there_print_as_na(glm: Fit) -> None:
    lost = replace(glm, vcov=np.full_like(glm.vcov, np.nan))
    assert line_with(lost, "(Intercept)")[2:] == ["NA", "NA", "NA"]


def test_html_is_well_formed(singular: Fit) -> None:
    strange = replace(singular.summary(), notes=('a < b & "c"',))
    root = ElementTree.fromstring(strange.as_html())
    tables = root.findall("table")
    assert len(tables) == 4
    for table in tables:
        assert len({len(row.findall("*")) for row in table.iter("tr")}) == 1
    assert root.findall("p")[-1].text == 'Note: a < b & "c"'
    assert singular.summary()._repr_html_() == singular.summary().as_html()


def test_latex_is_well_formed(dispersion: Fit) -> None:
    source = dispersion.summary().as_latex()
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", source):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    bare = re.sub(r"\\[\\{}&%$#_]", "", source)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[_%#$~^<>|]", bare)
    tabulars = re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end", source, flags=re.DOTALL)
    assert len(tabulars) == 5
    for columns, body in tabulars:
        cells = [line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")]
        assert set(cells) == {len(columns) - 1}


def test_tables() -> None:
    table = TextTable("A & B", ("x_1", "y"), (("long name", "1.0"), ("b", "-10.0")), "lr")
    assert as_text(table).splitlines() == ["A & B", "x_1            y", "long name    1.0", "b          -10.0"]
    assert "<caption>A &amp; B</caption>" in as_html(table)
    assert r"\textbf{A \& B}" in as_latex(table) and r"x\_1 & y \\" in as_latex(table)
    assert latex_escape("a\\b") == r"a\textbackslash{}b"


@pytest.mark.parametrize(
    ("values", "places", "shown"),
    [
        ([6.632171, 1.502206], 3, ["6.632", "1.502"]),
        ([0.1736, 0.00069466], 7, ["0.1736000", "0.0006947"]),
        ([40.0, 6.1e-6], 2, ["40.00", "6.1e-06"]),
        ([1e12, 3.0], None, ["1e+12", "3"]),
        ([2.5e-12], None, ["2.5e-12"]),
        ([12345.6, float("nan"), float("inf")], 0, ["12346", "NA", "inf"]),
        ([float("nan")], 3, ["NA"]),
        ([0.0], 3, ["0.000"]),
    ],
)
def test_numbers_are_aligned(values: list[float], places: int | None, shown: list[str]) -> None:
    assert decimals(values) == places
    assert numbers(values, places) == shown


# -- tidy --------------------------------------------------------------------------------------------------------------
def test_tidy_agrees_with_glmmtmb(slopes: Fit, reference: Any) -> None:
    table = slopes.tidy()
    assert list(table.columns) == COLUMNS
    fixed, expected = rows_of(table, "fixed"), reference("sleepstudy_us_ml")["coef"]["cond"]
    np.testing.assert_allclose(fixed["estimate"], expected["est"], rtol=1e-5)
    np.testing.assert_allclose(fixed["std_error"], expected["se"], rtol=1e-4)
    np.testing.assert_allclose(fixed["statistic"], fixed["estimate"] / fixed["std_error"], rtol=1e-12)
    np.testing.assert_allclose(fixed["p_value"], 2 * norm.sf(fixed["statistic"]), rtol=1e-10)
    # confint() of glmmTMB 1.1.5: estimate and 95% Wald limits
    glmmtmb = {
        "sd__(Intercept)": ("Subject", 23.78057, 15.01709, 37.65814),
        "sd__Days": ("Subject", 5.716822, 3.805459, 8.588202),
        "cor__(Intercept).Days": ("Subject", 0.0813259, -0.4878062, 0.5853685),
        "sd__Observation": ("Residual", 25.59182, 22.80046, 28.72492),
    }
    spread = rows_of(table, "ran_pars")
    assert list(spread.index) == list(glmmtmb)
    for term, (group, *values) in glmmtmb.items():
        assert spread.loc[term, "group"] == group
        np.testing.assert_allclose(
            spread.loc[term, ["estimate", "conf_low", "conf_high"]].astype(float), values, rtol=2e-4, err_msg=term
        )
    assert spread[["statistic", "p_value"]].isna().all(axis=None)
    assert set(fixed["component"]) == {"cond"} and list(fixed["group"]) == [None, None]


def test_delta_method_agrees_with_finite_differences(slopes: Fit) -> None:
    def reported(flat: np.ndarray) -> np.ndarray:
        log_sd, t, log_phi = flat[[3, 4]], flat[5], flat[2]
        return np.array([*np.exp(log_sd), t / np.sqrt(1 + t**2), np.exp(log_phi)])

    assert list(slopes.estimates) == ["beta", "beta_disp", "theta"]
    flat = np.concatenate(list(slopes.estimates.values()))
    steps = 1e-5 * np.eye(6)
    J = np.stack([(reported(flat + h) - reported(flat - h)) / 2e-5 for h in steps], axis=1)
    spread = rows_of(slopes.tidy(), "ran_pars")
    np.testing.assert_allclose(spread["estimate"], reported(flat), rtol=1e-10)
    np.testing.assert_allclose(spread["std_error"], np.sqrt(np.diag(J @ slopes.vcov @ J.T)), rtol=1e-7)


def test_conditional_modes_agree_with_glmmtmb(slopes: Fit) -> None:
    table = slopes.tidy(effects="ran_vals")
    assert len(table) == 36 and set(table["effect"]) == {"ran_vals"}
    first = table[table["level"] == "308"] if "308" in set(table["level"]) else table[table["level"] == 308]
    assert list(first["term"]) == ["(Intercept)", "Days"]
    np.testing.assert_allclose(first["estimate"], [2.815760, 9.075527], rtol=1e-4)  # ranef() of glmmTMB 1.1.5
    np.testing.assert_allclose(first["std_error"], [13.653738, 2.741385], rtol=1e-4)  # its condVar
    np.testing.assert_allclose(first["conf_high"], first["estimate"] + norm.ppf(0.975) * first["std_error"], rtol=1e-9)


def test_tidy_has_every_component(dispersion: Fit) -> None:
    fixed = dispersion.tidy(effects="fixed")
    assert list(fixed["component"]) == ["cond"] * 8 + ["disp"] * 2
    np.testing.assert_allclose(fixed["estimate"].iloc[8:], [0.0814724, -1.1990024], rtol=1e-4)  # glmmTMB 1.1.5
    np.testing.assert_allclose(fixed["std_error"].iloc[8:], [0.1444638, 0.3774320], rtol=1e-4)
    assert list(dispersion.tidy(effects=["ran_pars"])["term"]) == ["sd__(Intercept)"]
    assert list(fixed["estimate"]) == list(dispersion.params)


def test_exponentiate(dispersion: Fit) -> None:
    plain, ratios = dispersion.tidy(level=0.9), dispersion.tidy(level=0.9, exponentiate=True)
    fixed = plain["effect"] == "fixed"
    for column in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(ratios.loc[fixed, column], np.exp(plain.loc[fixed, column]), rtol=1e-12)
    se = plain.loc[fixed, "std_error"] * np.exp(plain.loc[fixed, "estimate"])
    np.testing.assert_allclose(ratios.loc[fixed, "std_error"], se, rtol=1e-12)
    unchanged = [*COLUMNS[:5], "statistic", "p_value"]
    pd.testing.assert_frame_equal(ratios[unchanged], plain[unchanged])
    pd.testing.assert_frame_equal(ratios[~fixed], plain[~fixed])


def test_exponentiate_needs_a_link_of_ratios(slopes: Fit, glm: Fit) -> None:
    with pytest.raises(gj.ArgumentError, match="'identity'"):
        slopes.tidy(exponentiate=True)
    probit = replace(glm, family=gj.families.resolve_family("binomial(probit)"))
    with pytest.raises(gj.ArgumentError, match="'probit'"):
        probit.tidy(exponentiate=True)
    assert len(slopes.tidy(exponentiate=True, effects="ran_pars")) == 4


@pytest.mark.parametrize("level", [0.5, 0.99])
def test_level_of_the_intervals(slopes: Fit, level: float) -> None:
    table, half = slopes.tidy(level=level), norm.ppf(0.5 + level / 2)
    fixed, spread = rows_of(table, "fixed"), rows_of(table, "ran_pars")
    np.testing.assert_allclose(fixed["conf_high"], fixed["estimate"] + half * fixed["std_error"], rtol=1e-10)
    sd = spread.drop(index="cor__(Intercept).Days")
    np.testing.assert_allclose(sd["conf_low"] * sd["conf_high"], sd["estimate"] ** 2, rtol=1e-10)
    np.testing.assert_allclose(
        np.log(sd["conf_high"] / sd["estimate"]), half * sd["std_error"] / sd["estimate"], rtol=1e-10
    )


def test_arguments_of_tidy(slopes: Fit) -> None:
    assert list(slopes.tidy(conf_int=False).columns) == COLUMNS[:-2]
    with pytest.raises(gj.ArgumentError, match="between 0 and 1"):
        slopes.tidy(level=95)
    with pytest.raises(gj.ArgumentError, match="Did you mean 'ran_pars'"):
        slopes.tidy(effects=("fixed", "ran_par"))


def test_a_variance_at_zero_has_no_standard_error(singular: Fit) -> None:
    spread = rows_of(singular.tidy(), "ran_pars")
    assert spread.loc["sd__(Intercept)", ["std_error", "conf_low", "conf_high"]].isna().all()
    assert spread.loc["sd__(Intercept)", "estimate"] < 1e-3
    assert spread.loc["sd__Observation", "std_error"] > 0
    assert (rows_of(singular.tidy(), "fixed")["std_error"] > 0).all()


def test_a_correlation_at_its_limit_leaves_the_standard_deviations_theirs(slopes: Fit) -> None:
    vcov = slopes.vcov.copy()
    vcov[5, :] = vcov[:, 5] = np.nan
    (term,) = slopes.terms
    limit = replace(term, correlations=np.array([1.0]), sd_jacobian=term.sd_jacobian + 1e-14 * np.eye(2, 6, 4))
    spread = rows_of(replace(slopes, vcov=vcov, terms=(limit,)).tidy(), "ran_pars")
    assert spread.loc["cor__(Intercept).Days", ["std_error", "conf_low", "conf_high"]].isna().all()
    assert (spread.loc[["sd__(Intercept)", "sd__Days"], "std_error"] > 0).all()


# -- glance, augment, maketables ---------------------------------------------------------------------------------------
def test_glance_agrees_with_glmmtmb(counts: Fit, reference: Any) -> None:
    table, expected = counts.glance(), reference("salamanders_nb2")
    assert len(table) == 1
    row = table.iloc[0]
    np.testing.assert_allclose(
        [row["llf"], row["aic"], row["bic"], row["sigma"], row["deviance"]],
        [expected["logLik"], expected["AIC"], expected["BIC"], expected["sigma"], -2 * expected["logLik"]],
        rtol=1e-5,
    )
    assert (row["nobs"], row["df"], row["df_resid"]) == (644, 10, 634)
    assert row["aicc"] == pytest.approx(row["aic"] + 2 * 10 * 11 / 633, rel=1e-12)
    assert row["converged"] and row["status"] == "converged"


def test_aicc_of_too_few_rows_is_missing(slopes: Fit) -> None:
    few = replace(slopes, design=replace(slopes.design, y=slopes.design.y[:7]))
    assert np.isnan(few.glance()["aicc"].iloc[0])


def test_augment_the_data(singular: Fit, glm: Fit) -> None:
    table = singular.augment()
    assert list(table.columns) == ["y", "g", "fitted", "resid", "pearson"]
    assert 3 not in table.index and len(table) == 59
    assert table.loc[57, "g"] == 11
    np.testing.assert_allclose(table["y"] - table["fitted"], table["resid"], atol=1e-12)
    np.testing.assert_allclose(table["pearson"], table["resid"] / singular.sigma, rtol=1e-10)

    data, table = gj.datasets.load("cbpp"), glm.augment()
    name = "cbind(incidence, size - incidence)"
    assert list(table.columns) == [name, "trials", "fitted", "resid", "pearson"]
    np.testing.assert_allclose(table[name], data["incidence"] / data["size"])
    np.testing.assert_allclose(table["trials"], data["size"])


def test_augment_new_data(slopes: Fit) -> None:
    new = pd.DataFrame({"Days": [0.0, 20.0], "Subject": ["308", "309"], "kept": ["a", "b"]}, index=[7, 9])
    table = slopes.augment(new)
    assert list(table.columns) == ["Days", "Subject", "kept", "fitted"] and list(table.index) == [7, 9]
    assert "fitted" not in new.columns
    np.testing.assert_allclose(table["fitted"], slopes.predict(new))
    plain = slopes.augment({name: new[name].to_list() for name in new})
    np.testing.assert_allclose(plain["fitted"], table["fitted"])


def test_maketables_protocol(dispersion: Fit) -> None:
    table: Any = dispersion.__maketables_coef_table__
    assert list(table.columns) == ["b", "se", "t", "p", "ci95l", "ci95u"]
    assert list(table.index) == list(dispersion.params.index) and table.index[-1] == "disp:mined[T.yes]"
    np.testing.assert_allclose(table["t"], table["b"] / table["se"])
    np.testing.assert_allclose(table["ci95u"], table["b"] + norm.ppf(0.975) * table["se"])
    assert dispersion.__maketables_depvar__ == "count"
    keys = dispersion.__maketables_default_stat_keys__
    assert keys == ["N", "ll", "aic", "bic"]
    values = [dispersion.__maketables_stat__(key) for key in keys]
    assert values == [644, dispersion.llf, dispersion.aic, dispersion.bic]
    assert dispersion.__maketables_stat__("r2") is None
    assert dispersion.__maketables_stat_labels__["ll"] == "Log-likelihood"
