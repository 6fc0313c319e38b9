"""A formula as written, read into its parts: response, fixed part, random-effects terms (bars) and offsets.

Pure text work. The language is that of lme4 and glmmTMB: D. Bates, M. Maechler, B. Bolker, S. Walker (2015), Fitting
Linear Mixed-Effects Models Using lme4, Journal of Statistical Software 67(1), section 2; the fixed part is left for
formulaic, which codes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmmjax._errors import FormulaError
from glmmjax._tokens import Token, split_at, text_of, tokenize

UNSTRUCTURED = "us"
DIAGONAL = "diag"

# Calls in which `a | b` is Python's "or" and not a random-effects term with a covariance structure.
_PYTHON_CALLS = frozenset({"I", "C", "Q", "int", "float", "bool"})


@dataclass(frozen=True)
class Bar:
    """One random-effects term: the columns on the left of the bar vary over the groups on its right."""

    text: str  # as written: "(1 + x | a/b)"
    lhs: str  # "1 + x"; as everywhere, the intercept is implied unless removed
    factors: tuple[str, ...]  # the columns whose combinations are the groups: ("a",) or ("a", "b")
    covariance: str = UNSTRUCTURED  # "us", "diag" for ||, or the name written in front: "ar1"
    options: tuple[tuple[str, str], ...] = ()  # further arguments as text: (("d", "1"),) in rr(0 + x | g, d = 1)

    @property
    def group(self) -> str:
        """The label of the grouping: "a" or "a:b"."""
        return ":".join(self.factors)


@dataclass(frozen=True)
class Formula:
    """A formula in its parts; `fixed` is the right-hand side without bars and offsets, and never empty."""

    text: str
    response: str | None
    fixed: str
    bars: tuple[Bar, ...] = ()
    offsets: tuple[str, ...] = ()  # the expressions inside offset(...)


@dataclass(frozen=True)
class _Summand:
    sign: str
    tokens: tuple[Token, ...]


def parse_formula(text: str, *, response: bool = True) -> Formula:
    """Return the parts of a formula.

    `text` is "y ~ x + (1 | g)", or one-sided, "~ x", with `response=False`. `(1 | a/b)` becomes one bar on "a" and one
    on "a:b"; `(x || g)` is one bar with independent effects; `ar1(0 + t | g)` is a bar with that covariance structure.

    Raises FormulaError where the text cannot be read, with what to write instead.

    >>> parse_formula("y ~ x + (1 | a/b) + offset(log(t))").bars[1].group
    'a:b'
    """
    if not isinstance(text, str):
        raise FormulaError(f"A formula is a string such as 'y ~ x + (1 | g)', but {type(text).__name__} was given.")
    left, right = _sides(text, tokenize(text), response)
    bars: list[Bar] = []
    offsets: list[str] = []
    fixed: list[_Summand] = []
    for summand in _summands(text, right):
        found = _bars(text, summand)
        offset = _offset(text, summand)
        if summand.sign == "-" and (found or offset is not None):
            what = text_of(text, summand.tokens)
            raise FormulaError(
                f"{what} cannot be subtracted in {text!r}: a random-effects term or offset can only be added."
            )
        bars.extend(found)
        if offset is not None:
            offsets.append(offset)
        elif not found:
            _check_plain(text, summand)
            fixed.append(summand)
    for position, bar in enumerate(bars):
        if any(_same_effect(bar, other) for other in bars[:position]):
            raise FormulaError(
                f"The random effects ({bar.lhs} | {bar.group}) are there twice in {text!r}: keep one of them."
            )
    return Formula(text, left, _join(text, fixed), tuple(bars), tuple(offsets))


def _same_effect(bar: Bar, other: Bar) -> bool:
    return "".join(bar.lhs.split()) == "".join(other.lhs.split()) and set(bar.factors) == set(other.factors)


def _sides(text: str, tokens: Sequence[Token], response: bool) -> tuple[str | None, tuple[Token, ...]]:
    sides = split_at(tokens, 0, "~")
    if len(sides) == 1:
        example = "'y ~ x + (1 | g)'" if response else "'~ x'"
        raise FormulaError(f"The formula {text!r} has no '~': write it like {example}.")
    if len(sides) > 2:
        raise FormulaError(f"The formula {text!r} has more than one '~'.")
    left, right = sides
    if response and not left:
        raise FormulaError(
            f"The formula {text!r} has no response: write it to the left of '~', like 'y {text.strip()}'."
        )
    if not response and left:
        raise FormulaError(
            f"The formula {text!r} must have nothing to the left of '~': write '~ {text_of(text, right)}'."
        )
    if any(token.text in ("|", "||") and not token.python for token in left):
        raise FormulaError(
            f"The response of {text!r} holds a bar: random-effects terms such as (1 | g) go to the right of '~'."
        )
    if not right:
        raise FormulaError(
            f"The formula {text!r} has nothing to the right of '~': write 1 there for an intercept alone."
        )
    return (text_of(text, left) if response else None), right


def _summands(text: str, tokens: Sequence[Token]) -> list[_Summand]:
    """Return what is added and subtracted at the top level, each with its sign."""
    summands: list[_Summand] = []
    sign, current = "+", list[Token]()
    for token in tokens:
        is_sign = token.depth == 0 and token.kind == "op" and token.text in "+-"
        if is_sign and not (current and current[-1].kind == "op"):  # in `a * -b` the sign is the product's affair
            if current:
                summands.append(_Summand(sign, tuple(current)))
                sign, current = token.text, []
            else:
                sign = "+" if sign == token.text else "-"
        else:
            current.append(token)
    if not current:
        raise FormulaError(f"The formula {text!r} ends with {tokens[-1].text!r}: something is missing after it.")
    return [*summands, _Summand(sign, tuple(current))]


def _join(text: str, summands: Sequence[_Summand]) -> str:
    if not summands:
        return "1"
    pieces = [f" {summand.sign} {text_of(text, summand.tokens)}" for summand in summands]
    return ("-" if summands[0].sign == "-" else "") + "".join(pieces)[3:]


def _bars(text: str, summand: _Summand) -> tuple[Bar, ...]:
    """Return the random-effects terms that a summand writes; none for a summand of the fixed part."""
    tokens, written = summand.tokens, text_of(text, summand.tokens)
    covariance = ""
    if _is_call(tokens) and tokens[0].text not in _PYTHON_CALLS and "." not in tokens[0].text:
        covariance, tokens = tokens[0].text, tokens[1:]
    elif not _is_parenthesized(tokens):
        return ()
    while not covariance and _is_parenthesized(tokens[1:-1]):
        tokens = tokens[1:-1]
    body, depth = tokens[1:-1], tokens[0].depth + 1
    positions = [i for i, token in enumerate(body) if token.depth == depth and token.text in ("|", "||")]
    if not positions:
        return ()
    if len(positions) > 1:
        raise FormulaError(
            f"{written} has more than one bar: write it like (1 + x | g), each term in its own parentheses."
        )
    bar = body[positions[0]]
    if covariance and bar.text == "||":
        raise FormulaError(f"{written} asks for two covariance structures, {covariance}() and ||: keep one of them.")
    left, (right, *extra) = body[: positions[0]], split_at(body[positions[0] + 1 :], depth, ",")
    if (extra and not covariance) or len(split_at(left, depth, ",")) > 1:
        raise FormulaError(
            f"{written} has a comma: columns are joined by + before the bar, grouping columns by : or / after it."
        )
    if not left:
        raise FormulaError(
            f"{written} has nothing before the bar: write (1 | g) for an intercept that varies over the groups."
        )
    if not right:
        raise FormulaError(f"{written} has nothing after the bar: name the grouping column there, like (1 | g).")
    return tuple(
        Bar(
            text=written,
            lhs=text_of(text, left),
            factors=factors,
            covariance=covariance or (DIAGONAL if bar.text == "||" else UNSTRUCTURED),
            options=tuple(_option(text, written, tokens) for tokens in extra),
        )
        for factors in _groupings(text, written, right)
    )


def _option(text: str, written: str, tokens: Sequence[Token]) -> tuple[str, str]:
    if not tokens:
        raise FormulaError(f"{written} has an empty argument.")
    named = len(tokens) > 2 and tokens[0].kind == "name" and tokens[1].text == "="
    return (tokens[0].text, text_of(text, tokens[2:])) if named else ("", text_of(text, tokens))


def _groupings(text: str, written: str, tokens: Sequence[Token]) -> list[tuple[str, ...]]:
    """Return the combinations of columns that `a`, `a:b` or `a/b` stand for; `/` nests, and binds less than `:`."""
    while _is_parenthesized(tokens):
        tokens = tokens[1:-1]
    depth = min((token.depth for token in tokens), default=0)
    groupings: list[tuple[str, ...]] = []
    outer: tuple[str, ...] = ()
    for part in split_at(tokens, depth, "/"):
        while _is_parenthesized(part):
            part = part[1:-1]
        for leaf in split_at(part, min((token.depth for token in part), default=0), ":"):
            outer = (*outer, _grouping_column(text, written, leaf))
        groupings.append(tuple(dict.fromkeys(outer)))
    return groupings


def _grouping_column(text: str, written: str, leaf: Sequence[Token]) -> str:
    if len(leaf) == 1 and leaf[0].kind == "name" and leaf[0].name:
        return leaf[0].name
    what = text_of(text, leaf)
    if any(token.text in ("+", "*") for token in leaf):
        remedy = "write one term for each grouping, like (1 | a) + (1 | b) or, for the combinations of both, (1 | a:b)"
    elif leaf and _is_call(leaf):
        remedy = "columns are factors there anyway, so name the column itself, or put the computed one into the data"
    else:
        remedy = "name columns of the data, joined by : or /"
    raise FormulaError(f"{written} cannot group by {what!r}: {remedy}.")


def _offset(text: str, summand: _Summand) -> str | None:
    tokens = summand.tokens
    if not (_is_call(tokens) and tokens[0].text == "offset"):
        return None
    body = tokens[2:-1]
    if len([run for run in split_at(body, tokens[1].depth + 1, ",") if run]) != 1:
        raise FormulaError(f"{text_of(text, tokens)} must hold one expression, like offset(log(t)).")
    return text_of(text, body)


def _check_plain(text: str, summand: _Summand) -> None:
    """Raise for a bar or an offset that is not a summand of its own."""
    written = text_of(text, summand.tokens)
    for token, following in zip(summand.tokens, (*summand.tokens[1:], None), strict=True):
        if token.text in ("|", "||") and not token.python:
            remedy = f"Did you mean ({written})?" if token.depth == 0 else "It must be a summand of its own."
            raise FormulaError(
                f"A random-effects term of {text!r} is not in parentheses by itself: {written}. {remedy}"
            )
        if token.kind == "op" and token.text == "." and not token.python:
            raise FormulaError(f"The '.' in {text!r} cannot stand for the other columns: name them.")
        if token.text == "offset" and following is not None and following.text == "(":
            raise FormulaError(f"offset() can only be a summand of its own, but {text!r} has it inside {written}.")


def _is_parenthesized(tokens: Sequence[Token]) -> bool:
    return len(tokens) > 1 and _outermost(tokens) == "()"


def _is_call(tokens: Sequence[Token]) -> bool:
    return len(tokens) > 2 and tokens[0].kind == "name" and _outermost(tokens[1:]) == "()"


def _outermost(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens if token.depth == tokens[0].depth)
