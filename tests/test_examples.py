"""Every example runs and prints what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "01_first_mixed_model.py": ["251.4", "10.467", "subject_308"],
    "02_binary_outcome.py": ["-1180.3", "Odds ratios", "livch"],
    "03_counts_overdispersion.py": ["1962.8", "1672.4", "Rate ratios"],
    "04_three_levels.py": ["Share of the variance", "batch", "cask"],
}


def test_no_example_is_left_out() -> None:
    assert sorted(PRINTED) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", PRINTED)
def test_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / name))
    printed = capsys.readouterr().out
    assert [text for text in PRINTED[name] if text not in printed] == []
    assert "nan" not in printed.lower().split()
