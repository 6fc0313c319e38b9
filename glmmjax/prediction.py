"""Predictions with standard errors: linear predictors, means, probabilities of zeros and of categories, dispersion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import check_flags
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax._links import LINKS, Link
from glmmjax._special import NUMPY
from glmmjax.families import has_plain_mean
from glmmjax.predictors import Rows, code_rows, given, row_predictors, variance
from glmmjax.result import normal_quantile

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.formula_fit import FormulaFit

#: What can be predicted.
TYPES = ("response", "conditional", "link", "zprob", "zlink", "disp", "probs", "class")
INTERVALS = ("confidence",)
STEP = float(np.cbrt(np.finfo(float).eps))


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions for n rows with their uncertainty; NaN in rows with a missing predictor.

    Attributes:
        linear, linear_se: the predictions (n,) on the scale on which they are most nearly normal, and their standard
            errors there, which are NaN if the Hessian of the fit is not positive definite. For probabilities of J
            categories both are (n, J).
        link: from that scale to the one that is reported; None if they are the same.
        labels: what the rows are called in :meth:`summary_frame`.
        categories: what the columns are called, if there are several.
    """

    linear: np.ndarray
    linear_se: np.ndarray
    link: Link | None
    labels: Any
    categories: tuple[Any, ...] = ()

    @cached_property
    def predicted_mean(self) -> np.ndarray:
        """The predictions (n,), or (n, J)."""
        return self._report(self.linear)

    @cached_property
    def se(self) -> np.ndarray:
        """Standard errors of the predictions, by the delta method if they are not on the linear scale."""
        if self.link is None:
            return self.linear_se
        return np.abs(slope(self._report, self.linear, self.link.valid is not None)) * self.linear_se

    def conf_int(self, level: float = 0.95) -> np.ndarray:
        """Confidence limits (n, 2), or (n, J, 2), built on the linear scale and transformed.

        Raises:
            ArgumentError: level is not between 0 and 1.
        """
        half = normal_quantile(level) * self.linear_se
        ends = np.stack([self.linear - half, self.linear + half], axis=-1)
        if self.link is not None and self.link.valid is not None:
            # The range of these links ends at 0, beyond which the inverse is not monotone or no mean.
            center = self.linear[..., None]
            ends = np.where(ends * center < 0, np.copysign(0.0, center), ends)
        return np.sort(self._report(ends), axis=-1)

    def summary_frame(self, level: float = 0.95) -> pd.DataFrame:
        """A data frame with columns mean, mean_se, mean_ci_lower and mean_ci_upper, as statsmodels names them.

        Predictions of several categories have one row for each row and category, and a column category.

        Raises:
            ArgumentError: level is not between 0 and 1.
        """
        import pandas as pd

        limits = self.conf_int(level)
        columns = {
            "mean": self.predicted_mean,
            "mean_se": self.se,
            "mean_ci_lower": limits[..., 0],
            "mean_ci_upper": limits[..., 1],
        }
        if not self.categories:
            return pd.DataFrame(columns, index=self.labels)
        J = len(self.categories)
        long = pd.DataFrame({name: column.reshape(-1) for name, column in columns.items()})
        long.index = pd.Index(np.repeat(np.asarray(self.labels), J))
        long.insert(0, "category", list(self.categories) * len(self.linear))
        return long

    def _report(self, linear: np.ndarray) -> np.ndarray:
        if self.link is None:
            return linear
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return np.asarray(self.link.inverse(linear, NUMPY))


@dataclass(frozen=True)
class Quantity:
    """What is predicted, as a function of linear predictors.

    Attributes:
        components: those it needs.
        value: ``(eta, psi) -> `` the prediction on its linear scale; psi unconstrained, None for the estimates.
        link: from there to what is reported.
        curved: whether value is anything but the only linear predictor.
    """

    components: tuple[str, ...]
    value: Callable[[Mapping[str, np.ndarray], np.ndarray | None], np.ndarray]
    link: Link | None
    curved: bool


