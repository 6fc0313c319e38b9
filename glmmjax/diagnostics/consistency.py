"""Is the Laplace approximation biased here? Simulate from the fitted model and look at the scores.

At the parameters that simulated the data the joint score has mean zero whatever the approximation, and the marginal
score has mean zero if the approximation is good; where it has not, its mean divided by the information is the bias of
the estimates.

Source: Kristensen et al. (2016), J. Stat. Softw. 70(5), section 3.5, for the idea; Godambe (1960) for unbiased scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._arguments import whole
from glmmjax._errors import ArgumentError, FitError
from glmmjax._precision import double_precision, to_numpy
from glmmjax._types import Array, Data, Random
from glmmjax.constraints import n_free
from glmmjax.formula_fit import FormulaFit
from glmmjax.joint import JointModel
from glmmjax.laplace import marginal_gradient
from glmmjax.likelihood_fit import LikelihoodFit
from glmmjax.likelihood_simulation import draw
from glmmjax.programs import compiled
from glmmjax.result import Fit
from glmmjax.simulation import simulate_with_effects

if TYPE_CHECKING:
    import pandas as pd

# Replicates that are evaluated together hold about so many numbers of data.
BATCH_NUMBERS = 2_000_000


@dataclass(frozen=True, eq=False)
class Consistency:
    """The scores of simulated data sets at the parameters that they were simulated with.

    Attributes:
        names: the parameters that were estimated, without those at a boundary.
        joint, marginal: scores, the gradients of the negative log-likelihoods (replicates, k).
        bias, bias_se: of each estimate, as the approximation causes it, with its simulation error.
        se: the standard errors of the estimates, which a bias can be compared with.
        failed: replicates in which the modes were not found; they are left out.
    """

    names: tuple[str, ...]
    joint: np.ndarray
    marginal: np.ndarray
    bias: np.ndarray
    bias_se: np.ndarray
    se: np.ndarray
    failed: int

    @property
    def joint_p_value(self) -> float:
        """Of the hypothesis that the joint score has mean zero: small if density and simulator disagree."""
        return _hotelling(self.joint)

    @property
    def marginal_p_value(self) -> float:
        """Of the hypothesis that the marginal score has mean zero: small if the Laplace approximation is biased."""
        return _hotelling(self.marginal)

    def to_frame(self) -> pd.DataFrame:
        """Per parameter: bias, its simulation error, and the bias in standard errors of the estimate."""
        import pandas as pd

        columns = {"bias": self.bias, "bias_se": self.bias_se, "bias_in_se": self.bias / self.se}
        return pd.DataFrame(columns, index=list(self.names))

    def __str__(self) -> str:
        agree = "agree" if self.joint_p_value > 0.01 else "DISAGREE"
        biased = (
            "no bias of the Laplace approximation is seen"
            if self.marginal_p_value > 0.01
            else ("the Laplace approximation is biased")
        )
        failed = f"; {self.failed} replicates failed" if self.failed else ""
        return (
            f"{len(self.marginal)} simulated data sets{failed}\n"
            f"density and simulator {agree} (p = {self.joint_p_value:.3g})\n"
            f"{biased} (p = {self.marginal_p_value:.3g})\n\n{self.to_frame().to_string(float_format='%.4g')}"
        )


def consistency(fit: Fit, n: int = 100, seed: int = 0) -> Consistency:
    """Simulate ``n`` data sets from a fit, and evaluate the joint and the marginal score of each; one program.

    Priors of the parameters are left out of the scores: only the data are simulated. A penalty that a likelihood of
    one's own holds cannot be left out, and shows as a disagreement.

    Args:
        fit: from any door; a likelihood of one's own needs ``simulate=``.
        n: more than the number of parameters.
        seed: a whole number.

    Raises:
        ArgumentError: n is too small.
        FitError: the model cannot simulate, or too many replicates fail.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff"))
    >>> result = consistency(fit, 50)
    >>> bool(result.joint_p_value > 0.01), result.names
    (True, ('(Intercept)', 'disp:(Intercept)', 'theta_1 | Batch.1'))
    """
    if not isinstance(fit, Fit):
        raise ArgumentError(f"consistency: a fit is needed, not {type(fit).__name__}.")
    seed = whole("consistency: seed", seed, least=0)
    k = int(n_free(fit.directions))
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n <= k + 1:
        raise ArgumentError(f"consistency: n must be a whole number above {k + 1}, not {n!r}.")
    with double_precision():
        draws, replicate = _replicates(fit, int(n), seed)
        size = sum(np.size(x) for x in jax.tree.leaves(fit.problem.data))
        batch = int(np.clip(BATCH_NUMBERS // max(size, 1), 1, n))
        source, data = _without_priors(fit)
        given = (np.asarray(fit.flat), fit.problem.modes, draws, data)
        program, _ = compiled(_scores_program, (source, replicate, batch), given)
        joint, marginal, found = to_numpy(program(*given))
    if np.sum(found) <= k + 1:
        raise FitError(f"consistency: the modes were not found in {n - int(np.sum(found))} of {n} simulated data sets.")
    free = _independent(fit.directions)
    named = [int(np.flatnonzero(column)[0]) for column in free.T]
    inside = np.isfinite(np.diag(fit.vcov)[named])
    if np.any(inside):  # the score of a parameter at its boundary is zero whatever the data
        free, named = free[:, inside], [i for i, known in zip(named, inside, strict=True) if known]
    joint, marginal = joint[found] @ free, marginal[found] @ free
    information = np.cov(marginal.T).reshape(free.shape[1], free.shape[1])
    inverse = np.linalg.pinv(information)
    bias = -inverse @ np.mean(marginal, axis=0)
    spread = np.sqrt(np.maximum(np.diag(inverse), 0.0) / len(marginal))
    return Consistency(
        names=tuple(fit.parameter_names[i] for i in named),
        joint=joint,
        marginal=marginal,
        bias=bias,
        bias_se=spread,
        se=np.sqrt(np.diag(fit.vcov)[named]),
        failed=int(n - np.sum(found)),
    )


Replicate = Callable[[Any, Data], tuple[Random, Data]]


def _scores_program(
    source: Any, replicate: Replicate, batch: int, flat: Array, start: Random, draws: Any, data: Data
) -> tuple[Array, Array, Array]:
    model: JointModel = source[0](source[1])

    def scores(one: Any) -> tuple[Array, Array, Array]:
        u, simulated = replicate(one, data)

        def joint(x: Array) -> Array:
            return model.nll(model.unflatten(x, simulated), u, simulated)

        at = marginal_gradient(model, flat, start, simulated)
        return jax.grad(joint)(flat), at.gradient, jnp.isfinite(at.value)

    return jax.lax.map(scores, draws, batch_size=batch)


def _without_priors(fit: Fit) -> tuple[Any, Any]:
    """The model and its data without the priors of its parameters, whose gradient is the same whatever is simulated."""
    source, data = fit.problem.source, fit.problem.data
    if not isinstance(fit, FormulaFit) or not source[1].priors:
        return source, data
    return (source[0], replace(source[1], priors=())), replace(data, priors=())


def _replicates(fit: Fit, n: int, seed: int) -> tuple[Any, Replicate]:
    """What differs between replicates, stacked, and how the engine's effects and data come from one of them."""
    if isinstance(fit, FormulaFit):
        y, effects = simulate_with_effects(fit, n, seed)
        padded = fit.problem.data.y.shape[0]
        rows = np.concatenate([np.arange(len(fit.design.y)), np.zeros(padded - len(fit.design.y), dtype=int)])
        return (y[:, rows], tuple(_spherical(fit, effects))), _replace_response
    assert isinstance(fit, LikelihoodFit)
    draw_one = _Draw(fit)
    jax.eval_shape(lambda key: draw(fit, key), jax.random.key(seed))
    # as plain numbers, which compiled programs take
    return np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), n))), draw_one


