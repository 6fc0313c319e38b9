"""What a user relies on before the first fit: a light import, nothing global, a README that works, files that agree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import glmmjax
from glmmjax.families import FAMILIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run_python(code: str) -> str:
    """The output of a program in a process of its own, away from the repository."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light_and_changes_nothing() -> None:
    heavy = ["pandas", "formulaic", "scipy.optimize", "matplotlib", "jaxopt", "polars"]
    run_python(f"""
import sys, warnings, jax
def setting(): return dict(jax.config.values), list(warnings.filters)
before = setting()
import glmmjax
assert setting() == before, "import glmmjax changes a setting"
assert not jax.config.jax_enable_x64
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, loaded
""")


def test_a_fit_leaves_x64_as_it_was() -> None:
    run_python("""
import jax, jax.numpy as jnp, glmmjax as gj
gj.glmm("Yield ~ 1 + (1 | Batch)", gj.datasets.load("dyestuff"))
assert not jax.config.jax_enable_x64
assert jnp.ones(3).dtype == jnp.float32
""")


def test_import_glmmjax_loads_jax_only_when_it_is_used() -> None:
    run_python("""
import sys, glmmjax
assert "jax" not in sys.modules and "numpy" not in sys.modules
assert glmmjax.glmm is glmmjax.fitting.glmm and "jax" in sys.modules
try:
    glmmjax.glm
except AttributeError as error:
    assert "'glm'" in str(error)
else:
    raise AssertionError("there is no glm")
""")


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse((ROOT / "glmmjax" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted([*seen, "__version__"]) == dir(glmmjax)


def test_every_public_name_is_there_and_documented() -> None:
    public = [name for name in dir(glmmjax) if not name.startswith("_")]
    assert {"glmm", "anova", "datasets", "Control", "GlmmjaxError"} <= set(public)
    assert [name for name in public if not (getattr(glmmjax, name).__doc__ or "").strip()] == []


def test_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    for example in examples:
        assert len(example.strip().splitlines()) <= 15
        exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "1672.4" in printed, "the AIC that glmmTMB reports for this model"


def test_readme_first_screen_holds_the_two_commands() -> None:
    screen = README.splitlines()[:45]
    commands = [line for line in screen if line.startswith("python3 -m venv ")]
    assert len(commands) == 2
    assert "python -m glmmjax demo" in commands[0] and "-m pytest" in commands[1]
    assert "```python" in screen


def test_readme_lists_every_family_with_its_links() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([a-z, ]+) \|", README, flags=re.MULTILINE)
    listed = {name: links.split(", ") for name, links in rows}
    known = {name: constructor(None) for name, constructor in FAMILIES.items()}
    assert set(listed) == set(known)
    for name, family in known.items():
        assert set(listed[name]) == set(family.links), name
        assert listed[name][0] == family.link.name, name


def test_readme_shows_the_latest_benchmarks() -> None:
    shown = README[README.index("## Speed") : README.index("## What it does not do yet")]
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    latest = (ROOT / "benchmarks" / "results" / "results.md").read_text().splitlines()
    assert len(rows) > 8 and [row for row in rows if row not in latest] == []


def test_readme_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets and [target for target in targets if not (ROOT / target).exists()] == []


def test_versions_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert version("glmmjax") == PROJECT["version"] == newest[1]


def test_license_is_mit_everywhere() -> None:
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 The glmmjax authors")


def test_package_is_typed() -> None:
    assert (ROOT / "glmmjax" / "py.typed").exists()


def test_every_module_says_what_it_is_and_stays_readable() -> None:
    for path in [*(ROOT / "glmmjax").rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        text = path.read_text()
        assert text.startswith('"""'), f"{path.name} has no docstring"
        assert len(text.splitlines()) <= 500, f"{path.name} is far too long: look for the second noun in it"
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), f"{path.name} is not finished"
