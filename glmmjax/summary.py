"""The printed summary of a fit: how it ended, how well it fits, its random and its fixed effects."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glmmjax._tables import TextTable, as_html, as_latex, as_text, decimals, latex_escape, numbers
from glmmjax.tidying import component_link, fixed_effects, shape_estimates

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.estimates import TermEstimate
    from glmmjax.formula_fit import FormulaFit
    from glmmjax.likelihood_fit import LikelihoodFit

_OF = {"cond": "", "disp": " of the dispersion", "zi": " of zero inflation"}
_HURDLE = " of the hurdle (probability of zero)"


@dataclass(frozen=True)
class Summary:
    """A summary in pieces of text; prints, and shows itself in notebooks.

    Attributes:
        title: the kind of model, and how it was estimated.
        status: how the fit ended, in words.
        flagged: whether the status says more than "converged".
        facts: labels and values: formula, family, data, groups, dispersion.
        tables: fit statistics, random effects, fixed effects of each component.
        notes: what happened to the data on the way.
    """

    title: str
    status: str
    flagged: bool
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TextTable, ...]
    notes: tuple[str, ...]

    def as_text(self) -> str:
        """The summary in plain text."""
        notes = ["\n".join(f"Note: {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([f"{self.title}\n{as_text(self._head)}", *map(as_text, self.tables), *notes])

    def as_html(self) -> str:
        """The summary as an HTML ``<div>``."""
        notes = [f"<p>Note: {html.escape(note)}</p>" for note in self.notes]
        parts = [f"<p><strong>{html.escape(self.title)}</strong></p>", as_html(self._head), *map(as_html, self.tables)]
        return "\n".join(['<div class="glmmjax-summary">', *parts, *notes, "</div>"])

    def as_latex(self) -> str:
        """The summary as LaTeX: one ``tabular`` after the other; no package is needed."""
        notes = [f"Note: {latex_escape(note)}" for note in self.notes]
        parts = [rf"\textbf{{{latex_escape(self.title)}}}", as_latex(self._head), *map(as_latex, self.tables)]
        return "\n\n".join(rf"\noindent {part}" for part in [*parts, *notes]) + "\n"

    @property
    def _head(self) -> TextTable:
        status = f"*** {self.status} ***" if self.flagged else self.status
        rows = (("Status:", status), *((f"{label}:", value) for label, value in self.facts))
        return TextTable("", (), rows, "ll")

    def _repr_html_(self) -> str:
        return self.as_html()

    def __str__(self) -> str:
        return self.as_text()


def summarize(fit: FormulaFit) -> Summary:
    """The summary of a fit: ``print`` it, or ask it for ``as_html()`` or ``as_latex()``.

    Standard errors are of maximum likelihood, from the exact Hessian; z statistics and two-sided p-values are Wald's.

    >>> from glmmjax import datasets, glmm
    >>> print(summarize(glmm("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff"))).title)
    Linear mixed model fitted by maximum likelihood
    """
    random = [_random_table(fit, name) for name in fit.design.components]
    fixed = [_fixed_table(fit, name) for name in fit.components if fit.design.components[name].columns]
    return Summary(
        title=_title(fit),
        status=fit.status,
        flagged=fit.status != "converged",
        facts=_facts(fit),
        tables=tuple(table for table in [_statistics_table(fit), *random, *fixed, _shape_table(fit)] if table.rows),
        notes=fit.design.notes,
    )


def _title(fit: FormulaFit) -> str:
    linear = fit.family.name == "gaussian" and fit.family.link.name == "identity"
    kind = " ".join(["linear" if linear else "generalized linear", *(["mixed"] if fit.terms else []), "model"])
    approximate = bool(fit.terms) and not (linear and all(term.component == "cond" for term in fit.terms))
    method = "restricted maximum likelihood" if fit.options.reml else "maximum likelihood"
    if fit.options.priors is not None:
        method = f"penalized {method}"
    return f"{kind.capitalize()} fitted by {method}" + (" (Laplace approximation)" if approximate else "")


def _component_name(fit: FormulaFit, component: str) -> str:
    """What follows "Fixed effects" in a caption."""
    family = fit.family
    if family.response == "categories":
        cuts = family.shape.names if family.shape is not None else ()
        if component == "disp":
            return " of the scale"
        if component.startswith("nominal"):
            if len(family.predictors) < len(cuts):
                return f" of the structured thresholds, {component}"
            return f" of the threshold {cuts[family.predictors.index(component)]}"
        if family.shape is None:
            number = 1 + ("cond", *family.predictors).index(component)
            return f" of category {family.categories[number]} against {family.categories[0]}"
        return ""
    if component == "zi" and not family.has_zeros:
        return _HURDLE
    return _OF.get(component, f" of {component}")


def _facts(fit: FormulaFit) -> tuple[tuple[str, str], ...]:
    dropped = fit.design.n_dropped
    facts = [("Formula", " ".join(fit.formula.split()))]
    facts += [
        (f"Formula, {name}", fit.design.formulas[name].text)
        for name in fit.components
        if name != "cond" and name not in fit.family.predictors
    ]
    facts += [("Formula, nominal", fit.design.formulas["nominal1"].text)] if "nominal1" in fit.components else []
    facts += [
        ("Family", f"{fit.family.name}, link {fit.family.link.name}"),
        (
            "Data",
            f"{len(fit.design.y)} rows used, {f'{dropped} dropped for missing values' if dropped else 'none dropped'}",
        ),
    ]
    if fit.terms:
        facts.append(("Groups", ", ".join(f"{group} {size}" for group, size in fit.ngroups.items())))
    if fit.family.has_dispersion and "disp" not in fit.components:
        phi, linear = float(np.exp(fit.log_phi()[0])), fit.family.name == "gaussian"
        facts += [("Dispersion", f"{phi:.4g} ({fit.family.phi_name})")] if linear else []
        facts += [] if np.isclose(phi, fit.sigma) else [("Sigma", f"{fit.sigma:.4g}")]
    if fit.options.priors is not None:
        facts.append(("Log prior", f"{fit.log_prior:.3f} (not part of the log-likelihood)"))
    return tuple(facts)


def _shape_table(fit: FormulaFit) -> TextTable:
    """The shape parameters of the family: thresholds, degrees of freedom, a power."""
    rows = shape_estimates(fit)
    estimate, se, low, high = (np.array([row[k] for row in rows]) for k in range(1, 5))
    places = decimals(se if np.any(np.isfinite(se)) else estimate)
    columns = [numbers(values, places) for values in (estimate, se, low, high)]
    caption = "Thresholds:" if fit.family.response == "categories" else "Dispersion and shape of the family:"
    cells = tuple(zip((row[0] for row in rows), *columns, strict=True))
    return TextTable(caption, ("", "Estimate", "Std.Error", "2.5 %", "97.5 %"), cells, "lrrrr")


def _statistics_table(fit: FormulaFit) -> TextTable:
    values = [fit.aic, fit.bic, fit.llf, -2.0 * fit.llf]
    row = (*(f"{value:.1f}" for value in values), str(fit.df), str(fit.df_resid))
    return TextTable("", ("AIC", "BIC", "logLik", "deviance", "df", "df.resid"), (row,), "rrrrrr")


def _random_table(fit: FormulaFit, component: str) -> TextTable:
    terms = [term for term in fit.terms if term.component == component]
    labels = [(term.group if j == 0 else "", name) for term in terms for j, name in enumerate(term.columns)]
    sd = [float(value) for term in terms for value in term.sd]
    corr = [row for term in terms for row in _correlation_rows(term)]
    if component == "cond" and terms and fit.family.name == "gaussian" and "disp" not in fit.components:
        labels, sd, corr = [*labels, ("Residual", "")], [*sd, fit.sigma], [*corr, []]
    variance = [value**2 for value in sd]
    width = max(map(len, corr), default=0)
    columns = [numbers(variance, decimals(variance)), numbers(sd, decimals(sd))]
    rows = tuple(
        (*label, *cells, *r, *[""] * (width - len(r))) for label, r, *cells in zip(labels, corr, *columns, strict=True)
    )
    header = ("Group", "Name", "Variance", "Std.Dev.", *("Corr" if j == 0 else "" for j in range(width)))
    return TextTable(f"Random effects{_component_name(fit, component)}:", header, rows, "ll" + "r" * (2 + width))


def _correlation_rows(term: TermEstimate) -> list[list[str]]:
    """For each effect of a term its correlations with the effects before it."""
    rows: list[list[str]] = [[] for _ in term.columns]
    for (_, later), r in zip(term.pairs, term.correlations, strict=True):
        rows[later].append("NA" if np.isnan(r) else f"{r:.3f}")
    return rows


def _fixed_table(fit: FormulaFit, component: str) -> TextTable:
    estimate, se, z, p = fixed_effects(fit, component)
    places = decimals(se if np.any(np.isfinite(se)) else estimate)
    columns = [numbers(estimate, places), numbers(se, places), numbers(z, 2), [_p_value(value) for value in p]]
    rows = tuple(zip(fit.design.components[component].columns, *columns, strict=True))
    link = component_link(fit, component)
    caption = "Fixed effects" + _component_name(fit, component) + ("" if link == "identity" else f" ({link} scale)")
    return TextTable(f"{caption}:", ("", "Estimate", "Std.Error", "z", "p"), rows, "lrrrr")


def _p_value(p: float) -> str:
    if np.isnan(p):
        return "NA"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def summarize_likelihood(fit: LikelihoodFit) -> Summary:
    """The summary of a likelihood of one's own: parameters and reported quantities with standard errors."""
    report = fit.sdreport()
    frames = {"Parameters": report.to_frame("params")}
    if report.report is not None:
        frames["Reported"] = report.to_frame("report")
    n_effects = sum(np.size(x) for x in fit.at.modes) - fit.n_profiled
    effects = f"{n_effects} integrated out" if n_effects else "none"
    head = ("logLik", "AIC", "df")
    statistics = TextTable("", head, ((f"{fit.llf:.3f}", f"{fit.aic:.3f}", str(fit.df)),), "rrr")
    tables = [_frame_table(caption, frame) for caption, frame in frames.items() if len(frame)]
    return Summary(
        title="Likelihood fitted by maximum likelihood" + (" (Laplace approximation)" if fit.at.modes else ""),
        status=fit.status,
        flagged=fit.status != "converged",
        facts=(("Random effects", effects), ("Hessian", fit.structure)),
        tables=(statistics, *tables),
        notes=tuple(
            f"{name} held or tied" for name, free in zip(fit.parameter_names, fit.free, strict=True) if not free
        ),
    )


def _frame_table(caption: str, frame: pd.DataFrame) -> TextTable:
    estimate, se = frame["estimate"].to_numpy(), frame["std_error"].to_numpy()
    places = decimals(se if np.any(np.isfinite(se)) else estimate)
    rows = tuple(zip(map(str, frame.index), numbers(estimate, places), numbers(se, places), strict=True))
    return TextTable(f"{caption}:", ("", "Estimate", "Std.Error"), rows, "lrr")