def predict(
    fit: FormulaFit,
    newdata: Any = None,
    type: str = "response",
    re_form: str | None = None,
    allow_new_levels: bool = False,
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    offset: Any = None,
) -> Any:
    """Predictions (n,); with ``se`` a :class:`Prediction`, with ``interval="confidence"`` a data frame with limits.

    Args:
        newdata: a data frame or a mapping of names to arrays of length n; None for the rows used in the fit. A row with
            a missing predictor is predicted as NaN.
        type: "response", the mean of the response given the random effects, extra zeros and truncation included (a
            probability for the binomial family; for categories the same as "probs"); "conditional", the same without
            the extra zeros; "link", the linear predictor; "zprob" and "zlink", the probability of an extra zero and its
            logit; "disp", the dispersion as ``sigma`` reports it, row by row; "probs", the probability of each category
            (n, J); "class", the most probable category.
        re_form: None: all random effects at their conditional modes. "NA" or "~0": none, the level of the population,
            for which ``newdata`` need no grouping columns. "~ (1 | g)": these terms of the fit only. A missing value in
            a grouping column means the population.
        allow_new_levels: take groups that the fit did not have as groups with effect 0; otherwise they are an error.
        se, interval, level: what to return; the interval has coverage ``level`` and the data frame is that of
            :meth:`Prediction.summary_frame`.
        offset: the offsets of the new rows (n,), if the fit had an array as ``offset=``.

    Raises:
        ArgumentError: an argument is unknown or missing, or ``re_form`` has a term that the fit has not.
        DataError: a column, a level of a factor or a group is not known.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> predict(fit, {"Days": 0.0, "Subject": "308"}).round(1), predict(fit, {"Days": 9.0}, re_form="NA").round(1)
    (array([254.2]), array([345.6]))
    """
    check_flags("predict", se=se, allow_new_levels=allow_new_levels)
    if interval is not None and interval not in INTERVALS:
        raise ArgumentError(f"predict: unknown interval={interval!r}. {did_you_mean(interval, INTERVALS)}")
    if se or interval is not None:
        prediction = get_prediction(fit, newdata, type, re_form, allow_new_levels, offset)
        return prediction if interval is None else prediction.summary_frame(level)
    quantity = _quantity(fit, "probs" if type == "class" else type)
    rows = code_rows(fit, quantity.components, newdata, re_form, allow_new_levels, offset)
    linear = rows.all_rows(quantity.value(row_predictors(fit, rows), None))
    if type == "class":
        return _most_probable(fit, linear)
    return Prediction(linear, linear, quantity.link, rows.labels).predicted_mean


def get_prediction(
    fit: FormulaFit,
    newdata: Any = None,
    type: str = "response",
    re_form: str | None = None,
    allow_new_levels: bool = False,
    offset: Any = None,
) -> Prediction:
    """The :class:`Prediction` for new data, with standard errors; arguments and errors as in :func:`predict`.

    The standard error covers the uncertainty of fixed effects, variance parameters and random effects of all components
    together. Variance parameters at a boundary count as known. Rows that have several random-effects terms cost one
    solve with the Hessian in the random effects for every distinct combination of groups and columns.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> fit.get_prediction({"Days": 9.0}, re_form="NA").summary_frame().round(1).to_numpy()
    array([[345.6,  14.2, 317.7, 373.5]])
    """
    check_flags("predict", allow_new_levels=allow_new_levels)
    if type == "class":
        raise ArgumentError("predict: a class has no standard error: ask for type='probs'.")
    quantity = _quantity(fit, type)
    rows = code_rows(fit, quantity.components, newdata, re_form, allow_new_levels, offset)
    eta = row_predictors(fit, rows)
    linear = quantity.value(eta, None)
    linear_se = np.sqrt(_variances(fit, rows, quantity, eta)) if fit.pd_hess else np.full_like(linear, np.nan)
    categories = fit.family.categories if linear.ndim == 2 else ()
    return Prediction(rows.all_rows(linear), rows.all_rows(linear_se), quantity.link, rows.labels, categories)