def _replace_response(one: Any, data: Data) -> tuple[Random, Data]:
    y, u = one
    return u, replace(data, y=y, distinct=None)  # which the new responses would have to be counted for


class _Draw:
    """Drawing inside the program; two are the same if their fits are."""

    def __init__(self, fit: LikelihoodFit) -> None:
        self.fit = fit

    def __call__(self, key: Array, data: Data) -> tuple[Random, Data]:
        random, simulated = draw(self.fit, jax.random.wrap_key_data(key))
        storage = self.fit.spec.storage
        return (storage.pack(random) if storage.size else ()), simulated


def _spherical(fit: FormulaFit, effects: list[np.ndarray]) -> list[np.ndarray]:
    """Simulated spherical effects (n, groups, q) per term as the engine keeps them: (n, d, G) per level."""
    layout = fit.problem.source[1]
    n = len(effects[0]) if effects else 0
    out = [np.zeros((n, level.n_effects, level.n_groups)) for level in layout.structure.levels]
    for placed, u in zip(layout.terms, effects, strict=True):
        own = slice(placed.first, placed.first + placed.width)
        out[placed.level][:, own, : u.shape[1]] = np.swapaxes(u, 1, 2)
    return out


def _independent(directions: np.ndarray) -> np.ndarray:
    """Directions (k, r) of which each moves one free parameter, and those tied to it, by one."""
    free = np.flatnonzero(np.any(directions != 0.0, axis=1))
    columns: list[np.ndarray] = []
    for i in free:
        tied = np.all(np.isclose(directions, directions[i]), axis=1)
        if int(np.flatnonzero(tied)[0]) == i:
            columns.append(tied.astype(float))
    return np.stack(columns, axis=1)


def _hotelling(scores: np.ndarray) -> float:
    """The p-value of Hotelling's test that rows (n, k) have mean zero."""
    from scipy.stats import f

    n, k = scores.shape
    mean = np.mean(scores, axis=0)
    statistic = n * mean @ np.linalg.pinv(np.cov(scores.T).reshape(k, k)) @ mean
    return float(f.sf(statistic * (n - k) / (k * (n - 1)), k, n - k))
