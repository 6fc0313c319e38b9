"""Every example runs and prints what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TMB_EXAMPLES, run_example

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "01_first_mixed_model.py": ["251.4", "10.467", "subject_308"],
    "02_binary_outcome.py": ["-1180.3", "Odds ratios", "livch"],
    "03_counts_overdispersion.py": ["1962.8", "1672.4", "Rate ratios"],
    "04_three_levels.py": ["Share of the variance", "batch", "cask"],
    "13_many_genes.py": ["60 fits", "g0, g1", "g59: ", "Agreement with the Wald tests: 1.0", "Fixed effects"],
    "14_bootstrap.py": ["200 replicates", "bias", "sd 1 | herd"],
    "15_power.py": ["Wald test of treated", "type_m", "Enough for a power of 80 %: 60 herds"],
    "12_private_family.py": ["folded_normal", "estimated 0.6", "A gaussian model"],
}


def test_no_example_is_left_out() -> None:
    """Those that are compared with TMB run in reference/test_tmb.py."""
    assert sorted([*PRINTED, *TMB_EXAMPLES.values()]) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", PRINTED)
def test_example(name: str) -> None:
    printed = run_example(name)[1]
    assert [text for text in PRINTED[name] if text not in printed] == []
    assert "nan" not in printed.lower().split()
