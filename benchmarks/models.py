"""What is fitted: models of real data sets, and one whose data are simulated at any size.

Nothing heavy is imported before data are made, so that a process can time its imports itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Model:
    """One model, in parts that every peer can put together in its own language.

    Attributes:
        dataset: the name of a bundled data set.
        response, fixed: the response column, the right-hand side without bars.
        random: pairs of what stands left and right of the bar.
        family: as glmmjax names it.
        trials: the column of trials where the response is a number of successes.
    """

    name: str
    dataset: str
    response: str
    fixed: str
    random: tuple[tuple[str, str], ...]
    family: str
    trials: str | None = None

    @property
    def formula(self) -> str:
        """The formula of glmmjax, which R reads as well."""
        k = self.response
        return self.with_response(k if self.trials is None else f"cbind({k}, {self.trials} - {k})")

    def with_response(self, response: str) -> str:
        """The formula with another left-hand side."""
        return f"{response} ~ {self.fixed} + " + " + ".join(f"({effects} | {group})" for effects, group in self.random)

    @property
    def has_slopes(self) -> bool:
        return any(effects != "1" for effects, _ in self.random)

    def data(self) -> pd.DataFrame:
        from glmmjax import datasets

        return datasets.load(self.dataset)


_DISTRICTS = "age + I(age**2) + urban + livch"

MODELS = {
    model.name: model
    for model in (
        Model("cbpp", "cbpp", "incidence", "period", (("1", "herd"),), "binomial", trials="size"),
        Model("contraception_intercept", "contraception", "y", _DISTRICTS, (("1", "district"),), "binomial"),
        Model("contraception_slope", "contraception", "y", _DISTRICTS, (("urban", "district"),), "binomial"),
        Model("salamanders_nb2", "salamanders", "count", "spp + mined", (("1", "site"),), "nbinom2"),
        Model("salamanders_interaction", "salamanders", "count", "spp * mined", (("1", "site"),), "nbinom2"),
        Model(
            "grouseticks",
            "grouseticks",
            "TICKS",
            "YEAR + cHEIGHT",
            (("1", "BROOD"), ("1", "INDEX"), ("1", "LOCATION")),
            "poisson",
        ),
        Model("verbagg", "verbagg", "y", "Anger + Gender + btype + situ", (("1", "id"), ("1", "item")), "binomial"),
        Model("sleepstudy_slope", "sleepstudy", "Reaction", "Days", (("Days", "Subject"),), "gaussian"),
    )
}

GROWTH = Model("growth", "", "y", "x", (("1", "g"),), "poisson")


def simulated(n: int, group_size: int = 20, seed: int = 1) -> pd.DataFrame:
    """Data (n rows) for ``GROWTH``: every row is drawn anew, since copies of rows would be cheaper to fit."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    g = rng.permutation(np.arange(n) // group_size)
    b = rng.normal(scale=0.5, size=n // group_size + 1)
    x = rng.normal(size=n)
    return pd.DataFrame({"y": rng.poisson(np.exp(0.5 + 0.3 * x + b[g])), "x": x, "g": g})
