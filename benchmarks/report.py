"""What the results say: which rows and columns the tables of the report have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.first_process import PARTS
from benchmarks.tables import number, table
from benchmarks.timing import SHORTFALL, Comparison, Timing

MS = 1e3
MIB = 2**20


def fits_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """One row per model and peer, seconds; what was skipped has a note only."""
    rows: list[dict[str, Any]] = []
    for comparison in comparisons:
        ours = comparison.ours
        for timing in comparison.timings:
            run, design = timing.part("run"), timing.part("design")
            rows.append(
                {
                    "model": comparison.model.name,
                    "nobs": timing.nobs,
                    "peer": timing.peer,
                    "median_s": timing.median,
                    "min_s": min(timing.seconds),
                    "after_others_s": timing.after_others,
                    "ratio_to_glmmjax": timing.median / ours.median,
                    "llf": timing.llf,
                    "llf_below_best": comparison.short(timing),
                    "repeats": len(timing.samples),
                    "first_s": timing.first.seconds,
                    "compile_s": timing.first.parts.get("compile"),
                    "run_median_s": median(run) if run else None,
                    "run_min_s": min(run, default=None),
                    "design_median_s": median(design) if design else None,
                    "note": timing.first.note,
                }
            )
        rows += [{"model": comparison.model.name, "peer": p, "note": why} for p, why in comparison.skipped.items()]
    return rows


def fits_markdown(comparisons: Sequence[Comparison]) -> str:
    sections = [_parts(comparisons), _overview(comparisons), *(_one_model(comparison) for comparison in comparisons)]
    return "\n\n".join(sections)


def _parts(comparisons: Iterable[Comparison]) -> str:
    head = ["model", "rows", "compile once, s", "whole call, ms (min)", "of which design", "of which run"]
    head.append("whole call after others, ms")
    rows = []
    for comparison in comparisons:
        ours = comparison.ours
        times = [_ms(seconds) for seconds in (ours.seconds, ours.part("design"), ours.part("run"))]
        times.append(number(MS * ours.after_others))
        rows.append([comparison.model.name, ours.nobs, f"{ours.first.parts['compile']:.1f}", *times])
    return "### glmmjax in parts\n\n" + table(head, rows)


def _overview(comparisons: Iterable[Comparison]) -> str:
    slower = ("glmmTMB", "glmmTMB without gc()", "lme4")
    head = ["model", "fastest peer, ms", "glmmjax call / fastest", "glmmjax run / fastest"]
    head += [f"{peer} / glmmjax call" for peer in slower]
    rows = []
    for comparison in comparisons:
        ours, fastest = comparison.ours, comparison.fastest_peer()
        cells = ["", "", ""]
        if fastest is not None:
            run = median(ours.part("run")) / fastest.median
            cells = [f"{fastest.peer}, {number(MS * fastest.median)}", _ratio(ours, fastest), f"{run:.2f}"]
        for timing in map(comparison.of, slower):
            star = "*" if timing and comparison.short(timing) > SHORTFALL else ""
            cells.append(_ratio(timing, ours) + star)
        rows.append([comparison.model.name, *cells])
    note = f"Fastest of those that reach the best log-likelihood within {SHORTFALL:g}; * does not reach it."
    return f"### Beside the peers\n\nRatios of medians. {note}\n\n" + table(head, rows)


def _one_model(comparison: Comparison) -> str:
    ours, rows = comparison.ours, []
    for timing in sorted(comparison.timings, key=lambda t: t.median):
        rows.append(
            [
                timing.peer,
                number(MS * timing.median),
                number(MS * min(timing.seconds)),
                number(MS * timing.after_others),
                _ratio(timing, ours),
                f"{timing.llf:.6f}",
                _shortfall(comparison.short(timing)),
                len(timing.samples),
                timing.first.note,
            ]
        )
    head = ["", "median, ms", "min, ms", "after others, ms", "ratio to glmmjax", "log-likelihood", "below the best"]
    head += ["repeats", "note"]
    model = comparison.model
    lines = [f"### {model.name}", f"`{model.formula}`, {model.family}, {comparison.timings[0].nobs} rows"]
    lines.append(table(head, rows))
    if comparison.skipped:
        lines.append("Not fitted: " + "; ".join(f"{peer} ({why})" for peer, why in comparison.skipped.items()) + ".")
    return "\n\n".join(lines)


def first_process_markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    head = ["model", "cache", "import jax", "import glmmjax with jax", "import to summary", "of which compile"]
    head += ["whole process", "processes"]
    cells = []
    for row in rows:
        jax, ours, summary, process = (f"{row[f'{part}_median_s']:.2f} ({row[f'{part}_min_s']:.2f})" for part in PARTS)
        compiling = f"{row['compile_median_s']:.2f}"
        cells.append([row["model"], row["cache"], jax, ours, summary, compiling, process, row["processes"]])
    return "Seconds, median (min).\n\n" + table(head, cells)


def growth_markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    head = ["", "rows", "second fit, s", "us per row", "of which run, s", "first fit, s", "peak memory, MiB"]
    head += ["bytes per row added", "log-likelihood below the best"]
    cells = []
    for row in rows:
        run, grown, n, second = row.get("second_run_s"), row["bytes_per_row"], row["n"], row["second_s"]
        times = [
            f"{second:.3f}",
            f"{1e6 * second / n:.2f}",
            "" if run is None else f"{run:.3f}",
            f"{row['first_s']:.3f}",
        ]
        memory = [f"{row['peak_bytes'] / MIB:.0f}", "" if grown is None else f"{grown:.0f}"]
        cells.append([row["peer"], f"{n:,}", *times, *memory, _shortfall(row["llf_below_best"])])
    return table(head, cells)


def _ms(seconds: Sequence[float]) -> str:
    return f"{number(MS * median(seconds))} ({number(MS * min(seconds))})"


def _ratio(timing: Timing | None, base: Timing | None) -> str:
    return f"{timing.median / base.median:.2f}" if timing and base else ""


def _shortfall(short: float) -> str:
    return f"**{short:.1e}: short**" if short > SHORTFALL else f"{short:.1e}"
