"""Generalized linear mixed models by maximum likelihood in JAX: formulas in, estimates with exact derivatives out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read; at run time a name is imported when it is first used
    from glmmjax import check as check
    from glmmjax import covariance as covariance
    from glmmjax import datasets as datasets
    from glmmjax import densities as densities
    from glmmjax import families as families
    from glmmjax._errors import ArgumentError as ArgumentError
    from glmmjax._errors import DataError as DataError
    from glmmjax._errors import FamilyError as FamilyError
    from glmmjax._errors import FitError as FitError
    from glmmjax._errors import FormulaError as FormulaError
    from glmmjax._errors import GlmmjaxError as GlmmjaxError
    from glmmjax._errors import GlmmjaxWarning as GlmmjaxWarning
    from glmmjax._errors import OptionalDependencyError as OptionalDependencyError
    from glmmjax._errors import ResponseError as ResponseError
    from glmmjax.batch import Many as Many
    from glmmjax.batch import ManyTask as ManyTask
    from glmmjax.batch import chunks as chunks
    from glmmjax.batch import fit_many as fit_many
    from glmmjax.batch import pool as pool
    from glmmjax.batch.bootstrap import Bootstrap as Bootstrap
    from glmmjax.batch.bootstrap import bootstrap as bootstrap
    from glmmjax.batch.power import Power as Power
    from glmmjax.batch.power import power as power
    from glmmjax.compilation_cache import disable_compilation_cache as disable_compilation_cache
    from glmmjax.compilation_cache import enable_compilation_cache as enable_compilation_cache
    from glmmjax.constraints import tied as tied
    from glmmjax.control import Control as Control
    from glmmjax.fitting import clmm as clmm
    from glmmjax.fitting import glmm as glmm
    from glmmjax.hessians import Banded as Banded
    from glmmjax.hessians import Sparse as Sparse
    from glmmjax.inference import aic_table as aic_table
    from glmmjax.inference import anova as anova
    from glmmjax.likelihood import fit as fit
    from glmmjax.likelihood import fit_observations as fit_observations
    from glmmjax.promises import Blocks as Blocks
    from glmmjax.promises import Crossed as Crossed
    from glmmjax.promises import Dense as Dense
    from glmmjax.result import Fit as Fit
    from glmmjax.result import load as load

__version__ = "0.1.0"

_NAMES = {
    "_errors": "ArgumentError DataError FamilyError FitError FormulaError GlmmjaxError GlmmjaxWarning "
    "OptionalDependencyError ResponseError",
    "batch": "Bootstrap Many ManyTask Power bootstrap chunks fit_many pool power",
    "compilation_cache": "disable_compilation_cache enable_compilation_cache",
    "constraints": "tied",
    "control": "Control",
    "fitting": "clmm glmm",
    "hessians": "Banded Sparse",
    "inference": "aic_table anova",
    "likelihood": "fit fit_observations",
    "promises": "Blocks Crossed Dense",
    "result": "Fit load",
}
_HOMES: dict[str, str | None] = {name: module for module, names in _NAMES.items() for name in names.split()}
_HOMES |= dict.fromkeys(["check", "covariance", "datasets", "densities", "families"])  # modules themselves
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name, on which Python calls this once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glmmjax' has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"glmmjax.{name}") if home is None else getattr(import_module(f"glmmjax.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
