"""Formulas as text: every form of the lme4/glmmTMB language, and every way of getting it wrong."""

from __future__ import annotations

import pytest

from glmmjax._errors import FormulaError
from glmmjax._tokens import tokenize, words
from glmmjax.formula import Bar, parse_formula

# one bar each: what follows "y ~ x + ", left side, grouping columns, covariance
BARS = [
    ("(1 | g)", "1", ("g",), "us"),
    ("(1|g)", "1", ("g",), "us"),
    ("(x | g)", "x", ("g",), "us"),
    ("(1 + x + z | g)", "1 + x + z", ("g",), "us"),
    ("(0 + x | g)", "0 + x", ("g",), "us"),
    ("(-1 + x | g)", "-1 + x", ("g",), "us"),
    ("(x || g)", "x", ("g",), "diag"),
    ("(x||g)", "x", ("g",), "diag"),
    ("(1 | a:b)", "1", ("a", "b"), "us"),
    ("(1 | (a:b))", "1", ("a", "b"), "us"),
    ("((1 | g))", "1", ("g",), "us"),
    ("(1 | `my g`)", "1", ("my g",), "us"),
    ("(1 | site.id)", "1", ("site.id",), "us"),
    ("(poly(x, 2) | g)", "poly(x, 2)", ("g",), "us"),
    ("(I(x > 0 | z > 0) | g)", "I(x > 0 | z > 0)", ("g",), "us"),
    ("(a * b | g)", "a * b", ("g",), "us"),
    ("us(1 + x | g)", "1 + x", ("g",), "us"),
    ("diag(1 + x | g)", "1 + x", ("g",), "diag"),
    ("ar1(0 + t | g)", "0 + t", ("g",), "ar1"),
    ("cs(0 + f | a:b)", "0 + f", ("a", "b"), "cs"),
    ("exp(0 + pos | g)", "0 + pos", ("g",), "exp"),
]


@pytest.mark.parametrize("text, lhs, factors, covariance", BARS)
def test_one_bar(text: str, lhs: str, factors: tuple[str, ...], covariance: str) -> None:
    formula = parse_formula(f"y ~ x + {text}")
    assert formula.bars == (Bar(text, lhs, factors, covariance),)
    assert formula.bars[0].group == ":".join(factors)
    assert (formula.response, formula.fixed, formula.offsets) == ("y", "x", ())


@pytest.mark.parametrize(
    "grouping, expected",
    [
        ("a/b", [("a",), ("a", "b")]),
        ("a/b/c", [("a",), ("a", "b"), ("a", "b", "c")]),
        ("a:b/c", [("a", "b"), ("a", "b", "c")]),
        ("a/b:c", [("a",), ("a", "b", "c")]),
        ("a / (b:c)", [("a",), ("a", "b", "c")]),
        ("(a)/b", [("a",), ("a", "b")]),
    ],
)
def test_nesting_expands(grouping: str, expected: list[tuple[str, ...]]) -> None:
    bars = parse_formula(f"y ~ (1 + x | {grouping})").bars
    assert [bar.factors for bar in bars] == expected
    assert {bar.lhs for bar in bars} == {"1 + x"}
    assert {bar.text for bar in bars} == {f"(1 + x | {grouping})"}


def test_nesting_is_the_sum_of_its_parts() -> None:
    short = parse_formula("y ~ x + (1 | a/b)").bars
    long = parse_formula("y ~ x + (1 | a) + (1 | a:b)").bars
    assert [(bar.lhs, bar.group, bar.covariance) for bar in short] == [(b.lhs, b.group, b.covariance) for b in long]


def test_several_terms_on_one_factor_stay_apart() -> None:
    bars = parse_formula("y ~ x + (1 | g) + (0 + x | g) + ar1(0 + t | h)").bars
    assert [(bar.lhs, bar.group, bar.covariance) for bar in bars] == [
        ("1", "g", "us"),
        ("0 + x", "g", "us"),
        ("0 + t", "h", "ar1"),
    ]


def test_arguments_of_a_structure_are_kept_as_text() -> None:
    bar = parse_formula("y ~ rr(0 + f | id, d = 1) + propto(0 + sp | g, A)").bars
    assert [b.options for b in bar] == [(("d", "1"),), (("", "A"),)]


# what the fixed part of a formula must come out as, to the letter
FIXED = [
    ("y ~ x", "x"),
    ("y ~ 1", "1"),
    ("y ~ 0", "0"),
    ("y ~ (1 | g)", "1"),
    ("y ~ 0 + (1 | g)", "0"),
    ("y ~ (1 | g) - 1", "-1"),
    ("y ~ -1 + x", "-1 + x"),
    ("y ~ (1 | g) + x - 1 + offset(log(t))", "x - 1"),
    ("y ~ x*z + a:b + (a + b)**2", "x*z + a:b + (a + b)**2"),
    ("y ~ I(age**2) + C(f, contr.sum)", "I(age**2) + C(f, contr.sum)"),
    ("y ~ I(a | b) + {a + b}", "I(a | b) + {a + b}"),
    ("y ~ `a | b` + `offset(z)`", "`a | b` + `offset(z)`"),
    (
        "y ~ bs(x, df=4) + cr(z, df=3) + cs(x, df=3) + poly(x, 2)",
        "bs(x, df=4) + cr(z, df=3) + cs(x, df=3) + poly(x, 2)",
    ),
    ("y ~ np.where(a | b, 1, 0)", "np.where(a | b, 1, 0)"),
    ("y ~ C(f, levels=['a~b', 'c|d'])", "C(f, levels=['a~b', 'c|d'])"),
    ("y ~ a %in% b + log(x + 1)", "a %in% b + log(x + 1)"),
    ("y ~ a\n  + b\n  + (1 | g)", "a + b"),
]


