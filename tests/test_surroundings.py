"""What a user's function reads besides its arguments: another value is another program, the same value the same one."""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import glmmjax as gj
from glmmjax import compilation_cache, programs
from glmmjax.covariance import Covariance
from glmmjax.families import LINKS, Family, zero_inflated
from glmmjax.surroundings import has_own_functions, read_surroundings

K = 1.0
VECTOR = np.ones(3)
TABLE = {"scale": [1.0, {"deep": 2.0}]}
MODULE = types.ModuleType("settings_of_mine")
MODULE.K, MODULE.inner = 1.0, types.ModuleType("settings_of_mine.inner")  # type: ignore[attr-defined]
MODULE.inner.K = 1.0
FRAME = pd.DataFrame({"a": [1.0, 2.0]})
NOTES = "not read"


class Kind(Enum):
    """A choice."""

    ONE = 1.0
    TWO = 2.0


CHOICE = Kind.ONE


class Object:
    """A model whose numbers are attributes."""

    shared: ClassVar[float] = 1.0

    def __init__(self, k: float = 1.0) -> None:
        self.k = k
        self.other: Any = None

    def nll(self, p: Any, r: Any, d: Any) -> Any:
        return jnp.sum((d["y"] - self.scale() * p["mu"]) ** 2)

    def scale(self) -> float:
        return self.k * self.shared

    @property
    def doubled(self) -> float:
        return 2.0 * K

    def __call__(self, p: Any, r: Any, d: Any) -> Any:
        return self.nll(p, r, d)


class Slots:
    """Attributes without a dictionary."""

    __slots__ = ("k",)

    def __init__(self) -> None:
        self.k = 1.0


@dataclass(frozen=True)
class Frozen:
    """Equal by value."""

    k: float = 1.0
    parts: tuple[Any, ...] = ()

    def __call__(self, p: Any, r: Any, d: Any) -> Any:
        return K * p["mu"]


Pair = namedtuple("Pair", ["first", "second"])
OBJECT, SLOTS = Object(), Slots()
HELPERS: list[Any] = []
HELPER: Any = None


def reads_global(p: Any, r: Any, d: Any) -> Any:
    return jnp.sum((d["y"] - K * p["mu"]) ** 2)


def calls(p: Any, r: Any, d: Any) -> Any:
    return reads_global(p, r, d) + 1.0


def inside(p: Any, r: Any, d: Any) -> Any:
    return jax.vmap(lambda y: (y - K * p["mu"]) ** 2)(d["y"]).sum()


def body(total: Any, y: Any) -> Any:
    return total + K * y, None


def scans(p: Any, r: Any, d: Any) -> Any:
    return jax.lax.scan(body, 0.0, d["y"])[0] + p["mu"] ** 2


def with_default(p: Any, r: Any, d: Any, k: Any = VECTOR) -> Any:
    return jnp.sum(k * p["mu"])


def with_keyword(p: Any, r: Any, d: Any, *, k: Any = TABLE) -> Any:
    return p["mu"] * k["scale"][0]


def with_attribute(p: Any, r: Any, d: Any) -> Any:
    return with_attribute.k * p["mu"]  # type: ignore[attr-defined]


with_attribute.k = 1.0  # type: ignore[attr-defined]


def closure() -> Any:
    k = 1.0

    def nll(p: Any, r: Any, d: Any) -> Any:
        return jnp.sum((d["y"] - k * p["mu"]) ** 2)

    def change(new: float) -> None:
        nonlocal k
        k = new

    nll.change = change  # type: ignore[attr-defined]
    return nll


@jax.custom_jvp
def custom(x: Any) -> Any:
    return K * x


@custom.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return custom(primals[0]), K * tangents[0]


def wrapped(p: Any, r: Any, d: Any) -> Any:
    return custom(p["mu"])


def set_global(**values: Any) -> Callable[[], None]:
    return lambda: globals().update(values)


