"""Families, components, ordinal models and restricted likelihood: glmmjax agrees with R.

`make_families.R` makes both files: `components.json` was recorded with glmmTMB 1.1.15 and ordinal 2022.11,
`families.json` with glmmTMB 1.1.5. Each fit compiles a program of its own, so that most of these are extended tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glmmjax as gj

HERE = Path(__file__).parent
CASES = {case["name"]: case for case in json.loads((HERE / "components.json").read_text())}
FAMILIES = {case["name"]: case for case in json.loads((HERE / "families.json").read_text())}
QUICK = ("salamanders_zinb2", "salamanders_hurdle_poisson", "dyestuff_reml", "salamanders_tweedie")
BLOCKS = {"cond": "beta", "zi": "beta_zi", "disp": "beta_disp"}

# glmmTMB stopped at df = 2.8e6, where the likelihood is that of the gaussian model; there is a higher maximum.
LOCAL = ("sleepstudy_t",)
# ordinal::clmm calls cloglog what clm, MASS::polr and brms call loglog; see test_clmm_exchanges_two_names.
RENAMED = {"wine_cloglog": "loglog"}


def marked(names: Any) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.extended) for name in names]


def check_likelihood(ours: float, theirs: float, by_clmm: bool) -> None:
    """Equal; clmm's default tolerances leave it up to 2e-4 short, never ahead by more than rounding of its modes."""
    assert ours == pytest.approx(theirs, rel=1e-6) if not by_clmm else -1e-5 < ours - theirs < 2e-4


def refit(case: dict[str, Any]) -> Any:
    data = gj.datasets.load(case["data"])
    if case["family"].startswith("cumulative"):
        link = RENAMED.get(case["name"], case["family"].removeprefix("cumulative(").removesuffix(")"))
        return gj.clmm(case["formula"], data, link)
    return gj.glmm(case["formula"], data, case["family"], **case["call"])


@pytest.mark.parametrize("name", marked(name for name in CASES if name not in LOCAL))
def test_agrees_with_r(name: str) -> None:
    case = CASES[name]
    fit, expected = refit(case), case["reference"]
    assert fit.converged and fit.pd_hess
    ordinal = fit.family.name == "cumulative"
    check_likelihood(fit.llf, expected["logLik"], ordinal)
    for component, coef in expected["coef"].items():
        est, se = np.atleast_1d(coef["est"]), np.atleast_1d(coef["se"])
        own = np.concatenate([fit.psi, fit.params]) if ordinal else fit.estimates[BLOCKS[component]]
        if ordinal:
            own_se = np.array([*fit.tidy(effects="shape")["std_error"], *fit.bse])
        else:
            own_se = np.sqrt(np.diag(fit.vcov)[fit.positions(BLOCKS[component])])
        np.testing.assert_allclose((own - est) / se, 0.0, atol=3e-4 if ordinal else 2e-4)
        np.testing.assert_allclose(own_se, se, rtol=1e-3)
    if expected.get("sigma") is not None:
        assert fit.sigma == pytest.approx(expected["sigma"], rel=1e-4)
    if "singular" not in fit.status:
        for component, groups in (expected.get("varcorr") or {}).items():
            for group, block in groups.items():
                ours = [t.sd for t in fit.terms if t.component == component and t.group == group]
                np.testing.assert_allclose(np.concatenate(ours), np.atleast_1d(block["sd"]), rtol=2e-4)
    if expected.get("family_params"):
        np.testing.assert_allclose(fit.psi, list(expected["family_params"].values()), rtol=1e-3)


@pytest.mark.extended
def test_the_t_family_finds_the_higher_of_two_maxima() -> None:
    """At a huge df the likelihood is gaussian; the recorded fit stopped there, 5.7 below."""
    case = CASES["sleepstudy_t"]
    fit = refit(case)
    gaussian = gj.glmm(case["formula"], gj.datasets.load("sleepstudy"))
    assert case["reference"]["logLik"] == pytest.approx(gaussian.llf, abs=1e-4)
    assert fit.converged and fit.llf > gaussian.llf + 5.0
    held = gj.glmm(case["formula"], gj.datasets.load("sleepstudy"), gj.families.t(df=1e9))
    assert held.llf == pytest.approx(gaussian.llf, abs=1e-5)


