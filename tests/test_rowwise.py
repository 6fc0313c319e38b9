"""Derivatives by rows: what is looked up equals what is differentiated, and nothing is looked up that is not known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glmmjax._precision import double_precision
from glmmjax._special import log_gamma_excess, log_gamma_step
from glmmjax.rowwise import derivatives

POINT = np.array([[0.3, -0.4, 1.1], [0.7, 0.2, -0.5]])


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
            fifth(lambda x: log_gamma_step(x, 3.0))(0.4)
        with pytest.raises(NotImplementedError, match="no further derivative"):
            fifth(log_gamma_excess)(0.4)
        with pytest.raises(NotImplementedError, match="in anything else"):
            jax.eval_shape(jax.grad(lambda y: log_gamma_step(0.4, y)), 3.0)
