"""The front door: programs are shared, responses can be batched, optimizers agree, bad arguments are refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

import glmmjax as gj
from glmmjax import programs
from glmmjax._precision import double_precision, to_numpy
from glmmjax.coordinates import block_diagonal, orthonormal_scale
from glmmjax.hessians import zeros
from glmmjax.layout import lay_out
from glmmjax.model import joint_model
from glmmjax.optimizer import newton_start

FORMULA = "count ~ mined + DOP + (1 | site)"


@pytest.fixture(scope="module")
def salamanders() -> pd.DataFrame:
    return gj.datasets.load("salamanders")


@pytest.fixture(scope="module")
def counts(salamanders: pd.DataFrame) -> gj.Fit:
    return gj.glmm(FORMULA, salamanders, "poisson")


def test_the_same_structure_is_not_traced_again(salamanders: pd.DataFrame, counts: gj.Fit) -> None:
    """Another response, other rows (of about the same number) and other groups run the program that is there."""
    before = programs.traces
    other = salamanders.assign(count=np.random.default_rng(0).poisson(2.0, len(salamanders)))
    fits = [
        gj.glmm(FORMULA, other, "poisson"),
        gj.glmm(FORMULA, other.iloc[2:], "poisson"),
        counts.refit(other["count"]),
    ]
    assert programs.traces == before
    assert all(fit.timings["compile"] == 0.0 and fit.converged for fit in fits)
    assert fits[0].llf == pytest.approx(fits[2].llf, rel=1e-12)
    assert fits[1].nobs == len(other) - 2


def test_other_counts_of_the_same_model_need_few_programs(salamanders: pd.DataFrame) -> None:
    """Where the number of distinct counts is part of the program, it is rounded up coarsely, alone and in batches."""
    fit = gj.glmm(FORMULA, salamanders, "nbinom2")
    Y = fit.simulate(16, seed=1).T
    before = programs.traces
    assert len({len(np.unique(y)) for y in Y.T}) > 4 and all(fit.refit(y).converged for y in Y.T)
    assert programs.traces <= before + 1
    right = "~" + FORMULA.partition("~")[2]
    gj.fit_many(right, salamanders, Y[:, :8], "nbinom2")
    before = programs.traces
    assert gj.fit_many(right, salamanders, Y[:, 8:], "nbinom2").timings["compile"] < 0.05
    assert programs.traces == before


def test_only_the_last_programs_are_kept(counts: gj.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 1)
    monkeypatch.setattr(programs, "_compiled", programs.OrderedDict())
    with double_precision():
        for size in (1, 2, 1):
            program, seconds = programs.compiled(jax.numpy.add, (), (np.zeros(size), np.ones(size)))
            assert seconds > 0 and program(np.zeros(size), np.ones(size)).shape == (size,)
    assert len(programs._compiled) == 1


def test_three_responses_in_one_call_equal_three_fits(salamanders: pd.DataFrame, counts: gj.Fit) -> None:
    rng = np.random.default_rng(1)
    responses = np.stack([salamanders["count"], rng.poisson(counts.fitted()), rng.poisson(1.5, counts.nobs)]).astype(
        float
    )
    single = [counts.refit(y) for y in responses]
    layout, data = lay_out(counts.design, counts.family)
    y = np.stack([lay_out(replace(counts.design, y=r), counts.family)[1].y for r in responses])
    flat = np.concatenate(list(counts.estimates.values()))
    modes = zeros(layout.structure.levels)
    T = block_diagonal([orthonormal_scale(counts.design.components["cond"].X), np.eye(1)])
    axes = replace(jax.tree.map(lambda _: None, data), y=0)

    def run(data: object) -> object:
        return programs.newton_program((joint_model, layout), True, newton_start(flat, modes), T, 1e-10, 100, 100, data)

    with double_precision():
        state, report = to_numpy(jax.jit(jax.vmap(run, in_axes=(axes,)))(replace(data, y=y)))
    for i, fit in enumerate(single):
        assert state.outcome[i] == 0
        base = np.sum(counts.family.log_base(responses[i], counts.design.trials))
        assert base - state.at.value[i] == pytest.approx(fit.llf, abs=1e-8)
        np.testing.assert_allclose(state.flat[i], np.concatenate(list(fit.estimates.values())), atol=1e-6)
        np.testing.assert_allclose(report.value[0][1][i], fit.terms[0].sd, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["jaxopt-bfgs", "jaxopt-lbfgs", "scipy-bfgs", "scipy-l-bfgs-b"])
def test_optimizers_agree(salamanders: pd.DataFrame, counts: gj.Fit, optimizer: str) -> None:
    fit = gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(optimizer=optimizer))
    assert fit.status == "converged"
    assert fit.llf == pytest.approx(counts.llf, abs=1e-6)
    np.testing.assert_allclose(fit.params, counts.params, atol=1e-3 * counts.bse.min())
    np.testing.assert_allclose(fit.bse, counts.bse, rtol=1e-3)


def test_an_iteration_limit_is_reported(salamanders: pd.DataFrame) -> None:
    fit = gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(max_iter=2, warn=False))
    assert not fit.converged
    assert "iteration limit" in fit.status and "gradient too large" in fit.status


def test_progress_goes_to_stderr_and_changes_nothing(
    salamanders: pd.DataFrame, counts: gj.Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(progress=True))
    out = capsys.readouterr()
    assert out.err.count("iteration") == fit.iterations and out.out == ""
    assert fit.llf == counts.llf


def test_an_interrupted_fit_says_so(salamanders: pd.DataFrame, counts: gj.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the first iteration: what has been reached comes back, with a status."""

    def interrupt(state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glmmjax.solving._show", interrupt)
    with pytest.raises(KeyboardInterrupt):  # the last line is shown after the loop
        gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(progress=True))
    calls = iter([True])

    def once(state: object) -> None:
        if next(calls, False):
            raise KeyboardInterrupt

    monkeypatch.setattr("glmmjax.solving._show", once)
    with pytest.warns(gj.GlmmjaxWarning, match="stopped before"):
        fit = gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(progress=True))
    assert not fit.converged and "stopped before" in fit.status
    assert fit.llf < counts.llf


