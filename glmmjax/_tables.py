"""Tables of text and their three renderings: plain, HTML and LaTeX; and numbers as text, aligned by their decimals."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text already: a caption, a header (empty for none), rows, and "l" or "r" per column."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str


def as_text(table: TextTable) -> str:
    """The table in plain text, its columns two spaces apart.

    >>> print(as_text(TextTable("Fixed effects:", ("", "Estimate"), (("x", "1.50"), ("group", "-0.25")), "lr")))
    Fixed effects:
           Estimate
    x          1.50
    group     -0.25
    """
    cells = [table.header, *table.rows] if table.header else list(table.rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_pad(*cell) for cell in zip(row, widths, table.align, strict=True)).rstrip() for row in cells]
    return "\n".join([table.caption, *lines] if table.caption else lines)


def as_html(table: TextTable) -> str:
    """The table as an HTML ``<table>``."""
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    head = f"<thead>{_html_row('th', table.header, table.align)}</thead>" if table.header else ""
    body = "\n".join(_html_row("td", row, table.align) for row in table.rows)
    return f"<table>{caption}{head}\n<tbody>\n{body}\n</tbody></table>"


def as_latex(table: TextTable) -> str:
    """The table as a LaTeX ``tabular``, its caption a line of bold text above; no package is needed."""
    caption = [rf"\textbf{{{latex_escape(table.caption)}}}\\[2pt]"] if table.caption else []
    head = [_latex_row(table.header), r"\hline"] if table.header else []
    lines = [rf"\begin{{tabular}}{{{table.align}}}", r"\hline", *head, *map(_latex_row, table.rows), r"\hline"]
    return "\n".join([*caption, *lines, r"\end{tabular}"])


def latex_escape(text: str) -> str:
    r"""The text with LaTeX's special characters escaped.

    >>> latex_escape("log_y ~ x")
    'log\\_y \\textasciitilde{} x'
    """
    return "".join(_LATEX.get(character, character) for character in text)


def decimals(values: Iterable[float], significant: int = 4) -> int | None:
    """How many decimals show ``significant`` digits of the smallest value, or None where that takes too many.

    Values under a ten-thousandth of the largest do not count.

    >>> decimals([6.632, 1.502]), decimals([0.0]), decimals([2e-9])
    (3, 3, None)
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    counted = [size for size in sizes if size >= 1e-4 * max(sizes)]
    if not counted:
        return significant - 1
    needed = max(0, significant - 1 - math.floor(math.log10(min(counted))))
    return needed if needed <= 8 and max(sizes) < 1e8 else None


def numbers(values: Iterable[float], places: int | None) -> list[str]:
    """The values with so many decimals, or with four digits where ``places`` is None; NaN is "NA".

    >>> numbers([251.4051, 3e-9, float("nan")], 3)
    ['251.405', '3.0e-09', 'NA']
    """
    return [_number(float(value), places) for value in values]


def _number(value: float, places: int | None) -> str:
    if math.isnan(value):
        return "NA"
    if places is None or math.isinf(value):
        return f"{value:.4g}"
    return f"{value:.1e}" if 0 < abs(value) < 0.5 * 10.0**-places else f"{value:.{places}f}"


def _pad(cell: str, width: int, align: str) -> str:
    return cell.rjust(width) if align == "r" else cell.ljust(width)


def _html_row(tag: str, row: Sequence[str], align: str) -> str:
    style = {"l": "text-align: left", "r": "text-align: right"}
    cells = (f'<{tag} style="{style[a]}">{html.escape(c)}</{tag}>' for c, a in zip(row, align, strict=True))
    return f"<tr>{''.join(cells)}</tr>"


def _latex_row(row: Sequence[str]) -> str:
    return " & ".join(map(latex_escape, row)) + r" \\"
