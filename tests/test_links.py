"""Links and special functions: exact in the tails, differentiable four times, the same in JAX and in NumPy."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from math import exp, fsum, log, log1p
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from glmmjax._links import LINKS, POSITIVE, PROBABILITY, REAL, Link
from glmmjax._special import (
    NUMPY,
    log1mexp,
    log_gamma_excess,
    log_gamma_step,
    log_normal_tail,
    magnitude,
    softplus,
)

Table = list[tuple[float, ...]]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def derivative(f: Callable[[Any], Any], order: int) -> Callable[[Any], Any]:
    """The elementwise derivative by nested forward mode, as the engine takes it; compiled."""
    for _ in range(order):
        f = lambda x, g=f: jax.jvp(g, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
    return jax.jit(f)


# eta, log mu, and its first four derivatives: mpmath 1.4, 60 to 1300 digits. log1m: log(1 - exp(eta)).
# fmt: off
REFERENCE: dict[str, Table] = {
    "logit": [
        (-700, -700.0, 1.0, -9.85967654375977e-305, -9.85967654375977e-305, -9.85967654375977e-305),
        (-30, -30.000000000000092, 0.9999999999999064, -9.357622968838423e-14,
         -9.357622968836672e-14, -9.35762296883317e-14),
        (-3, -3.048587351573742, 0.9525741268224333, -0.04517665973091213, -0.04089157466094348, -0.03293107622425642),
        (0, -0.6931471805599453, 0.5, -0.25, 0.0, 0.125),
        (1.5, -0.2014132779827524, 0.18242552380635635, -0.14914645207033286,
         0.09473021278475267, -0.01567846707932428),
        (30, -9.357622968839737e-14, 9.357622968839299e-14, -9.357622968838423e-14,
         9.357622968836672e-14, -9.35762296883317e-14),
    ],
    "probit": [
        (-700, -245007.47002090907, 700.0014285655977, -0.9999979592086626,
         5.830760996086319e-09, 2.4988567725059788e-11),
        (-100, -5005.524208694205, 100.00999800099926, -0.9999000599500517,
         1.997602995862343e-06, 5.988020962773754e-08),
        (-8, -35.01343715991455, 8.121368112236112, -0.9856751165566591, 0.0032918765663441357, 0.0011052920954551628),
        (-1, -1.8410216450092636, 1.525135276160981, -0.8009023344296512, 0.11693119540604884, 0.07917498368074563),
        (0, -0.6931471805599453, 0.7978845608028654, -0.6366197723675814, 0.21801361414499015, 0.11477068205421886),
        (0.5, -0.3689464152886564, 0.5091604338370335, -0.5138245643036329, 0.27099012446870785, 0.08816780192919756),
        (3, -0.0013508099647481938, 0.004437839042125664, -0.013333211541740806,
         0.03568013687657047, -0.08104622201518188),
        (12, -1.776482112077679e-33, 2.1463837356630605e-32, -2.5756604827956722e-31,
         3.0693287419981763e-30, -3.631681280741898e-29),
    ],
    "cloglog": [
        (-300, -300.0, 1.0, -2.5741001112060067e-131, -2.5741001112060067e-131, -2.5741001112060067e-131),
        (-30, -30.000000000000046, 0.9999999999999533, -4.6788114844199416e-14,
         -4.678811484419795e-14, -4.6788114844195037e-14),
        (-3, -3.0247902549765606, 0.9753130199643323, -0.02448044295264575,
         -0.024067419978299885, -0.02324157877626066),
        (-0.69, -0.9303274837843136, 0.7700894629133013, -0.20920676361403914,
         -0.16831625467699074, -0.08858287425846219),
        (0.5, -0.21355918537343416, 0.3925222382799095, -0.4087112327392714, -0.06116359745295523, 0.45414656998043706),
        (3, -1.8921786966284627e-09, 3.800542511235663e-08, -7.253539457077387e-07,
         1.3080410198943997e-05, -0.00022127176632050636),
        (6, -6.210136486566067e-176, 2.5053478702005618e-173, -1.0082241206844056e-170,
         4.047276869887445e-168, -1.6206159221629839e-165),
    ],
    "cauchit": [
        (-700, -7.695810901164312, 0.0014285694849402696, 2.04080799669261e-06,
         5.830856191083323e-09, 2.498924767951804e-11),
        (-8, -3.22934483015542, 0.12371529941911806, 0.015147521469728566, 0.003670158048120338, 0.0013192455788496073),
        (-0.2, -0.8274399102171167, 0.7001149880506488, -0.2208860010890643, -1.018472625334799, 0.24716263265262126),
        (0, -0.6931471805599453, 0.6366197723675814, -0.4052847345693511, -0.7572149938039708, 2.2567435801051126),
        (1.5, -0.20722965402700275, 0.12049401104426286, -0.12574404766146988,
         0.17489353050078563, -0.27893906808874014),
        (30, -0.010663051207581278, 0.0003570723654980229, -2.3905904591939727e-05,
         2.3998844618024523e-06, -3.211144563007975e-07),
    ],
    "log1m": [
        (-30, -9.357622968840613e-14, -9.357622968841051e-14, -9.357622968841925e-14,
         -9.357622968843677e-14, -9.35762296884718e-14),
        (-3, -0.05106918094270159, -0.05239569649125595, -0.05514100550205976,
         -0.06091930827907696, -0.07338418842872887),
        (-0.69, -0.6963042971440567, -1.0063242110510318, -2.0190126287985133, -6.08257521035398, -26.47748460028581),
        (-0.2, -1.7077718009705198, -4.516655566126994, -24.916833069152958, -249.9983386132467, -3750.008254245359),
        (-0.001, -6.908255237315471, -999.5000833333319, -999999.9166666708, -1999999999.9999917, -6000000000000.008),
    ],
}
# fmt: on
# what the reference says about (table, function, sign of eta)
TAILS = [
    ("logit", LINKS["logit"].log_inverse, 1),
    ("logit", LINKS["logit"].log1m_inverse, -1),
    ("probit", LINKS["probit"].log_inverse, 1),
    ("probit", LINKS["probit"].log1m_inverse, -1),
    ("cauchit", LINKS["cauchit"].log_inverse, 1),
    ("cauchit", LINKS["cauchit"].log1m_inverse, -1),
    ("cloglog", LINKS["cloglog"].log_inverse, 1),
    ("log1m", PROBABILITY["log"].log1m_inverse, 1),
]


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize(("table", "function", "sign"), TAILS)
def test_log_probabilities_and_derivatives(table: str, function: Any, sign: int, order: int) -> None:
    values = np.array(REFERENCE[table])
    eta = jnp.asarray(sign * values[:, 0])
    expected = sign**order * values[:, order + 1]
    # exponentials of numbers in the hundreds carry 1e-14 of them; the probit's high derivatives lose a little more
    rtol = 3e-14 * 30 ** max(order - 2, 0) if table == "probit" else 3e-14
    np.testing.assert_allclose(derivative(function, order)(eta), expected, rtol=rtol, atol=0)


MEANS = {
    "unit": [1e-9, 0.02, 0.3, 0.5, 0.8, 1 - 1e-9],
    "positive": [1e-9, 0.02, 0.5, 3.0, 1e6],
    "real": [-1e5, -2.0, 0.3, 7.0],
}
RANGES = [("unit", link) for link in PROBABILITY.values()] + [("positive", link) for link in POSITIVE.values()]
RANGES += [("real", link) for link in REAL.values() if link.name != "log"]
IDS = [f"{kind}-{link.name}" for kind, link in RANGES]


@pytest.mark.parametrize(("kind", "link"), RANGES, ids=IDS)
def test_inverse_undoes_link(kind: str, link: Link) -> None:
    mu = np.array(MEANS[kind])
    eta = link.link(mu)
    np.testing.assert_allclose(link.inverse(eta, NUMPY), mu, rtol=1e-13)
    if kind != "real":
        np.testing.assert_allclose(link.log_inverse(eta, NUMPY), np.log(mu), rtol=1e-13, atol=1e-15)
    if kind == "unit":
        assert link.log1m_inverse is not None
        np.testing.assert_allclose(
            link.log1m_inverse(eta, NUMPY), np.log1p(-mu), rtol=1e-13 if link.name != "cloglog" else 1e-12, atol=1e-15
        )
    assert link.valid is None or np.all(link.valid(eta))


@pytest.mark.parametrize(("kind", "link"), RANGES, ids=IDS)
def test_numpy_is_jax(kind: str, link: Link) -> None:
    eta = np.concatenate([np.linspace(-30, 30, 241) + 1e-3, [-700.0, -300.0, 300.0, 700.0]])
    if link.valid is not None:
        eta = eta[link.valid(eta)]
    functions = [link.inverse] if kind == "real" else [link.inverse, link.log_inverse, link.log1m_inverse]
    for function in functions:
        if function is not None:
            np.testing.assert_allclose(function(eta, NUMPY), function(jnp.asarray(eta)), rtol=1e-13, atol=1e-320)


def test_inverses_equal_scipy() -> None:
    eta = np.linspace(-37, 8, 91)
    pairs = {"logit": special.expit, "probit": special.ndtr, "cauchit": lambda x: special.stdtr(1, x)}
    for name, function in pairs.items():
        np.testing.assert_allclose(LINKS[name].inverse(eta, NUMPY), function(eta), rtol=1e-12)
    np.testing.assert_allclose(LINKS["cloglog"].inverse(eta, NUMPY), -np.expm1(-np.exp(eta)), rtol=1e-13)


@pytest.mark.parametrize("name", ["logit", "probit", "cloglog", "cauchit"])
def test_derivatives_are_finite_everywhere(name: str) -> None:
    link = LINKS[name]
    ends = [s * e for s in (-1.0, 1.0) for e in (0.0, 1e-300, 1e-9, 0.7, 7.0, 30.0, 38.6, 100.0, 300.0, 700.0)]
    eta = jnp.asarray([*ends, np.log(2.0), -0.7, 5.0, -4.5])
    for function in (link.log_inverse, link.log1m_inverse):
        assert function is not None
        for order in range(5):
            assert np.all(np.isfinite(derivative(function, order)(eta))), order
        slopes = jax.jit(jax.grad(lambda x, f=function: jnp.sum(f(x))))(eta)
        np.testing.assert_allclose(slopes, derivative(function, 1)(eta), rtol=1e-12)


def test_failure_under_cloglog_is_finite_past_overflow() -> None:
    function = LINKS["cloglog"].log1m_inverse
    assert function is not None
    for order in range(5):
        assert np.all(np.isfinite(derivative(function, order)(jnp.asarray([710.0, 5000.0]))))


def test_restricted_links_say_where() -> None:
    eta = np.array([-1.0, 0.0, 1.0])
    valid = {(kind, link.name): None if link.valid is None else link.valid(eta).tolist() for kind, link in RANGES}
    assert valid["positive", "log"] is None
    assert valid["real", "identity"] is None
    assert valid["positive", "identity"] == valid["positive", "inverse"] == [False, False, True]
    assert valid["positive", "sqrt"] == valid["real", "inverse"] == [True, False, True]
    assert valid["unit", "log"] == [True, False, False]
    for _, link in RANGES:
        assert link.valid is None or link.valid(link.interior)


def test_the_table_names_each_link_once() -> None:
    assert set(LINKS) == {"identity", "log", "logit", "probit", "cloglog", "loglog", "cauchit", "inverse", "sqrt"}
    for name, link in LINKS.items():
        assert link.name == name
        assert (link.log1m_inverse is not None) == (name in {"logit", "probit", "cloglog", "loglog", "cauchit"})


@pytest.mark.parametrize(("kind", "link"), RANGES, ids=IDS)
def test_links_pickle_and_hash(kind: str, link: Link) -> None:
    copy = pickle.loads(pickle.dumps(link))
    assert copy == link
    assert hash(copy) == hash(link)


# Special functions -----------------------------------------------------------------------------------------------


def test_softplus_and_log1mexp() -> None:
    assert [float(softplus(x, NUMPY)) for x in (-1e4, 0.0, 1e4)] == [0.0, log(2.0), 1e4]
    np.testing.assert_allclose(
        softplus(np.array([-40.0, -1.0, 3.0]), NUMPY), [log1p(exp(x)) for x in (-40, -1, 3)], rtol=1e-15
    )
    x = np.array([1e-300, 1e-10, 0.5, log(2.0), 1.0, 40.0, 800.0])
    expected = [
        log(1e-300),
        log(1e-10) - 5e-11,
        log(-np.expm1(-0.5)),
        -log(2.0),
        log(-np.expm1(-1.0)),
        -exp(-40.0),
        0.0,
    ]
    np.testing.assert_allclose(log1mexp(x, NUMPY), expected, rtol=1e-14)
    np.testing.assert_allclose(log1mexp(jnp.asarray(x)), expected, rtol=1e-14)
    for order in range(1, 5):
        assert np.all(np.isfinite(derivative(softplus, order)(jnp.asarray([-700.0, -1e-9, 0.0, 1e-9, 700.0]))))


def test_magnitude_has_a_slope_at_zero() -> None:
    assert float(jax.grad(magnitude)(0.0)) == 1.0


def test_normal_tail_equals_scipy() -> None:
    z = np.concatenate([np.linspace(0, 40, 401), [100.0, 1e3, 1e8]])
    np.testing.assert_allclose(log_normal_tail(z, NUMPY), special.log_ndtr(-z), rtol=1e-14)
    np.testing.assert_allclose(log_normal_tail(jnp.asarray(z)), special.log_ndtr(-z), rtol=1e-14)


COUNTS = [0.0, 1.0, 2.0, 3.0, 7.0, 40.0, 600.0]
LOG_SIZES = [-700.0, -40.0, log(1e-8), -5.0, -1.0, 0.0, 0.4, 1.0, 2.0, 5.0, 12.0, 23.0, log(1e12), 59.9, 61.0, 700.0]


RISING: list[Callable[[float, int], float]] = [
    lambda log_a, k: float(softplus(log(k) - log_a, NUMPY)),
    lambda log_a, k: -share(log_a, k),
    lambda log_a, k: share(log_a, k) * (1 - share(log_a, k)),
    lambda log_a, k: -share(log_a, k) * (1 - share(log_a, k)) * (1 - 2 * share(log_a, k)),
    lambda log_a, k: share(log_a, k) * (1 - share(log_a, k)) * (1 - 6 * share(log_a, k) * (1 - share(log_a, k))),
]


def share(log_a: float, k: int) -> float:
    return k / (exp(log_a) + k)


@pytest.mark.parametrize("order", range(5))
def test_a_rising_factorial_is_a_sum_of_logarithms(order: int) -> None:
    """``log(1 + k / a)`` over k < y, and its derivatives in ``log a``."""
    log_a, y = (grid.ravel() for grid in np.meshgrid(LOG_SIZES, COUNTS))
    counts = jnp.asarray(y)

    def rising(x: Any) -> Any:
        leading = jnp.exp(x) * softplus(jnp.log(counts) - x) + counts * softplus(jnp.log(counts) - x) - counts
        return log_gamma_step(x, counts) + jnp.where(counts > 0, leading, 0.0)

    values = derivative(rising, order)(jnp.asarray(log_a))
    for x, count, value in zip(log_a, y, values, strict=True):
        if x > 60.0:
            continue
        expected = fsum(RISING[order](x, k) for k in range(1, int(count)))
        # the function is a difference of terms of the size of y; log a is among them in the value alone
        size = max(count, 1.0) * (1.0 + abs(x) if order == 0 else 1.0)
        assert abs(float(value) - expected) < 3e-15 * 2**order * size + 1e-13 * abs(expected), (x, count)


@pytest.mark.parametrize("a", [3e3, 1e6, 1e12])
def test_the_step_of_huge_counts_keeps_all_digits(a: float) -> None:
    def stirling(a: float) -> float:
        return -0.5 * log(a) + 1 / (12 * a) - 1 / (360 * a**3) + 1 / (1260 * a**5)

    for y in (1e3, 1e6, 1e12):
        expected = stirling(a + y) - stirling(a)
        assert float(log_gamma_step(log(a), y)) == pytest.approx(expected, abs=4e-15)
        slope = derivative(lambda x, y=y: log_gamma_step(x, y), 1)(jnp.asarray(log(a)))
        # a G'(a), and at a + y
        ends = [-0.5 - 1 / (12 * b) + 3 / (360 * b**3) for b in (a, a + y)]
        assert float(slope) == pytest.approx(ends[1] * a / (a + y) - ends[0], abs=4e-15)


def test_the_step_is_exactly_zero_without_counts() -> None:
    log_a = jnp.asarray(LOG_SIZES)
    for order in range(5):
        found = derivative(lambda x: log_gamma_step(x, jnp.zeros_like(log_a)), order)(log_a)
        np.testing.assert_allclose(found, 0.0, atol=0.0 if order == 0 else 1e-14)


@pytest.mark.parametrize("a", [1e-8, 0.02, 0.5, 1.0, 3.3, 20.0, 1e3])
def test_log_gamma_excess_equals_gammaln(a: float) -> None:
    expected = special.gammaln(a) - a * log(a) + a
    assert float(log_gamma_excess(log(a), NUMPY)) == pytest.approx(
        expected, abs=4e-15 * max(a * abs(log(a)), 1.0), rel=1e-14
    )
    slope = a * (special.digamma(a) - log(a))
    bend = slope + a * (a * special.polygamma(1, a) - 1.0)
    got = [float(derivative(log_gamma_excess, k)(jnp.asarray(log(a)))) for k in (1, 2)]
    np.testing.assert_allclose(got, [slope, bend], rtol=1e-12, atol=1e-14 * max(a * abs(log(a)), 1.0))


def test_log_gamma_excess_at_the_ends() -> None:
    ends = np.array([-700.0, 30.0, 600.0])
    expected = [700.0, 0.5 * (log(2 * np.pi) - 30.0), 0.5 * (log(2 * np.pi) - 600.0)]
    np.testing.assert_allclose(log_gamma_excess(ends, NUMPY), expected, rtol=1e-14)
    for order, values in enumerate([(-1.0, -0.5, -0.5), (0.0, 0.0, 0.0)], start=1):
        np.testing.assert_allclose(derivative(log_gamma_excess, order)(jnp.asarray(ends)), values, atol=1e-12)
