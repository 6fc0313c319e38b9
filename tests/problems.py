"""Small simulated problems for every family, link and structure, and the compiled marginal likelihood of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
import pandas as pd

from glmmjax._precision import double_precision, to_numpy
from glmmjax._special import NUMPY
from glmmjax.coordinates import orthonormal_scale
from glmmjax.design import Design, build_design
from glmmjax.families import FAMILIES, Given, resolve_family
from glmmjax.formula import parse_formula
from glmmjax.hessians import zeros
from glmmjax.joint import JointModel
from glmmjax.laplace import Marginal, marginal_derivatives, marginal_nll
from glmmjax.layout import Layout, ModelData, lay_out
from glmmjax.model import joint_model, unflatten
from glmmjax.programs import QUICK
from glmmjax.start import start_values

STRUCTURES = {
    "none": "y ~ x",
    "intercept": "y ~ x + (1 | g)",
    "slope": "y ~ x + (x | g)",
    "uncorrelated": "y ~ x + (x || g)",
    "nested": "y ~ x + (1 | g/h)",
    "nested slope": "y ~ x + (x | g) + (1 | g:h)",
    "crossed": "y ~ x + (1 | g) + (1 | c)",
    "crossed slope": "y ~ x + (x | g) + (1 | c) + (1 | d)",
}
# Enough for the engine; the others meet it in test_components.py.
COMMON = ("gaussian", "binomial", "poisson", "nbinom1", "nbinom2", "Gamma")
DEFAULTS = [f"{name}({FAMILIES[name](None).link.name})" for name in COMMON]
FAMILY_LINKS = [f"{name}({link})" for name in COMMON for link in FAMILIES[name](None).links]


def data_for(family: Any, n_groups: int = 8, n_each: int = 6, seed: int = 3) -> pd.DataFrame:
    """Data whose linear predictor stays inside the range that the link needs."""
    rng = np.random.default_rng(seed)
    family = resolve_family(family)
    n = n_groups * n_each
    g, h, c = (
        np.repeat(np.arange(n_groups), n_each),
        np.tile(np.repeat([0, 1], n_each // 2), n_groups),
        rng.permutation(n) % 5,
    )
    x = rng.uniform(-1, 1, n)
    eta = 0.3 * x + 0.3 * rng.normal(size=n_groups)[g] + 0.2 * rng.normal(size=5)[c]
    needs_positive = family.link.valid is not None or family.link.name in ("inverse", "sqrt")
    center = {"log": -1.5 if family.response == "trials" else 0.7}.get(family.link.name, 2.5 if needs_positive else 0.0)
    mu = family.link.inverse(center + eta, NUMPY)
    trials = rng.integers(1, 5, n).astype(float) if family.response == "trials" else np.ones(n)
    at = Given(mu, 2.0 if family.has_dispersion else 1.0, trials)
    y = np.asarray(family.simulate(rng, at), dtype=float)
    return pd.DataFrame(
        {
            "y": y,
            "failures": trials - y,
            "x": x,
            "g": g.astype(str),
            "h": h.astype(str),
            "c": c.astype(str),
            "d": (rng.permutation(n) % 3).astype(str),
        }
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """A model at a point: design, layout, padded data, flat parameters, and the compiled marginal."""

    design: Design
    layout: Layout
    model: JointModel
    data: ModelData
    flat: np.ndarray
    modes: tuple[np.ndarray, ...]

    def marginal(self, flat: np.ndarray) -> Marginal:
        """Value, gradient and Hessian of the marginal negative log-likelihood, NumPy."""
        with double_precision():
            return to_numpy(compiled_marginal(self.layout)(np.asarray(flat), self.modes, self.data))

    def value(self, flat: np.ndarray) -> float:
        """The marginal negative log-likelihood alone, which takes a fraction of the time to compile."""
        with double_precision():
            return float(compiled_value(self.layout)(np.asarray(flat), self.modes, self.data))

    def params(self, flat: np.ndarray) -> dict[str, Any]:
        return unflatten(self.layout, flat, self.data)


@cache
def compiled_marginal(layout: Layout) -> Any:
    """``(flat, modes, data) -> Marginal``, compiled."""

    def derivatives(flat: Any, modes: Any, data: ModelData) -> Marginal:
        return marginal_derivatives(joint_model(layout), flat, modes, data)

    return jax.jit(derivatives, compiler_options=QUICK)


@cache
def compiled_value(layout: Layout) -> Any:
    """``(flat, modes, data) -> value``, compiled."""

    def value(flat: Any, modes: Any, data: ModelData) -> Any:
        return marginal_nll(joint_model(layout), unflatten(layout, flat, data), modes, data)[0]

    return jax.jit(value, compiler_options=QUICK)


def problem(family: str, structure: str, frame: pd.DataFrame | None = None) -> Problem:
    """The problem of a family and a structure at its start values, moved a little."""
    record = resolve_family(family)
    formula = STRUCTURES.get(structure, structure)
    if record.response == "trials":
        formula = formula.replace("y ~", "cbind(y, failures) ~")
    formulas = {"cond": parse_formula(formula)}
    if record.has_dispersion:
        formulas["disp"] = parse_formula("~ 1", response=False)
    frame = data_for(family) if frame is None else frame
    design = build_design(formulas, frame, response_kind=record.response)
    layout, data = lay_out(design, record)
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    params = start_values(design, record, layout, scale).params
    flat = np.concatenate([params[name] for name in sorted(params)])
    n_theta = len(params["theta"])
    if n_theta:
        flat[-n_theta:] += 0.1 * np.cos(np.arange(n_theta))
    modes = zeros(layout.structure.levels)
    return Problem(design, layout, joint_model(layout), data, flat, modes)


def central_differences(f: Any, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """The Jacobian of ``f`` at ``x``, fourth-order central differences; the last axis is that of ``x``."""
    columns = []
    for i in range(len(x)):
        e = np.zeros_like(x)
        e[i] = h
        columns.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h))
    return np.stack(columns, axis=-1)