def test_start_values_are_used_and_checked(salamanders: pd.DataFrame, counts: gj.Fit) -> None:
    again = gj.glmm(FORMULA, salamanders, "poisson", start=counts.estimates)
    assert again.iterations == 1 and again.llf == pytest.approx(counts.llf, abs=1e-9)
    with pytest.raises(gj.ArgumentError, match=r"no parameters are called 'tehta'. Did you mean 'theta'"):
        gj.glmm(FORMULA, salamanders, "poisson", start={"tehta": 0.0})
    with pytest.raises(gj.ArgumentError, match=r"start\['beta'\] must be 3 finite numbers"):
        gj.glmm(FORMULA, salamanders, "poisson", start={"beta": [1.0]})


def test_a_start_outside_the_domain_is_a_status_not_a_fit(salamanders: pd.DataFrame) -> None:
    with pytest.warns(gj.GlmmjaxWarning, match="not finite at the start"):
        fit = gj.glmm(FORMULA, salamanders, "poisson(identity)", start={"beta": [-5.0, 0.0, 0.0]})
    assert not fit.converged and "not finite at the start" in fit.status


def test_pickle_and_save_round_trip(counts: gj.Fit, tmp_path: object) -> None:
    again = pickle.loads(pickle.dumps(counts))
    pd.testing.assert_series_equal(again.params, counts.params)
    np.testing.assert_array_equal(again.predict(), counts.predict())
    counts.save(tmp_path / "fit.bin")  # type: ignore[operator]
    loaded = gj.load(tmp_path / "fit.bin")  # type: ignore[operator]
    assert loaded.llf == counts.llf and loaded.refit(counts.design.y).llf == pytest.approx(counts.llf)
    (tmp_path / "other.bin").write_bytes(pickle.dumps("something else"))  # type: ignore[operator]
    with pytest.raises(gj.DataError, match="does not hold a glmmjax fit"):
        gj.load(tmp_path / "other.bin")  # type: ignore[operator]


def test_nothing_global_is_changed(salamanders: pd.DataFrame) -> None:
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(1).dtype == "float32"


