"""The results as Markdown for readers and as CSV for programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import SHORTFALL, Comparison, Timing

MS = 1e3
MIB = 2**20


def fits_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """One row per model and peer, seconds; what was skipped has a note only."""
    rows: list[dict[str, Any]] = []
    for comparison in comparisons:
        ours = comparison.of("glmmjax")
        assert ours is not None
        for timing in comparison.timings:
            run = timing.part("run")
            rows.append(
                {
                    "model": comparison.model.name,
                    "nobs": timing.nobs,
                    "peer": timing.peer,
                    "median_s": timing.median,
                    "min_s": min(timing.seconds),
                    "ratio_to_glmmjax": timing.median / ours.median,
                    "llf": timing.first.llf,
                    "llf_below_best": comparison.short(timing),
                    "repeats": len(timing.samples),
                    "first_s": timing.first.seconds,
                    "compile_s": timing.first.parts.get("compile"),
                    "run_median_s": median(run) if run else None,
                    "run_min_s": min(run, default=None),
                    "note": timing.first.note,
                }
            )
        rows += [{"model": comparison.model.name, "peer": p, "note": why} for p, why in comparison.skipped.items()]
    return rows


def fits_markdown(comparisons: Sequence[Comparison]) -> str:
    return "\n\n".join([_overview(comparisons), *(_one_model(comparison) for comparison in comparisons)])


def _overview(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for comparison in comparisons:
        ours, fastest = comparison.of("glmmjax"), comparison.fastest_peer()
        assert ours is not None
        run = ours.part("run")
        rows.append(
            [
                comparison.model.name,
                ours.nobs,
                f"{ours.first.parts['compile']:.1f}",
                f"{_ms(ours.seconds)}",
                f"{_ms(run)}",
                f"{fastest.peer}, {_number(MS * fastest.median)}" if fastest else "",
                f"{_ratio(ours, fastest)}",
                f"{median(run) / fastest.median:.2f}" if fastest else "",
                *(_ratio(comparison.of(peer), ours) for peer in ("glmmTMB", "glmmTMB without gc()", "lme4")),
            ]
        )
    head = ["model", "rows", "compile, s", "whole call, ms (min)", "run, ms (min)", "fastest peer, ms"]
    head += ["whole call / fastest", "run / fastest", "glmmTMB / whole call", "without gc()", "lme4 / whole call"]
    return "### Overview\n\n" + table(head, rows)


def _one_model(comparison: Comparison) -> str:
    ours, rows = comparison.of("glmmjax"), []
    for timing in sorted(comparison.timings, key=lambda t: t.median):
        short = comparison.short(timing)
        rows.append(
            [
                timing.peer,
                _number(MS * timing.median),
                _number(MS * min(timing.seconds)),
                _ratio(timing, ours),
                f"{timing.first.llf:.6f}",
                f"**{short:.1e}: short**" if short > SHORTFALL else f"{short:.1e}",
                len(timing.samples),
                timing.first.note,
            ]
        )
    head = ["", "median, ms", "min, ms", "ratio to glmmjax", "log-likelihood", "below the best", "repeats", "note"]
    model = comparison.model
    lines = [f"### {model.name}", f"`{model.formula}`, {model.family}, {comparison.timings[0].nobs} rows"]
    lines.append(table(head, rows))
    if comparison.skipped:
        lines.append("Not fitted: " + "; ".join(f"{peer} ({why})" for peer, why in comparison.skipped.items()) + ".")
    return "\n\n".join(lines)


def first_process_markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    head = ["model", "cache", "import jax", "import glmmjax (with jax)", "import to summary", "of which compile"]
    head += ["whole process", "processes"]
    cells = [
        [row["model"], row["cache"]]
        + [
            f"{row[f'{part}_median_s']:.2f} ({row[f'{part}_min_s']:.2f})"
            for part in ("jax_import", "import", "summary")
        ]
        + [f"{row['compile_median_s']:.2f}"]
        + [f"{row['process_median_s']:.2f} ({row['process_min_s']:.2f})", row["processes"]]
        for row in rows
    ]
    return "Seconds, median (min).\n\n" + table(head, cells)


def growth_markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    head = ["", "rows", "second fit, s", "us per row", "of which run, s", "first fit, s", "peak memory, MiB"]
    head += ["bytes per row added", "log-likelihood"]
    cells = []
    for row in rows:
        run, grown = row.get("second_run_s"), row["bytes_per_row"]
        second = row["second_s"]
        cells.append(
            [row["peer"], f"{row['n']:,}", f"{second:.3f}", f"{1e6 * second / row['n']:.2f}"]
            + ["" if run is None else f"{run:.3f}", f"{row['first_s']:.3f}", f"{row['peak_bytes'] / MIB:.0f}"]
            + ["" if grown is None else f"{grown:.0f}", f"{row['llf']:.4f}"]
        )
    return table(head, cells)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows whose keys may differ; a missing value is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _ms(seconds: Sequence[float]) -> str:
    return f"{_number(MS * median(seconds))} ({_number(MS * min(seconds))})"


def _ratio(timing: Timing | None, base: Timing | None) -> str:
    return f"{timing.median / base.median:.2f}" if timing and base else ""


def _number(value: float) -> str:
    """Three digits, never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