@pytest.mark.parametrize("text, fixed", FIXED)
def test_fixed_part_survives_untouched(text: str, fixed: str) -> None:
    assert parse_formula(text).fixed == fixed


@pytest.mark.parametrize(
    "text, response",
    [
        ("y ~ 1", "y"),
        ("log(y + 1) ~ x", "log(y + 1)"),
        ("I(a/b) ~ x", "I(a/b)"),
        ("cbind(k, n - k) ~ x", "cbind(k, n - k)"),
        ("`my y` ~ x", "`my y`"),
        ("y == 'a~b' ~ x", "y == 'a~b'"),
    ],
)
def test_response(text: str, response: str) -> None:
    assert parse_formula(text).response == response


def test_offsets() -> None:
    formula = parse_formula("y ~ offset(log(t)) + x + offset( z / 2 )")
    assert formula.offsets == ("log(t)", "z / 2")
    assert formula.fixed == "x"


def test_one_sided() -> None:
    formula = parse_formula("~ x + (1 | g)", response=False)
    assert (formula.response, formula.fixed, formula.bars[0].group) == (None, "x", "g")
    assert parse_formula("~ 0", response=False).fixed == "0"


ERRORS = [
    (3, "A formula is a string"),
    (None, "A formula is a string"),
    ("", "has no '~'"),
    ("y + x", "has no '~'"),
    ("~ x", "has no response.*'y ~ x'"),
    ("y ~ x ~ z", "more than one '~'"),
    ("y ~", "nothing to the right.*write 1"),
    ("y ~ x +", r"ends with '\+'"),
    ("y ~ x | g", r"Did you mean \(x \| g\)\?"),
    ("y ~ x + 1 | g", r"Did you mean \(1 \| g\)\?"),
    ("y ~ x || g", r"Did you mean \(x \|\| g\)\?"),
    ("y | g ~ x", "response .* holds a bar"),
    ("y ~ ( | g)", r"nothing before the bar: write \(1 \| g\)"),
    ("y ~ (1 | )", "nothing after the bar"),
    ("y ~ (1 | g | h)", "more than one bar"),
    ("y ~ (x | | g)", "more than one bar"),
    ("y ~ (1 | g", r"'\(' at position 4 .* not closed"),
    ("y ~ x)", r"'\)' at position 5 .* closes nothing"),
    ("y ~ C(f]", "closes nothing"),
    ("y ~ C(f, 'a)", "quote .* at position 9"),
    ("y ~ `a b", "quote ` at position 4"),
    ("y ~ x - (1 | g)", r"\(1 \| g\) cannot be subtracted"),
    ("y ~ x - offset(t)", r"offset\(t\) cannot be subtracted"),
    ("y ~ x * (1 | g)", "must be a summand of its own"),
    ("y ~ (x + (1 | g))", "must be a summand of its own"),
    ("y ~ x:offset(t)", r"offset\(\) can only be a summand"),
    ("y ~ log(offset(t))", r"offset\(\) can only be a summand"),
    ("y ~ offset()", "must hold one expression"),
    ("y ~ offset(a, b)", "must hold one expression"),
    ("y ~ (1 | a + b)", r"cannot group by 'a \+ b': write one term for each"),
    ("y ~ (1 | a * b)", r"cannot group by 'a \* b': write one term for each"),
    ("y ~ (1 | factor(a))", r"cannot group by 'factor\(a\)': columns are factors"),
    ("y ~ (1 | 1)", "cannot group by '1'"),
    ("y ~ (1 | a:)", "cannot group by ''"),
    ("y ~ (x, z | g)", "has a comma"),
    ("y ~ (1 | g, h)", "has a comma"),
    ("y ~ us(x || g)", "two covariance structures"),
    ("y ~ rr(x | g, )", "empty argument"),
    ("y ~ (1 | g) + (1|g)", "twice"),
    ("y ~ (1 | a/b) + (1 | b:a)", "twice"),
    ("y ~ .", "cannot stand for the other columns"),
]


@pytest.mark.parametrize("text, message", ERRORS)
def test_errors_name_what_is_wrong(text: object, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text, message", [("y ~ x", "nothing to the left.*'~ x'"), ("x", "has no '~'")])
def test_errors_of_one_sided_formulas(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(text, response=False)


def test_tokens_cover_the_text() -> None:
    source = "cbind(k, n - k) ~ `a b` * I(x**2) + (1 + x || a/b) %in% {z[0]} - 'q' + .5"
    tokens = tokenize(source)
    assert all(source[token.start : token.end] == token.text for token in tokens)
    assert "".join(token.text for token in tokens).replace(" ", "") == source.replace(" ", "")
    assert [t.text for t in tokens if t.python] == "k , n - k x ** 2 z [ 0 ]".split()


@pytest.mark.parametrize(
    "text, columns, functions",
    [
        ("x + a:b", ["x", "a", "b"], []),
        ("bs(x, df=4, knots=[k]) + log(`my x`)", ["x", "k", "my x"], ["bs", "log"]),
        ("Q('my x') + C(f, levels=['a', 'b'])", ["my x", "f"], ["Q", "C"]),
        ("soil.dry + np.log(z) + x.clip(0, 1)", ["soil.dry", "z"], ["np.log", "x.clip"]),
        ("I(x if not z else 1e-3) + I(x == z)", ["x", "z"], ["I"]),
        ("{f(x).values} + a %in% b", ["x", "a", "b"], ["f"]),
    ],
)
def test_words(text: str, columns: list[str], functions: list[str]) -> None:
    found = words(text)
    assert list(dict.fromkeys(word.name for word in found if not word.called)) == columns
    assert [word.name for word in found if word.called] == functions