def test_a_dispersion_formula_equals_separate_dispersions() -> None:
    """Two groups with their own residual SD and mean, no random effects: two separate normal samples."""
    rng = np.random.default_rng(2)
    g = np.repeat(["a", "b"], [40, 60])
    y = np.where(g == "a", rng.normal(1, 0.5, 100), rng.normal(3, 2.0, 100))
    fit = gj.glmm("y ~ 0 + g", {"y": y, "g": g}, dispformula="~ 0 + g")
    expected = [np.log(y[g == level].std()) for level in "ab"]
    np.testing.assert_allclose(fit.fixef["disp"], expected, atol=1e-5)
    np.testing.assert_allclose(fit.fixef["cond"], [y[g == level].mean() for level in "ab"], atol=1e-5)
    assert list(fit.params.index) == ["g[a]", "g[b]", "disp:g[a]", "disp:g[b]"]


BAD = [
    ({"formla": "x"}, gj.ArgumentError, "no argument 'formla'. Did you mean 'formula'"),
    ({"family": "poison"}, gj.FamilyError, "Did you mean 'poisson'"),
    ({"family": "poisson(logit)"}, gj.FamilyError, "cannot have the link"),
    ({"control": "newton"}, gj.ArgumentError, "control must be a glmmjax.Control"),
    ({"dispformula": "~ DOP"}, gj.ArgumentError, "has no dispersion parameter"),
    ({"formula": "DOP ~ mined + (1 | site)"}, gj.ResponseError, "must be whole numbers"),
    ({"formula": "count ~ mind + (1 | site)"}, gj.DataError, "Did you mean 'mined'"),
    ({"formula": "count ~ mined + (1 | site"}, gj.FormulaError, "parenthes"),
    ({"formula": "count ~ mined + 1 | site"}, gj.FormulaError, r"\(1 \| site\)|parenthes"),
    ({"formula": "~ mined"}, gj.FormulaError, "response"),
    ({"formula": "count ~ mined + ar9(1 | site)"}, gj.FormulaError, "covariance structure 'ar9'"),
    ({"formula": "spp ~ mined + (1 | site)"}, gj.DataError, "spp"),
    ({"weights": [1.0]}, gj.GlmmjaxError, "weights"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_named(salamanders: pd.DataFrame, changes: dict, error: type, message: str) -> None:
    arguments = {"formula": FORMULA, "data": salamanders, "family": "poisson"} | changes
    with pytest.raises(error, match=message):
        gj.glmm(**arguments)


@pytest.mark.parametrize(
    "settings",
    [{"optimizer": "newtn"}, {"dtype": "float32"}, {"max_iter": 0}, {"tol": 0.0}, {"rank_deficient": "keep"}],
)
def test_bad_control_is_named(settings: dict) -> None:
    with pytest.raises(gj.ArgumentError, match=next(iter(settings))):
        gj.Control(**settings)


@pytest.mark.parametrize(("family", "y"), [("gaussian", np.arange(6.0)), ("binomial", np.array([0.0, 1, 1, 0, 1, 0]))])
def test_an_effect_for_every_row_that_is_not_identified_is_refused(family: str, y: np.ndarray) -> None:
    with pytest.raises(gj.ResponseError, match=r"\(1 \| id\): the factor has as many levels as there are rows"):
        gj.glmm("y ~ 1 + (1 | id)", {"y": y, "id": list("abcdef")}, family)


def test_crossed_factors_that_do_not_fit_into_memory_are_refused_before_anything_is_allocated() -> None:
    rng = np.random.default_rng(0)
    n = 400_000
    data = {"y": rng.poisson(1.0, n), "a": rng.integers(0, 150_000, n), "b": rng.integers(0, 140_000, n)}
    with pytest.raises(gj.DataError, match=r"crossed: \d+ x \d+ groups.* would need about \d+ GiB of memory"):
        gj.glmm("y ~ 1 + (1 | a) + (1 | b)", data, "poisson")


def test_a_device_is_chosen_by_name(salamanders: pd.DataFrame, counts: gj.Fit) -> None:
    fit = gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(device="cpu"))
    assert fit.llf == pytest.approx(counts.llf, rel=1e-12)
    with pytest.raises(gj.ArgumentError, match="device 'abacus' is not there"):
        gj.glmm(FORMULA, salamanders, "poisson", control=gj.Control(device="abacus"))
