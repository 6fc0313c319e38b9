"""Formula text cut into tokens that know how deep they are nested and whether they are Python rather than formula."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from glmmjax._errors import FormulaError

_PATTERN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
  | (?P<name>`[^`]*` | \.?[^\W\d][\w.]*)
  | (?P<number>\.?\d[\w.]*)
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<op>%\w+% | \|\| | \*\* | [=!<>]= | .)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Token:
    """One word, number, string, operator or bracket; `text == source[start:end]`."""

    kind: str  # name, number, string, open, close, op
    text: str
    start: int
    end: int
    depth: int  # number of brackets around it; a bracket counts as outside itself
    python: bool  # inside a call, an index or braces, where the text is Python and not formula

    @property
    def name(self) -> str:
        """The text without its backticks."""
        return self.text.strip("`")


@dataclass(frozen=True)
class Word:
    """A name used in a piece of formula: a column, a function, or a value from outside the data."""

    name: str
    python: bool
    called: bool


@lru_cache(maxsize=512)
def tokenize(source: str) -> tuple[Token, ...]:
    """Return the tokens of a formula, white space left out.

    Raises FormulaError for brackets, quotes or backticks that are not closed.
    """
    tokens: list[Token] = []
    brackets: list[Token] = []
    inside_python = [False]
    for match in _PATTERN.finditer(source):
        kind, text = str(match.lastgroup), match.group()
        if kind == "space":
            continue
        if kind == "op" and text in "\"'`":
            raise FormulaError(f"The quote {text} at position {match.start()} of {source!r} is not closed.")
        if kind == "close":
            if not brackets or _CLOSING[brackets[-1].text] != text:
                raise FormulaError(
                    f"Unbalanced parentheses: {text!r} at position {match.start()} of {source!r} closes nothing."
                )
            brackets.pop()
            inside_python.pop()
        token = Token(kind, text, match.start(), match.end(), len(brackets), inside_python[-1])
        if kind == "open":
            brackets.append(token)
            inside_python.append(token.python or text != "(" or _is_callee(tokens))
        tokens.append(token)
    if brackets:
        left = brackets[-1]
        raise FormulaError(
            f"Unbalanced parentheses: {left.text!r} at position {left.start} of {source!r} is not closed."
        )
    return tuple(tokens)


def text_of(source: str, tokens: Sequence[Token]) -> str:
    """Return the text that the tokens cover in their source."""
    return source[tokens[0].start : tokens[-1].end] if tokens else ""


def split_at(tokens: Sequence[Token], depth: int, separator: str) -> list[tuple[Token, ...]]:
    """Return the runs of tokens between the separators found at that depth (one empty run for no tokens).

    >>> [text_of("a/b", run) for run in split_at(tokenize("a/b"), 0, "/")]
    ['a', 'b']
    """
    runs: list[list[Token]] = [[]]
    for token in tokens:
        if token.depth == depth and token.text == separator and token.kind == "op":
            runs.append([])
        else:
            runs[-1].append(token)
    return [tuple(run) for run in runs]


@lru_cache(maxsize=512)
def words(source: str) -> tuple[Word, ...]:
    """Return the names that a piece of formula uses, keyword arguments and Python's keywords left out.

    >>> [word.name for word in words("log(x) + bs(z, df=4)") if not word.called]
    ['x', 'z']
    """
    tokens = tokenize(source)
    found: dict[Word, None] = {}
    for position, token in enumerate(tokens):
        following = tokens[position + 1].text if position + 1 < len(tokens) else ""
        preceding = tokens[position - 1].text if position else ""
        if token.kind == "string" and preceding == "(" and position > 1 and tokens[position - 2].text == "Q":
            found[Word(token.text[1:-1], True, False)] = None  # Q("a name") quotes a column
        elif token.kind == "name" and not keyword.iskeyword(token.text):
            is_attribute = token.text.startswith(".") and preceding in (")", "]", "}")
            is_keyword = token.python and following == "="
            if not (is_attribute or is_keyword):
                found[Word(token.name, token.python, following == "(")] = None
    return tuple(found)


def _is_callee(tokens: Sequence[Token]) -> bool:
    if not tokens:
        return False
    last = tokens[-1]
    return (last.kind == "name" and not keyword.iskeyword(last.text)) or (last.kind == "close" and last.python)
