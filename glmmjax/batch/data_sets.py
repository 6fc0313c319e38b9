"""One formula, many data sets -> lanes, in batches of equal layouts and padded sizes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from glmmjax._errors import ArgumentError, DataError, GlmmjaxError, GlmmjaxWarning
from glmmjax._frames import read_table
from glmmjax._inputs import read_input
from glmmjax.batch.batches import Batch, NothingToFit, constrained, mark, unfit_batch
from glmmjax.batch.lanes import DataLanes
from glmmjax.coordinates import orthonormal_scale
from glmmjax.design import Design, build_design
from glmmjax.estimates import parameter_names
from glmmjax.families import Family
from glmmjax.fitting import bind, check_response, read_formulas
from glmmjax.formula_fit import Options, count_observations
from glmmjax.layout import Layout, ModelData, lay_out
from glmmjax.start import start_values


def data_batches(
    texts: Mapping[str, str],
    data: Any,
    by: str | Sequence[str],
    family: Family,
    inputs: Mapping[str, Any],
    options: Options,
) -> list[Batch]:
    """The data sets, in batches of equal layouts and padded sizes."""
    frame, groups = split(data, [by] if isinstance(by, str) else list(by))
    table = read_table(frame)
    given = {name: read_input(name, inputs[name], table) for name in ("weights", "offset")}
    formulas, family, held = read_formulas(texts, family)
    options = replace(options, fixed={**held, **options.fixed})
    sorted_lanes: dict[Any, list[tuple[int, Design, ModelData, np.ndarray, np.ndarray]]] = {}
    layouts: dict[Any, tuple[Layout, tuple[str, ...]]] = {}
    keys, problems = [], {}
    for position, (key, rows) in enumerate(groups):
        keys.append(key)
        try:
            part = frame.iloc[rows]
            own = {name: x[rows] if isinstance(x, np.ndarray) else inputs[name] for name, x in given.items()}
            design, bound = bind(
                build_design(
                    formulas,
                    part,
                    **own,
                    contrasts=inputs["contrasts"],
                    na_action=inputs["na_action"],
                    response_kind=family.response,
                    without_intercept=family.without_intercept,
                    rank_deficient=options.control.rank_deficient,
                ),
                family,
            )
            check_response(design, bound, options.fixed)
            layout, arrays = lay_out(
                design,
                bound,
                options.control.structure,
                options.covariances,
                options.priors,
                options.reml,
                size=power_of_two,
            )
            scale = {name: orthonormal_scale(p.X) for name, p in design.components.items()}
            params, unit = start_values(design, bound, layout, scale)
            flat = np.concatenate([params[name] for name in sorted(params)])[None]
            starts, moves = constrained(flat, design, layout, scale, bound, options)
        except GlmmjaxError as error:
            problems[position] = str(error)
            continue
        labels = parameter_names(design, layout, bound)
        shapes = tuple((x.shape, x.dtype.str) for x in _leaves(arrays))
        label = (layout, labels, shapes)
        layouts[label] = (layout, labels)
        sorted_lanes.setdefault(label, []).append((position, design, arrays, starts[0], moves.in_unit(unit)))
    if not sorted_lanes:
        raise NothingToFit({key: problems[position] for position, key in enumerate(keys)})
    batches = []
    for label, members in sorted_lanes.items():
        batches.append(_data_batch(*layouts[label], members, keys, options))
    if problems:
        batches.append(unfit_batch(batches[0], problems, keys))
    return batches


def power_of_two(size: int) -> int:
    """The padded size of ragged data sets: the next power of two, so that few programs serve them.

    >>> [power_of_two(size) for size in (1, 5, 64, 65)]
    [1, 8, 64, 128]
    """
    return 1 << max(0, size - 1).bit_length()


def split(data: Any, columns: list[str]) -> tuple[Any, list[tuple[Any, np.ndarray]]]:
    """The data as a pandas frame, and the rows of each value of the columns, in the order of their appearance.

    Raises:
        ArgumentError: no column.
        DataError: an unknown column, or no value in any row.
    """
    import pandas as pd

    table = read_table(data)
    if not columns:
        raise ArgumentError("by= names no column: give the one whose every value is a data set of its own.")
    for name in columns:
        if name not in table.names:
            raise table.unknown(name, "by=")
    frame = pd.DataFrame({name: table.read(name) for name in table.names})
    missing = np.any([table.missing(name) for name in columns], axis=0)
    if missing.all():
        raise DataError(f"by={columns!r} has no value in any row.")
    if missing.any():
        warnings.warn(
            f"{missing.sum()} of {len(missing)} rows have no value of {' and '.join(columns)} and are left out.",
            GlmmjaxWarning,
            stacklevel=4,
        )
    grouped = frame.groupby(columns if len(columns) > 1 else columns[0], sort=False, observed=True, dropna=True)
    return frame, [(key, np.asarray(rows)) for key, rows in grouped.indices.items()]


def _leaves(tree: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(tree)


def _data_batch(
    layout: Layout,
    labels: tuple[str, ...],
    members: list[tuple[int, Design, ModelData, np.ndarray, np.ndarray]],
    keys: list[Any],
    options: Options,
) -> Batch:
    positions, designs, arrays, starts, directions = zip(*members, strict=True)
    family = layout.family
    own = frozenset(field.name for field in fields(ModelData))
    lanes = DataLanes(layout, own, np.stack(starts), arrays, directions, designs)
    log_base = np.array([np.sum(d.weights * family.log_base(d.y, d.trials)) for d in designs])
    nobs = np.array([count_observations(family, d) for d in designs])
    marks = np.array([mark(d.rows, d.y, d.weights) for d in designs])
    named = tuple(keys[p] for p in positions)
    return Batch(lanes, family, np.array(positions), named, labels, {}, log_base, nobs, marks, options)
