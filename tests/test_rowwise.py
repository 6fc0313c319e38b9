"""Derivatives by rows: what is looked up equals what is differentiated, and nothing is looked up that is not known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glmmjax._precision import double_precision
from glmmjax._special import log_gamma_excess, log_rising
from glmmjax.programs import QUICK
from glmmjax.rowwise import derivatives, known_near

POINT = np.array([[0.3, -0.4, 1.1], [0.7, 0.2, -0.5]])


def curved(E: Any) -> Any:
    return jnp.stack([jnp.sin(E[0]) * E[1] ** 2, jnp.exp(E[0] - E[1])])


@pytest.mark.parametrize("which", [0, 1])
def test_a_function_known_near_a_point_has_two_derivatives_there_and_no_third(which: int) -> None:
    def through(rows: Any) -> Any:
        return lambda x: jnp.sum(jnp.array([[1.0], [-2.0]]) * rows(jnp.stack([x[0] * x[1], x[1] + x[2]])))

    with double_precision():
        x = jnp.array([[0.5, 1.5, -0.7], [0.6, -0.3, 0.2], [0.1, 0.4, 0.9]])
        point = jnp.stack([x[0] * x[1], x[1] + x[2]])
        known = known_near(curved, point, jnp.broadcast_to(jnp.eye(2)[:, :, None], (2, 2, 3)))[which]
        second = jax.jacfwd(jax.grad(through(known)))
        for order in (lambda f: f, jax.grad, lambda f: jax.jacfwd(jax.grad(f))):
            looked_up, exact = (jax.jit(order(through(f)), compiler_options=QUICK)(x) for f in (known, curved))
            np.testing.assert_allclose(looked_up, exact, rtol=1e-12, atol=1e-14)
        with pytest.raises(NotImplementedError, match="only two derivatives"):
            jax.eval_shape(jax.jacfwd(second), x)


def test_slopes_and_curvatures_of_each_row() -> None:
    with double_precision():
        eta = {"a": jnp.asarray(POINT[0]), "b": jnp.asarray(POINT[1])}
        value, slope, curvature = derivatives(lambda e: jnp.sin(e["a"]) * e["b"] ** 2, eta)
    a, b = POINT
    np.testing.assert_allclose(value, np.sin(a) * b**2, rtol=1e-15)
    np.testing.assert_allclose(slope["a"], np.cos(a) * b**2, rtol=1e-15)
    np.testing.assert_allclose(curvature["a", "b"], 2 * np.cos(a) * b, rtol=1e-15)
    np.testing.assert_allclose(curvature["b", "a"], 2 * np.cos(a) * b, rtol=1e-15)


def test_what_is_not_known_of_a_rising_factorial_is_refused() -> None:
    def fifth(f: Any) -> Any:
        for _ in range(5):
            f = jax.grad(f)
        return lambda at: jax.eval_shape(f, at)

    with double_precision():
        with pytest.raises(NotImplementedError, match="no further derivative"):
            fifth(lambda x: log_rising(x, 3.0))(0.4)
        with pytest.raises(NotImplementedError, match="no further derivative"):
            fifth(log_gamma_excess)(0.4)
        with pytest.raises(NotImplementedError, match="in anything else"):
            jax.eval_shape(jax.grad(lambda y: log_rising(0.4, y)), 3.0)
