"""The command line: `python -m glmmjax fit FORMULA DATA` and `python -m glmmjax demo`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from glmmjax._errors import DataError, GlmmjaxError

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.formula_fit import FormulaFit

DEMO_FORMULA = "y ~ age + I(age**2) + urban + livch + (urban | district)"


def main(argv: list[str] | None = None) -> int:
    """The exit code of one command: 0 fine, 1 fitted but not converged, 2 a mistake in the call or the data."""
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_note
        try:
            return int(arguments.run(arguments))
        except (GlmmjaxError, OSError) as error:
            print(f"glmmjax: {_one_line(error)}", file=sys.stderr)
            return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m glmmjax", description="Generalized linear mixed models.")
    parser.add_argument("--version", action="version", version=f"glmmjax {version('glmmjax')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="fit a model to a CSV file and print its summary")
    fit.add_argument("formula", help='for example "y ~ x + (1 | g)"')
    fit.add_argument("data", type=Path, help="CSV file with a header line")
    fit.add_argument("--family", default="gaussian", help="for example binomial or 'Gamma(log)' (default: %(default)s)")
    fit.add_argument("--zi", default="~ 0", metavar="FORMULA", help="zero inflation, for example '~ 1' (default: none)")
    fit.add_argument("--disp", default="~ 1", metavar="FORMULA", help="dispersion (default: one number)")
    fit.add_argument("--reml", action="store_true", help="restricted maximum likelihood")
    fit.add_argument("--weights", metavar="COLUMN", help="column of weights; with a binomial proportion, the trials")
    fit.add_argument("--offset", metavar="EXPRESSION", help="added to the linear predictor, for example 'log(hours)'")
    fit.add_argument("--exponentiate", action="store_true", help="also print exp(estimate): odds ratios, rate ratios")
    fit.add_argument("--json", type=Path, metavar="FILE", help="write the estimates to this file")
    fit.set_defaults(run=_fit)

    demo = commands.add_parser("demo", help="fit a logistic model with a random slope to a survey of 1,934 women")
    demo.set_defaults(run=_demo)
    return parser


def _fit(arguments: argparse.Namespace) -> int:
    import glmmjax

    frame = _read(arguments.data)
    fit = glmmjax.glmm(
        arguments.formula,
        frame,
        family=arguments.family,
        ziformula=arguments.zi,
        dispformula=arguments.disp,
        reml=arguments.reml,
        weights=arguments.weights,
        offset=arguments.offset,
        control=glmmjax.Control(warn=False),  # the status is printed
    )
    print(fit.summary())
    if arguments.exponentiate:
        print(f"\nExponentiated fixed effects:\n{_ratios(fit)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_record(fit, arguments.family), indent=1, allow_nan=False) + "\n")
    return _exit_code(fit)


def _demo(arguments: argparse.Namespace) -> int:
    import glmmjax

    print(f"{glmmjax.datasets.describe('contraception')}\n\nModel: {DEMO_FORMULA}, family binomial\n")
    fit = glmmjax.glmm(DEMO_FORMULA, glmmjax.datasets.load("contraception"), family="binomial")
    print(fit.summary())
    print(f"\nOdds ratios:\n{_ratios(fit)}")
    print("\nTime: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in fit.timings.items()))
    return _exit_code(fit)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a CSV file with a header line: {_one_line(error)}") from error


def _ratios(fit: FormulaFit) -> str:
    table = fit.tidy(exponentiate=True)
    shown = ["term", "estimate", "conf_low", "conf_high", "p_value"]
    return str(table.loc[table["effect"] == "fixed", shown].to_string(index=False, float_format="{:.4g}".format))


def _record(fit: FormulaFit, family: str) -> dict[str, Any]:
    return {
        "formula": fit.formula,
        "family": family,
        "status": fit.status,
        "converged": fit.converged,
        "nobs": fit.nobs,
        **{name: _plain(getattr(fit, name)) for name in ("llf", "aic", "bic")},
        **{name: _records(getattr(fit, name)()) for name in ("tidy", "varcorr")},
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null, as do pandas' missing values."""
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _exit_code(fit: FormulaFit) -> int:
    if fit.converged:
        return 0
    print(f"glmmjax: the fit did not converge: {fit.status}", file=sys.stderr)
    return 1


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _show_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
