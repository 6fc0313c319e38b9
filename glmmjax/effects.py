"""Readers of the random effects: variances and correlations, conditional modes, coefficients of each group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import check_flags
from glmmjax._errors import ArgumentError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.formula_fit import FormulaFit


def varcorr(fit: FormulaFit) -> pd.DataFrame:
    """Variances and covariances of the random effects, one row per standard deviation or correlation.

    Columns component, group, var1, var2 (None for a standard deviation), vcov (variance or covariance) and sdcor
    (standard deviation or correlation); a gaussian model ends with the residual, unless
    ``dispformula="~ 0"`` left it out.

    >>> import glmmjax as gj
    >>> fit = gj.glmm("Reaction ~ Days + (Days | Subject)", gj.datasets.load("sleepstudy"))
    >>> [round(value, 2) for value in fit.varcorr()["sdcor"]]
    [23.78, 5.72, 0.08, 25.59]
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for term in fit.terms:
        for j, name in enumerate(term.columns):
            rows.append((term.component, term.group, name, None, term.sd[j] ** 2, term.sd[j]))
        for (i, j), r in zip(term.pairs, term.correlations, strict=True):
            covariance = r * term.sd[i] * term.sd[j]
            rows.append((term.component, term.group, term.columns[i], term.columns[j], covariance, r))
    # a residual that dispformula "~ 0" took away is none
    if fit.family.name == "gaussian" and "disp" not in fit.components and fit.design.formulas["disp"].text != "~ 0":
        rows.append(("cond", "Residual", None, None, fit.sigma**2, fit.sigma))
    return pd.DataFrame(rows, columns=["component", "group", "var1", "var2", "vcov", "sdcor"])


def ranef(fit: FormulaFit, cond_var: bool = False, component: str = "cond") -> Any:
    """Conditional modes of the random effects of a component: {group: DataFrame (levels x effects)}.

    Args:
        fit: a fitted model.
        cond_var: also return {group: array (levels, q, q)} of the variances of their errors, which include the
            uncertainty of the parameters: ``L H^-1 L' + J V J'`` with J the derivative of the modes (Kristensen et al.
            2016, equation 6).
        component: "cond", "zi", "disp", ...

    Raises:
        ArgumentError: the model has no such component.
    """
    import pandas as pd

    check_flags("ranef", cond_var=cond_var)
    if component not in fit.design.components:
        raise ArgumentError(f"ranef: no component {component!r}. {did_you_mean(component, fit.design.components)}")
    modes: dict[str, Any] = {}
    variances: dict[str, np.ndarray] = {}
    own = [term for term in fit.terms if term.component == component]
    for group in dict.fromkeys(term.group for term in own):
        terms = [term for term in own if term.group == group]
        frames = [pd.DataFrame(term.b, index=list(term.levels), columns=list(term.columns)) for term in terms]
        modes[group] = pd.concat(frames, axis=1)
        variances[group] = _block_diagonal([term.b_total_vcov(fit.known_vcov) for term in terms])
    return (modes, variances) if cond_var else modes


def coef(fit: FormulaFit) -> dict[str, pd.DataFrame]:
    """The coefficients of each group: fixed effects plus conditional modes, {group: DataFrame}."""
    import pandas as pd

    fixed = fit.fixef["cond"]
    out: dict[str, pd.DataFrame] = {}
    for group, modes in ranef(fit).items():
        frame = pd.DataFrame(np.tile(fixed.to_numpy(), (len(modes), 1)), index=modes.index, columns=fixed.index)
        for position, column in enumerate(modes.columns):
            frame[column] = modes.iloc[:, position] + (frame[column] if column in frame else 0.0)
        out[group] = frame
    return out


def _block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    """Stacks (G, q_t, q_t) as one stack (G, q, q) of block-diagonal matrices."""
    size = sum(block.shape[-1] for block in blocks)
    out, start = np.zeros((len(blocks[0]), size, size)), 0
    for block in blocks:
        stop = start + block.shape[-1]
        out[:, start:stop, start:stop] = block
        start = stop
    return out
