"""What a user has set, or done, in the same process: JAX's own settings, options of the compiler, forked children."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import glmmjax as gj
from glmmjax import programs

SETTINGS: dict[str, Any] = {
    "jax_disable_jit": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_check_tracer_leaks": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_transfer_guard": "disallow",
    "jax_transfer_guard_device_to_host": "disallow_explicit",
    "jax_enable_checks": True,
    "jax_debug_key_reuse": True,
    "jax_default_dtype_bits": "32",  # JAX before 0.9
}
RNG = np.random.default_rng(1)
GROUP = np.repeat(np.arange(6), 5)
DATA = {
    "g": GROUP,
    "x": RNG.normal(size=30),
    "y": RNG.normal(size=6)[GROUP] + RNG.normal(size=30),
    "z": RNG.integers(0, 3, size=30),
}


@pytest.fixture
def unusual() -> Iterator[None]:
    """Everything at once that a user can set."""
    before = {name: getattr(jax.config, name) for name in SETTINGS if hasattr(jax.config, name)}
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for name in before:
            jax.config.update(name, SETTINGS[name])
    yield
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for name, value in before.items():
            jax.config.update(name, value)


def nll(p: Any, r: Any, d: Any) -> Any:
    """Rank and type promotion, an infinite value that does not count, a loop."""
    mean = p["b"] * d["x"] + r["u"][d["g"]] * jnp.exp(p["log_sd"])
    wild = jnp.where(d["z"] >= 0, 0.0, jnp.log(0 * d["z"]))
    steps = jax.lax.scan(lambda total, e: (total + e**2, None), 0.0, d["y"] - mean)[0]
    return 0.5 * steps + 0.5 * jnp.sum(r["u"] ** 2) + jnp.sum(wild) + 0 * jnp.sum(jnp.ones((2, 30)) * d["z"])


def draw(key: Any, p: Any, r: Any, d: Any) -> Any:
    for_u, for_y = jax.random.split(key)
    u = jax.random.normal(for_u, (6,)) if r is None else r["u"]
    mean = p["b"] * d["x"] + u[d["g"]] * jnp.exp(p["log_sd"])
    return {"u": u}, {**d, "y": mean + jax.random.normal(for_y, (30,))}


def row_nll(p: Any, e: Any, row: Any) -> Any:
    return 0.5 * (row["y"] - p["b"] * row["x"] - e["g"][0] * jnp.exp(p["log_sd"])) ** 2


@cache
def formula() -> Any:
    return gj.glmm("y ~ x + (1 | g)", DATA)


@cache
def own() -> Any:
    start = {"b": 0.0, "log_sd": 0.0}
    return gj.fit(nll, start, {"u": np.zeros(6)}, DATA, gj.Blocks(), simulate=draw)


def log_density() -> float:
    """Of the response under the fitted formula, written out."""
    fit = formula()
    V = np.exp(2 * fit.theta[0]) * (GROUP[:, None] == GROUP) + fit.sigma**2 * np.eye(30)
    mean = fit.params["(Intercept)"] + fit.params["x"] * DATA["x"]
    return multivariate_normal(mean, V).logpdf(DATA["y"]) - fit.llf


DOORS: dict[str, Callable[[], Any]] = {
    "glmm": lambda: formula().llf,
    "fit": lambda: own().llf,
    "fit_many": lambda: gj.fit_many("~ x + (1 | g)", DATA, DATA["y"][:, None] * [1.0, 2.0]).llf,
    "simulate": lambda: own().simulate(2)[1].data["y"],
    "predict": lambda: formula().get_prediction().se,
    "consistency": lambda: gj.check.consistency(own(), 8).joint,
}
SLOW: dict[str, Callable[[], Any]] = {
    "clmm": lambda: gj.clmm("z ~ x", DATA).llf,
    "fit_observations": lambda: gj.fit_observations(row_nll, {"b": 0.0, "log_sd": 0.0}, {"g": 1}, DATA).llf,
    "bootstrap": lambda: gj.bootstrap(formula(), 2).summary()["estimate"],
    "refit": lambda: formula().refit(DATA["y"] + 1.0).llf,
    "profile": lambda: formula().conf_int(method="profile", parameters=["x"]),
    "sdreport": lambda: own().sdreport(lambda p, r, d: r["u"] * d["x"][:6]).report_se,
}


@pytest.mark.parametrize("door", [*DOORS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_setting_of_the_user_breaks_nothing(door: str, unusual: None) -> None:
    values = np.asarray({**DOORS, **SLOW}[door](), dtype=float)
    assert values.size and np.all(np.isfinite(values))
    assert all(getattr(jax.config, name, value) == value for name, value in SETTINGS.items())


def test_a_setting_of_the_user_changes_no_value(unusual: None) -> None:
    assert abs(log_density()) < 1e-9


def test_single_precision_outside_is_left_alone() -> None:
    own()
    assert jnp.zeros(1).dtype == jnp.float32
    with jax.enable_x64(True):
        assert gj.glmm("y ~ x + (1 | g)", DATA).llf == formula().llf


def test_options_that_the_compiler_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "QUICK", {"xla_no_such_option": True, **programs.QUICK})
    monkeypatch.setattr(programs, "_refused", set())
    start = {"a": 0.0}
    for power in (2, 4):
        fit = gj.fit(lambda p, r, d, power=power: (p["a"] - 1.0) ** power + p["a"] ** 2, start)
        assert fit.converged
    assert "xla_no_such_option" in programs._refused


def test_an_error_of_the_compiler_that_is_no_refusal_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lowered:
        def compile(self, compiler_options: Any) -> Any:
            raise jax.errors.JaxRuntimeError("out of memory")

    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        programs._compiled_quickly(Lowered())


FORKS = """
    import multiprocessing, signal, warnings
    warnings.simplefilter("ignore")  # JAX's own warning of os.fork()
    import glmmjax as gj

    def one(queue):
        signal.alarm(60)
        try:
            queue.put(gj.fit(lambda p, r, d: (p["a"] - 3.0) ** 2, {"a": 0.0}).estimates["a"].item())
        except gj.GlmmjaxError as error:
            queue.put(f"{type(error).__name__}: {error}")

    def child():
        queue = multiprocessing.get_context("fork").SimpleQueue()
        process = multiprocessing.get_context("fork").Process(target=one, args=(queue,))
        process.start()
        process.join()
        return "killed" if queue.empty() else queue.get()

    print(child())
    one(multiprocessing.get_context("fork").SimpleQueue())
    print(child())
"""


def test_a_forked_child_works_before_any_fit_and_is_refused_after_one() -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FORKS)], capture_output=True, text=True, timeout=200)
    before, after = done.stdout.splitlines()
    assert float(before) == pytest.approx(3.0), done.stderr
    assert after.startswith("FitError") and "get_context('spawn')" in after
