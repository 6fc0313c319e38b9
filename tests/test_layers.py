"""Imports point one way: a module of glmmjax imports only from rows above its own.

A new module needs a place in LAYERS; `families.*` stands for the files of a shelf. Imports inside functions count too,
except those listed in DOORS. Imports for type checkers alone do not count.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "glmmjax"

LAYERS: tuple[tuple[str, str], ...] = (
    ("0 vocabulary", "_types _status _errors _memory"),
    ("0 vocabulary", "_precision surroundings _arguments"),
    ("1 mathematics", "_special separation"),
    ("1 mathematics", "_links _deviances"),
    ("1 mathematics", "hessians._spd hessians._dense hessians._levels hessians._elimination hessians._coloring"),
    ("1 mathematics", "hessians._callback hessians._tridiagonal hessians._fronts"),
    ("1 mathematics", "hessians._multifrontal"),
    ("1 mathematics", "hessians._host"),
    ("1 mathematics", "hessians._structure"),
    ("1 mathematics", "hessians._links"),
    ("1 mathematics", "hessians.*"),
    ("1 mathematics", "hessians"),
    ("2 shelves: their records", "families._family covariance._covariance"),
    (
        "2 shelves: what several files share",
        "families._sums families._truncation families.gaussian families.binomial families.beta families.lognormal "
        "families.cumulative families.poisson families.nbinom1 families.nbinom2",
    ),
    (
        "2 shelves: what the truncated ones are made of",
        "families.genpois families.compois",
    ),
    ("2 shelves: their files", "families.* covariance.*"),
    ("2 shelves: their tables", "families covariance"),
    ("2 densities: what is checked", "densities._checks"),
    (
        "2 densities: their record and parts",
        "densities._density densities._triangular densities._chain densities._matrix",
    ),
    ("2 densities: with a mean", "densities.shifted"),
    ("2 densities: their files", "densities.*"),
    ("2 densities: their table", "densities"),
    ("3 engine", "joint rowwise"),
    ("3 engine", "modes"),
    ("3 engine", "laplace_rows"),
    ("3 engine", "laplace"),
    ("3 engine", "optimizer"),
    ("4 front end", "_tokens _frames _rank _arithmetic"),
    ("4 front end", "_recipes"),
    ("4 front end", "_coding"),
    ("4 front end", "_groups _response _inputs formula"),
    ("4 front end", "design"),
    ("5 where the halves meet", "lazy_values index_sites"),
    ("5 where the halves meet", "promises grouping constraints priors accesses nesting"),
    ("5 where the halves meet", "centering"),
    ("5 where the halves meet", "layout custom"),
    ("5 where the halves meet", "coordinates"),
    ("5 where the halves meet", "start_variances"),
    ("5 where the halves meet", "model start observations detection"),
    ("5 where the halves meet", "interior"),
    ("5 where the halves meet", "compilation_cache"),
    ("5 where the halves meet", "programs"),
    ("6 result", "control"),
    ("6 result", "solving"),
    ("6 result", "information ends degenerate"),
    ("6 result", "alternatives multistart"),
    ("6 result", "estimates verdict"),
    ("6 result", "result"),
    ("6 result", "formula_fit likelihood_fit"),
    ("6 doors", "scrutiny indices likelihood_inputs restricted endless"),
    ("6 doors", "fitting likelihood"),
    ("7 batches", "batch.lanes batch.progress"),
    ("7 batches", "batch.engine batch.starts"),
    ("7 batches", "batch.verdicts batch.workers"),
    ("7 batches", "batch.many"),
    ("7 batches", "batch.batches"),
    ("7 batches", "batch.responses batch.data_sets batch.running"),
    ("7 batches", "batch.fitting batch.refitting batch.extending"),
    ("7 batches", "batch.bootstrap batch.pooling batch.power batch.tasks"),
    ("7 batches", "batch"),
    ("7 readers", "datasets _tables effects"),
    ("7 readers", "predictors"),
    ("7 readers", "prediction"),
    ("7 readers", "residuals simulation likelihood_simulation one_step"),
    ("7 readers", "tidying"),
    ("7 readers", "inference.comparison inference.delta inference.quantities"),
    ("7 readers", "inference.paths"),
    ("7 readers", "inference.profiles"),
    ("7 readers", "inference.sdreport"),
    ("7 readers", "inference"),
    ("7 readers", "summary"),
    ("7 readers", "diagnostics.*"),
    ("7 readers", "diagnostics"),
    ("7 readers", "check"),
    ("public names", ""),
    ("command line", "__main__"),
)

# The methods of a result lead to its readers: these imports stand inside the methods, point down, and end there.
DOORS = {
    "result": "inference inference.profiles inference.sdreport",
    "formula_fit": "fitting effects prediction residuals simulation tidying summary",
    "likelihood_fit": "likelihood_simulation one_step summary",
}


def names() -> dict[str, Path]:
    """Dotted name below glmmjax of every module, "" for glmmjax itself."""
    paths = sorted(PACKAGE.rglob("*.py"))
    parts = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in paths}
    return {".".join(p for p in parts[path] if p != "__init__"): path for path in paths}


MODULES = names()


def place(module: str) -> int | None:
    """The row of LAYERS that holds a module; a name of its own goes before a pattern."""
    rows = [(row, pattern) for row, (_, patterns) in enumerate(LAYERS) for pattern in patterns.split(" ")]
    exact = [row for row, pattern in rows if pattern == module]
    near = [row for row, pattern in rows if "*" in pattern and fnmatchcase(module, pattern)]
    return next(iter(exact + near), None)


def imported(tree: ast.AST, module: str) -> set[str]:
    """The modules of glmmjax that a module imports when it runs."""
    found: set[str] = set()
    for node in running(tree):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write imports in full, from glmmjax.x import y"
            full = [longest(f"{node.module}.{alias.name}") for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("glmmjax").removeprefix(".") for name in full if name.split(".")[0] == "glmmjax"}
    return found - {module}


def longest(name: str) -> str:
    """`glmmjax.a.b` is the module if there is one, else the name b in the module glmmjax.a."""
    return name if name.removeprefix("glmmjax.") in MODULES else name.rpartition(".")[0]


def running(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    children = [] if is_for_type_checkers(tree) else list(ast.iter_child_nodes(tree))
    return [tree, *(node for child in children for node in running(child))]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up(module: str) -> None:
    row = place(module)
    assert row is not None, f"glmmjax.{module} has no place in LAYERS: decide which layer it belongs to"
    for other in imported(ast.parse(MODULES[module].read_text()), module) - set(DOORS.get(module, "").split()):
        above = place(other)
        assert above is not None and above < row, f"{module} ({LAYERS[row][0]}) imports {other}, which is not above it"


def test_every_row_of_the_table_is_in_use() -> None:
    patterns = [pattern for _, row in LAYERS for pattern in row.split(" ")]
    unused = [p for p in patterns if p not in MODULES and not any(fnmatchcase(m, p) for m in MODULES if p)]
    assert unused == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import glmmjax", {""}),
        ("from glmmjax import datasets, glmm", {"datasets", ""}),
        ("from glmmjax._errors import DataError", {"_errors"}),
        ("def f():\n    from glmmjax.model import Layout", {"model"}),
        ("if TYPE_CHECKING:\n    from glmmjax.model import Layout", set()),
        ("import numpy as np\nfrom scipy import stats", set()),
    ],
)
def test_imports_are_found(source: str, expected: set[str]) -> None:
    assert imported(ast.parse(source), "somewhere") == expected
