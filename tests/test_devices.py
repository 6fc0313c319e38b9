"""Many fits spread over several devices of one process: the same results, and no device waits for another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import glmmjax as gj

RUN = """
import sys, jax, numpy as np, glmmjax as gj
from glmmjax import programs
from glmmjax.batch import engine
engine.ROWS_IN_SLOTS = 8 * 644
assert jax.device_count() == 4
data = gj.datasets.load("salamanders")
rng = np.random.default_rng(4)
site, spp = (np.unique(data[name], return_inverse=True)[1] for name in ("site", "spp"))
effects = 0.7 * rng.normal(size=(23, 70))[site] + 0.7 * rng.normal(size=(7, 70))[spp]
mu = np.where(data.mined == "no", 3.0, 0.8)[:, None] * np.exp(effects)
Y = rng.poisson(mu * rng.gamma(1.5, 1.0 / 1.5, size=mu.shape)).astype(float)
Y[3, 5] = -1.0
quick = gj.Control(compilation="quick")
formula = sys.argv[1]
def run(devices):
    return gj.fit_many(formula, data, Y, "nbinom2", control=quick, devices=devices)
one = run(None)
for devices in (jax.devices(), jax.devices()[1:4]):
    several = run(devices)
    assert several.converged.tolist() == one.converged.tolist()
    clean = (one.status == "converged").to_numpy()  # at a boundary a parameter ends wherever rounding leaves it
    assert clean.sum() > 30
    for name in ("flat", "value", "hessian"):
        a, b = getattr(several.results, name)[clean], getattr(one.results, name)[clean]
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10, err_msg=name)
texts = [entry.executable.as_text() for key, entry in programs._compiled.items() if key[0] is engine.slots_program]
words = ("all-reduce", "all-gather", "all-to-all", "collective")
assert len(texts) == 3 and not [word for text in texts for word in words if word in text]
gj.enable_compilation_cache(sys.argv[2])
for _ in range(2):  # written to the disk, then read from it
    programs._compiled.clear()
    again = run(jax.devices())
    np.testing.assert_allclose(again.results.flat[clean], one.results.flat[clean], rtol=1e-10, atol=1e-10)
print("equal", clean.sum(), again.timings["compile"])
assert again.timings["compile"] < 0.5 * one.timings["compile"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("formula", ["~ mined + (1 | site)", "~ mined + (1 | site) + (1 | spp)"])
def test_several_devices_give_what_one_gives(formula: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, formula, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout
    print(done.stdout)


def test_one_device_may_be_named() -> None:
    data = gj.datasets.load("salamanders")
    Y = np.random.default_rng(1).poisson(2.0, size=(len(data), 5))
    quick = gj.Control(compilation="quick")
    default, named = (
        gj.fit_many("~ mined", data, Y, "poisson", control=quick, devices=devices)
        for devices in (None, jax.devices()[:1])
    )
    np.testing.assert_allclose(named.results.flat, default.results.flat, rtol=0, atol=1e-10)
    with pytest.raises(gj.ArgumentError, match="names a device twice"):
        gj.fit_many("~ mined", data, Y, "poisson", devices=2 * jax.devices()[:1])
