"""The process that :mod:`benchmarks.first_process` measures: ``python -m benchmarks.fresh_process MODEL [CACHE]``.

It prints its times as JSON. The clock starts before anything else is imported, as it would for a user's script.
"""

import time

began = time.perf_counter()
import jax  # noqa: E402, F401

jax_imported = time.perf_counter()
import glmmjax as gj  # noqa: E402

gj.glmm  # noqa: B018  (what a fit needs is imported when it is first asked for)
imported = time.perf_counter()
import json  # noqa: E402
import sys  # noqa: E402

from benchmarks.models import MODELS  # noqa: E402

model = MODELS[sys.argv[1]]
if len(sys.argv) > 2:
    gj.enable_compilation_cache(sys.argv[2])
fit = gj.glmm(model.formula, model.data(), family=model.family)
str(fit.summary())
done = time.perf_counter()
times = {"jax_import": jax_imported - began, "import": imported - began, "summary": done - began}
print(json.dumps(times | {"compile": fit.timings["compile"]}))
