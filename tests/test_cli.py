"""The command line: its exit codes, what it prints, what it writes, and one clear line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import glmmjax
from glmmjax.__main__ import main

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture
def cbpp(tmp_path: Path) -> str:
    path = tmp_path / "cbpp.csv"
    glmmjax.datasets.load("cbpp").to_csv(path, index=False)
    return str(path)


def test_fit_prints_the_summary_and_writes_json(
    cbpp: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: Any
) -> None:
    out = tmp_path / "fit.json"
    assert main(["fit", CBPP, cbpp, "--family", "binomial", "--exponentiate", "--json", str(out)]) == 0
    printed = capsys.readouterr()
    assert "herd" in printed.out and "periodp2" in printed.out.replace("[T.", "").replace("]", "")
    assert "Exponentiated" in printed.out
    record, expected = json.loads(out.read_text()), reference("cbpp_binomial")
    assert record["converged"] is True and record["nobs"] == 56
    assert [record["llf"], record["aic"]] == pytest.approx([expected["logLik"], expected["AIC"]], rel=1e-6)
    fixed = [row["estimate"] for row in record["tidy"] if row["effect"] == "fixed"]
    assert fixed == pytest.approx(expected["coef"]["cond"]["est"], rel=1e-4)
    assert record["varcorr"]


def test_weights_and_offset_reach_the_model(cbpp: str, tmp_path: Path, reference: Any) -> None:
    out = tmp_path / "fit.json"
    formula = "I(incidence / size) ~ period + (1 | herd)"
    base = ["fit", formula, cbpp, "--family", "binomial", "--weights", "size", "--json", str(out)]
    assert main(base) == 0
    plain = json.loads(out.read_text())
    assert plain["llf"] == pytest.approx(reference("cbpp_binomial")["logLik"], rel=1e-6)
    assert main([*base, "--offset", "0 * size + 1"]) == 0
    shifted = json.loads(out.read_text())
    assert shifted["llf"] == pytest.approx(plain["llf"], rel=1e-8)
    assert shifted["tidy"][0]["estimate"] == pytest.approx(plain["tidy"][0]["estimate"] - 1, rel=1e-5)


def test_demo(capsys: pytest.CaptureFixture[str], reference: Any) -> None:
    assert main(["demo"]) == 0
    printed = capsys.readouterr().out
    assert f"{reference('contraception_slope')['logLik']:.1f}" in printed
    assert "Odds ratios" in printed and "compile" in printed and "run" in printed


MISTAKES = {
    "missing file": (["nowhere.csv"], "nowhere.csv: No such file"),
    "a folder": (["."], "directory"),
    "empty file": (["empty.csv"], "cannot be read as a CSV"),
    "ragged rows": (["ragged.csv"], "line 3"),
    "not text": (["binary.csv"], "cannot be read as a CSV"),
    "unknown column": (["fine.csv", "y ~ xx + (1 | g)"], "'x'"),
    "unknown family": (["fine.csv", "y ~ x + (1 | g)", "--family", "gausian"], "'gaussian'"),
    "unknown weights": (["fine.csv", "y ~ x + (1 | g)", "--weights", "ww"], "'ww'"),
    "no response": (["fine.csv", "~ x + (1 | g)"], "response"),
    "json in no folder": (
        ["fine.csv", "y ~ x + (1 | g)", "--json", "nowhere/out.json"],
        "nowhere/out.json: No such file",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    (tmp_path / "binary.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    frame = pd.DataFrame({"y": [1.0, 2.5, 2.0, 4.5, 3.0, 5.5], "x": [0, 1, 2, 3, 4, 5], "g": list("aabbcc")})
    frame.to_csv(tmp_path / "fine.csv", index=False)
    (path, *rest), expected = MISTAKES[mistake]
    formula, *options = rest or ["y ~ x"]
    assert main(["fit", formula, path, *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("glmmjax: ") and error.count("\n") == 1


def test_a_fit_that_did_not_converge_says_so(
    cbpp: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = SimpleNamespace(converged=False, status="gradient too large", summary=lambda: "the summary")
    monkeypatch.setattr(glmmjax, "glmm", lambda *_, **__: failed)
    assert main(["fit", CBPP, cbpp]) == 1
    printed = capsys.readouterr()
    assert "the summary" in printed.out and "gradient too large" in printed.err


@pytest.mark.parametrize("call", [[], ["fit"], ["fitt", "y ~ x", "data.csv"], ["demo", "extra"]])
def test_a_wrong_call_shows_the_usage(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(call)
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "glmmjax", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"glmmjax {version('glmmjax')}"