def changed(thing: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(thing, name, value)


CLOSURE, MADE = closure(), Object()
# a function, and something that changes what it reads
READS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "global": (reads_global, set_global(K=2.0)),
    "global of another type": (reads_global, set_global(K=1)),
    "global of a function that it calls": (calls, set_global(K=2.0)),
    "global of a function inside": (inside, set_global(K=2.0)),
    "global of the body of a loop": (scans, set_global(K=2.0)),
    "the function that it calls": (calls, set_global(reads_global=lambda p, r, d: p["mu"])),
    "global array": (lambda p, r, d: VECTOR, set_global(VECTOR=np.zeros(3))),
    "global array, changed in place": (lambda p, r, d: VECTOR, lambda: VECTOR.__setitem__(1, 5.0)),
    "global array of JAX": (lambda p, r, d: HELPER, set_global(HELPER=jnp.ones(2))),
    "nested container": (lambda p, r, d: TABLE["scale"], lambda: TABLE["scale"][1].update(deep=3.0)),
    "data frame": (lambda p, r, d: FRAME["a"].to_numpy(), lambda: FRAME.__setitem__("a", [1.0, 3.0])),
    "member of an enumeration": (lambda p, r, d: CHOICE.value, set_global(CHOICE=Kind.TWO)),
    "attribute of a module": (lambda p, r, d: MODULE.K, changed(MODULE, "K", 2.0)),
    "attribute of a module inside": (lambda p, r, d: MODULE.inner.K, changed(MODULE.inner, "K", 2.0)),
    "a module as a value": (lambda p, r, d: getattr(MODULE, "K"), changed(MODULE, "K", 2.0)),  # noqa: B009
    "number of a package": (lambda p, r, d: np.pi, changed(np, "pi", 3.0)),
    "closure": (CLOSURE, lambda: CLOSURE.change(2.0)),
    "default": (with_default, lambda: VECTOR.__setitem__(0, 9.0)),
    "another default": (with_default, changed(with_default, "__defaults__", (2.0,))),
    "default of a keyword": (with_keyword, lambda: TABLE["scale"].__setitem__(0, 7.0)),
    "attribute of the function": (with_attribute, changed(with_attribute, "k", 2.0)),
    "attribute of a method's object": (MADE.nll, changed(MADE, "k", 2.0)),
    "attribute of a callable object": (MADE, changed(MADE, "k", 2.0)),
    "attribute that is an object": (MADE.nll, changed(MADE, "other", Object())),
    "attribute of a class": (MADE.nll, changed(Object, "shared", 2.0)),
    "another method": (MADE.nll, changed(Object, "scale", lambda self: 3.0)),
    "property that reads a global": (lambda p, r, d: OBJECT.doubled, set_global(K=2.0)),
    "attribute of a global object": (lambda p, r, d: OBJECT.k, changed(OBJECT, "k", 2.0)),
    "slot": (lambda p, r, d: SLOTS.k, changed(SLOTS, "k", 2.0)),
    "class used inside": (lambda p, r, d: Object().scale(), changed(Object, "shared", 2.0)),
    "named tuple": (lambda p, r, d: HELPER.first, set_global(HELPER=Pair(1.0, 2.0))),
    "frozen record that reads a global": (Frozen(), set_global(K=2.0)),
    "functools.partial": (partial(reads_global, k=VECTOR), lambda: VECTOR.__setitem__(0, 9.0)),
    "partial of a function that reads": (partial(reads_global, {"mu": 1.0}), set_global(K=2.0)),
    "list in a partial of a package": (partial(jnp.add, TABLE), lambda: TABLE["scale"].append(1.0)),
    "jax.tree_util.Partial": (jax.tree_util.Partial(reads_global, {"mu": 1.0}), set_global(K=2.0)),
    "function in a list": (lambda p, r, d: [f(p, r, d) for f in HELPERS], lambda: HELPERS.append(reads_global)),
    "global of a function in a record": (Frozen(parts=(reads_global,)), set_global(K=2.0)),
    "compiled by jax.jit": (jax.jit(reads_global), set_global(K=2.0)),
    "made by jax.vmap": (jax.vmap(reads_global), set_global(K=2.0)),
    "made by jax.grad and cached": (cache(jax.grad(reads_global)), set_global(K=2.0)),
    "with derivatives of its own": (wrapped, set_global(K=2.0)),
    "made by functools.wraps": (functools.wraps(calls)(lambda *a: reads_global(*a)), set_global(K=2.0)),
    "vectorized by numpy": (lambda p, r, d: HELPER, set_global(HELPER=np.vectorize(reads_global))),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test changes is put back."""
    names = {name: globals()[name] for name in ("K", "TABLE", "FRAME", "CHOICE", "HELPER", "HELPERS", "reads_global")}
    array, table, pi, frame = VECTOR.copy(), [1.0, {"deep": 2.0}], np.pi, FRAME["a"].copy()
    scale, defaults = Object.scale, with_default.__defaults__
    yield
    globals().update(names, VECTOR=VECTOR_ITSELF)
    VECTOR[:], TABLE["scale"], np.pi, FRAME["a"] = array, table, pi, frame  # type: ignore[misc]
    HELPERS.clear()
    with_default.__defaults__, with_attribute.k = defaults, 1.0  # type: ignore[attr-defined]
    MODULE.K = MODULE.inner.K = OBJECT.k = MADE.k = SLOTS.k = Object.shared = 1.0  # type: ignore[attr-defined]
    MADE.other, Object.scale = None, scale  # type: ignore[method-assign]
    CLOSURE.change(1.0)


VECTOR_ITSELF = VECTOR


@pytest.mark.parametrize("name", READS)
def test_what_is_read_is_in_the_key(name: str) -> None:
    function, change = READS[name]
    before = read_surroundings((function,))
    assert before is not None and not before.opaque
    globals()["NOTES"] = NOTES + "."
    assert read_surroundings((function,)) == before
    change()
    after = read_surroundings((function,))
    assert after is not None and not after.opaque and after != before


@pytest.mark.parametrize(
    "function",
    [
        lambda p, r, d: globals()["K"],
        lambda p, r, d: eval("K"),
        partial(reads_global, threading.Lock()),
        partial(reads_global, (x for x in "ab")),
    ],
)
def test_what_cannot_be_read_is_known(function: Any) -> None:
    read = read_surroundings((function,))
    assert read is not None and read.opaque


def test_functions_that_call_each_other_are_read() -> None:
    def even(n: int) -> Any:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> Any:
        return n != 0 and even(n - 1)

    loop: list[Any] = [even]
    loop.append(loop)
    read = read_surroundings((even,))
    assert read is not None and not read.opaque
    assert read_surroundings((partial(even, loop),)) is not None


def test_equal_surroundings_have_equal_keys() -> None:
    """However the values were made, and whether or not they are one object."""
    text = "".join(["a", "b"])
    one = read_surroundings((partial(calls, [text, text, {3, 1, 2}, np.arange(6.0)[::2]]),))
    two = read_surroundings((partial(calls, ["ab", "a" + "b", {2, 1, 3}, np.array([0.0, 2.0, 4.0])]),))
    assert one == two


@pytest.mark.parametrize("family", gj.families.FAMILIES)
def test_nothing_is_read_for_what_is_built_in(family: str) -> None:
    record = gj.families.FAMILIES[family](None)
    assert not has_own_functions((record, gj.covariance.COVARIANCES["us"]))
    if record.response in ("number", "count"):
        assert not has_own_functions((zero_inflated(record),))


# -- fits --------------------------------------------------------------------------------------------------------------
Y = np.array([1.0, 2.0, 6.0])


def estimate(nll: Any) -> float:
    return float(gj.fit(nll, {"mu": 0.5}, None, {"y": Y}).estimates["mu"])


def test_a_global_that_changes() -> None:
    assert estimate(reads_global) == pytest.approx(3.0)
    globals()["K"] = 2.0
    traced = programs.traces
    assert estimate(reads_global) == pytest.approx(1.5)
    assert programs.traces > traced
    globals()["K"] = 1.0
    traced = programs.traces
    assert estimate(reads_global) == pytest.approx(3.0)
    assert programs.traces == traced  # its program is still there


def test_a_global_in_the_body_of_a_loop_that_jax_has_traced() -> None:
    def nll(p: Any, r: Any, d: Any) -> Any:
        return (jax.lax.scan(body, 0.0, d["y"])[0] - p["mu"]) ** 2

    assert estimate(nll) == pytest.approx(9.0)
    globals()["K"] = 2.0
    assert estimate(nll) == pytest.approx(18.0)


def test_what_cannot_be_read_is_traced_at_every_fit() -> None:
    def nll(p: Any, r: Any, d: Any) -> Any:
        return jnp.sum((d["y"] - globals()["K"] * p["mu"]) ** 2)

    assert estimate(nll) == pytest.approx(3.0)
    globals()["K"] = 2.0
    assert estimate(nll) == pytest.approx(1.5)


def test_an_attribute_of_a_methods_object() -> None:
    assert estimate(MADE.nll) == pytest.approx(3.0)
    MADE.k = 3.0
    assert estimate(MADE.nll) == pytest.approx(1.0)
    assert estimate(MADE) == pytest.approx(1.0)


def test_a_model_by_observation_its_prior_and_its_report() -> None:
    def row(p: Any, e: Any, row: Any) -> Any:
        return 0.5 * (row["y"] - K * p["mu"] - e["g"][0]) ** 2

    def prior(p: Any, b: Any) -> Any:
        return 0.5 * jnp.sum(b**2) * K**2

    data = {"y": np.array([1.0, 3.0, 2.0, 6.0]), "g": [0, 0, 1, 1]}

    def mean_and_mode() -> tuple[float, float, float]:
        fit = gj.fit_observations(row, {"mu": 0.0}, {"g": 1}, data, prior=prior)
        reported = fit.sdreport(lambda p, r, d: p["mu"] * K).report
        return float(fit.estimates["mu"]), float(fit.modes["g"][0, 0]), float(reported)

    for k in (1.0, 2.0):
        globals()["K"] = k
        # each group's mode is the sum of its two residuals over 2 + K^2
        assert mean_and_mode() == pytest.approx((3.0 / k, -2.0 / (2.0 + k**2), 3.0), abs=1e-6)


def test_a_report_that_reads_a_global() -> None:
    fit = gj.fit(lambda p, r, d: jnp.sum((d["y"] - p["mu"]) ** 2), {"mu": 0.5}, None, {"y": Y})

    def report(p: Any, r: Any, d: Any) -> Any:
        return K * p["mu"]

    assert float(fit.sdreport(report).report) == pytest.approx(3.0)
    globals()["K"] = 2.0
    assert float(fit.sdreport(report).report) == pytest.approx(6.0)


def test_a_fit_warns_of_values_that_are_not_those_it_was_fitted_with() -> None:
    fit = gj.fit(reads_global, {"mu": 0.5}, None, {"y": Y})
    assert fit.problem.names == ("mu",)
    globals()["K"] = 2.0
    with pytest.warns(gj.GlmmjaxWarning, match="is not what it was when the model was fitted"):
        fit.sdreport(lambda p, r, d: p["mu"])
    globals()["K"] = 1.0
    assert float(fit.sdreport(lambda p, r, d: p["mu"]).report) == pytest.approx(3.0)


def test_a_simulator_that_reads_a_global_in_a_loop() -> None:
    def simulate(key: Any, p: Any, r: Any, d: Any) -> Any:
        return {}, {"y": jax.lax.scan(body, 0.0, d["y"])[0] * jnp.ones(3)}

    fit = gj.fit(lambda p, r, d: jnp.sum((d["y"] - p["mu"]) ** 2), {"mu": 0.5}, None, {"y": Y}, simulate=simulate)
    np.testing.assert_allclose(fit.simulate()[0].data["y"], 9.0)
    globals()["K"] = 2.0
    np.testing.assert_allclose(fit.simulate()[0].data["y"], 18.0)


def shifted(y: Any, eta: Any, trials: Any, link: Any) -> Any:
    return 0.5 * (y - K * eta["cond"]) ** 2


def scaled_diagonal(theta: Any, q: int) -> Any:
    return K * jnp.diag(jnp.exp(theta))


def test_a_private_family_and_a_private_covariance() -> None:
    data = {"y": np.array([1.0, 2.0, 6.0, 7.0]), "g": ["a", "a", "b", "b"]}
    family = Family("shifted", LINKS["identity"], shifted, interior=1.0)
    scaled = Covariance(
        "mine", lambda q: q, lambda theta, q: K * jnp.diag(jnp.exp(theta)), lambda S: np.zeros(1), False
    )
    for k in (1.0, 2.0):
        globals()["K"] = k
        assert gj.glmm("y ~ 1", data, family).params.iloc[0] == pytest.approx(4.0 / k)
    fits = []
    for k in (1.0, 2.0):
        globals()["K"] = k
        fits.append(gj.glmm("y ~ 1 + mine(1 | g)", data, covariances={"mine": scaled}))
    assert fits[0].llf == pytest.approx(fits[1].llf, abs=1e-7)
    assert fits[1].theta[0] == pytest.approx(fits[0].theta[0] - np.log(2.0), abs=1e-4)


@dataclass
class Unhashable:
    """Python gives a class with a comparison of its own no hash."""

    k: list[float] = field(default_factory=list)

    def __call__(self, *given: Any) -> Any:
        return 0.0


def test_callables_that_cannot_be_hashed_are_refused() -> None:
    start, bad = {"mu": 0.0}, Unhashable()
    good = gj.fit(lambda p, r, d: (p["mu"] - 1.0) ** 2, start)
    for call in (
        lambda: gj.fit(bad, start),
        lambda: gj.fit_observations(bad, start, {"g": 1}, {"y": Y, "g": [0, 1, 1]}),
        lambda: gj.fit_observations(lambda p, e, r: 0.0, start, {"g": 1}, {"y": Y, "g": [0, 1, 1]}, prior=bad),
        lambda: gj.fit(lambda p, r, d: 0.0, start, report=bad),
        lambda: good.sdreport(bad),
        lambda: gj.glmm("y ~ 1", {"y": Y}, replace(gj.families.FAMILIES["poisson"](None), nll=bad)),
        lambda: gj.glmm(
            "y ~ 1 + mine(1 | g)",
            {"y": Y, "g": [0, 1, 1]},
            covariances={"mine": Covariance("mine", bad, bad, bad, False)},
        ),
    ):
        with pytest.raises(gj.GlmmjaxError, match=r"cannot be hashed.*__hash__"):
            call()


@pytest.mark.parametrize(
    "function",
    [
        jax.tree_util.Partial(reads_global, {"mu": 1.0}),
        partial(reads_global, {"mu": 1.0}),
        jax.jit(reads_global),
        Frozen(parts=(reads_global,)),
        jax.tree_util.Partial(jnp.add, [reads_global]),
        partial(jnp.add, {"a": (1.0, reads_global)}),
    ],
)
def test_functions_of_the_user_are_not_stored_on_disk(function: Any, tmp_path: Path) -> None:
    try:
        gj.enable_compilation_cache(tmp_path)
        assert compilation_cache._file(sys.exit, (("spec", function),), ()) is None
        assert compilation_cache._file(sys.exit, (("spec", np.exp),), ()) is not None
    finally:
        gj.disable_compilation_cache()