def slope(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, relative: bool) -> np.ndarray:
    """The derivative of an elementwise function by central differences, to about ten digits.

    Args:
        relative: whether the step shrinks with x, so that it never crosses 0.
    """
    step = STEP * (np.abs(x) if relative else np.maximum(np.abs(x), 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (f(x + step) - f(x - step)) / (2.0 * step)


def _variances(fit: FormulaFit, rows: Rows, quantity: Quantity, eta: Mapping[str, np.ndarray]) -> np.ndarray:
    """The variance of the prediction on its linear scale, (n,) or (n, J)."""
    if not quantity.curved:
        (name,) = quantity.components
        return variance(fit, rows, {name: np.ones_like(eta[name])})
    relative = fit.family.link.valid is not None

    def moved(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: quantity.value({**eta, name: x}, None).T

    slopes = {name: slope(moved(name), eta[name], relative and name == "cond") for name in quantity.components}
    psi = fit.estimates.get("psi", np.zeros(0))
    steps = STEP * np.eye(len(psi)) * np.maximum(np.abs(psi), 1.0)
    by_psi = [
        (quantity.value(eta, psi + step) - quantity.value(eta, psi - step)).T / (2.0 * np.sum(step)) for step in steps
    ]
    if quantity.value(eta, None).ndim == 1:
        return variance(fit, rows, slopes, np.stack(by_psi, axis=-1) if by_psi else None)
    columns = [
        variance(
            fit,
            rows,
            {name: s[j] for name, s in slopes.items()},
            np.stack([s[j] for s in by_psi], axis=-1) if by_psi else None,
        )
        for j in range(len(fit.family.categories))
    ]
    return np.stack(columns, axis=-1)


def _quantity(fit: FormulaFit, type: str) -> Quantity:
    """What a type of prediction means for this fit.

    Raises:
        ArgumentError: the type is unknown, or its component is not in the model.
    """
    family = fit.family
    if type not in TYPES:
        raise ArgumentError(f"predict: unknown type={type!r}. {did_you_mean(type, TYPES)}")
    if family.response == "categories" and type in ("response", "conditional"):
        type = "probs"
    if type in ("zprob", "zlink"):
        if "zi" not in fit.design.components:
            raise ArgumentError(f"predict: type={type!r} is for models with zero inflation: fit with ziformula=.")
        return _plain("zi", LINKS["logit"] if type == "zprob" else None)
    if type == "disp":
        if not family.has_dispersion:
            raise ArgumentError(
                f"predict: type={type!r} is for families with a dispersion parameter, and {family.name!r} has none."
            )
        return _plain("disp", Link("disp", np.log, _Sigma(family.sigma), np.log))
    if type == "link":
        return _plain("cond", None)
    if type == "probs":
        if family.probabilities is None:
            raise ArgumentError(f"predict: type='probs' is for families of categories, not {family.name!r}.")
        law, logit = family.probabilities, LINKS["logit"]

        def log_odds(eta: Mapping[str, np.ndarray], psi: np.ndarray | None) -> np.ndarray:
            with np.errstate(divide="ignore"):
                return np.asarray(logit.link(law(given(fit, eta, psi))))

        return Quantity(tuple(fit.design.components), log_odds, logit, True)
    inflated = family.zero_inflated and type == "response"
    if has_plain_mean(family) and not inflated:
        return _plain("cond", family.link)
    scale = _scale_of_mean(family.response)
    mixed = tuple(fit.design.components) if inflated else tuple(c for c in fit.design.components if c != "zi")

    def mean(eta: Mapping[str, np.ndarray], psi: np.ndarray | None) -> np.ndarray:
        at = given(fit, eta, psi)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.asarray(family.mean(at if inflated else at._replace(zi=0.0)))
            return value if scale is None else np.asarray(scale.link(value))

    return Quantity(mixed, mean, scale, True)


def _plain(component: str, link: Link | None) -> Quantity:
    return Quantity((component,), lambda eta, psi: eta[component], link, False)


@dataclass(frozen=True)
class _Sigma:
    """From the log of the dispersion parameter to what ``sigma`` reports, in the form of a link's inverse."""

    sigma: Callable[[Any], Any]

    def __call__(self, eta: Any, xp: Any = NUMPY) -> Any:
        return self.sigma(np.exp(eta))


def _scale_of_mean(response: str) -> Link | None:
    """The scale on which a mean of such a response has no bounds."""
    if response in ("real", "interval"):
        return None
    return LINKS["logit"] if response in ("trials", "unit") else LINKS["log"]


def _most_probable(fit: FormulaFit, log_odds: np.ndarray) -> np.ndarray:
    """The label of the most probable category of each row; None where a predictor is missing."""
    known = ~np.any(np.isnan(log_odds), axis=1)
    best = np.argmax(np.where(known[:, None], log_odds, 0.0), axis=1)
    labels = np.empty(len(fit.family.categories), dtype=object)
    labels[:] = fit.family.categories
    return np.asarray(np.where(known, labels[best], None))