TMB = {"beta": "beta", "betad": "beta_disp", "betazi": "beta_zi", "psi": "psi"}
EXTRA: dict[str, dict[str, Any]] = {
    "beta_disp": {"dispformula": "~ Days"},
    "gamma_hurdle": {"ziformula": "~ mined"},
    "hurdle_genpois": {"ziformula": "~ mined"},
    "hurdle_nbinom2_disp": {"ziformula": "~ mined", "dispformula": "~ mined"},
    "zi_tweedie": {"ziformula": "~ 1"},
    "zi_copy": {"ziformula": "~ ."},
    "poisson_reml": {"reml": True},
    "nbinom2_reml": {"reml": True},
}
FROM_TMB = [name for name, case in FAMILIES.items() if case["engine"].startswith("glmmTMB")]


@pytest.mark.parametrize("name", marked(FROM_TMB))
def test_families_agree_with_glmmtmb(name: str) -> None:
    case = FAMILIES[name]
    fit = gj.glmm(case["formula"], gj.datasets.load(case["data"]), case["family"], **EXTRA.get(name, {}))
    assert fit.converged
    assert fit.llf == pytest.approx(case["logLik"], rel=1e-6)
    np.testing.assert_allclose(fit.bse.to_numpy()[: len(case["se"])], case["se"], rtol=1e-3)
    for block, ours in TMB.items():
        if name == "zi_tweedie" and block == "betazi":
            assert "the probability of an extra zero is 0" in fit.status  # R stopped on its way to minus infinity
        elif block in case["par"]:
            theirs = np.atleast_1d(case["par"][block])
            np.testing.assert_allclose(fit.estimates[ours], theirs, atol=2e-4, rtol=2e-4)


ORDINAL: dict[str, tuple[str, dict[str, Any]]] = {
    "clm_cloglog": ("rating ~ temp + contact", {"link": "cloglog"}),
    "clm_loglog": ("rating ~ temp + contact", {"link": "loglog"}),
    "clm_scale": ("rating ~ temp + contact", {"scale": "~ contact"}),
    "clm_nominal": ("rating ~ temp", {"nominal": "~ contact"}),
    "clmm_symmetric": ("rating ~ temp + contact + (1 | judge)", {"threshold": "symmetric"}),
    "clmm_equidistant": ("rating ~ temp + contact + (1 | judge)", {"threshold": "equidistant"}),
    "clmm_loglog": ("rating ~ temp + contact + (1 | judge)", {"link": "loglog"}),
}


@pytest.mark.extended
@pytest.mark.parametrize("name", ORDINAL)
def test_ordinal_models_agree_with_ordinal(name: str) -> None:
    formula, arguments = ORDINAL[name]
    case = FAMILIES[name]
    fit = gj.clmm(formula, gj.datasets.load("wine"), **arguments)
    assert fit.converged and fit.pd_hess
    check_likelihood(fit.llf, case["logLik"], "clmm" in case["engine"])
    coef = {key: value for key, value in case["coef"].items()}
    assert fit.params["temp[T.warm]"] == pytest.approx(coef["tempwarm"], abs=2e-4)
    if "1|2" in coef:
        np.testing.assert_allclose(fit.psi, [coef[label] for label in fit.psi.index], atol=5e-4)
    if name == "clm_nominal":
        # R adds the effect to the threshold, as here
        ours = [fit.estimates[f"beta_nominal{j}"][0] for j in range(1, 5)]
        theirs = [coef[f"{label}.contactyes"] for label in fit.psi.index]
        np.testing.assert_allclose(ours, theirs, atol=5e-4)
    if "scale" in arguments:
        assert fit.estimates["beta_disp"][0] == pytest.approx(coef["contactyes.1"], abs=2e-4)
    if name == "clmm_equidistant":
        np.testing.assert_allclose(np.diff(fit.psi), coef["spacing"], atol=5e-4)


def test_clmm_exchanges_two_names() -> None:
    """clm and clmm of one package disagree about what cloglog is; the definition is clm's."""
    eta = np.array([-0.4, 0.9])
    cloglog, loglog = (gj.families.cumulative(name).link for name in ("cloglog", "loglog"))
    np.testing.assert_allclose(np.exp(np.asarray(cloglog.log1m_inverse(eta))), np.exp(-np.exp(eta)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(np.asarray(loglog.log_inverse(eta))), np.exp(-np.exp(-eta)), rtol=1e-5)
    # the random intercept adds about as much to each, so that clmm's "cloglog" belongs with clm's loglog
    renamed = FAMILIES["clmm_loglog"]
    assert renamed["logLik"] == pytest.approx(CASES["wine_cloglog"]["reference"]["logLik"], abs=1e-6)
    assert renamed["coef"]["tempwarm"] / FAMILIES["clm_loglog"]["coef"]["tempwarm"] == pytest.approx(1.29, abs=0.01)
