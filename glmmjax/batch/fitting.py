"""The door to many fits: one design with many responses, or one formula with many data sets."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from glmmjax._arguments import by_name, check_flags
from glmmjax._errors import ArgumentError
from glmmjax.batch.data_sets import data_batches
from glmmjax.batch.many import Many
from glmmjax.batch.responses import response_batches
from glmmjax.batch.running import Run, run_batches
from glmmjax.control import Control, checked_control
from glmmjax.covariance import Covariance
from glmmjax.families import resolve_family
from glmmjax.formula_fit import Options


def fit_many(
    formula: str,
    data: Any,
    responses: Any = None,
    family: Any = "gaussian",
    *,
    by: str | Sequence[str] | None = None,
    keys: Sequence[Any] | None = None,
    trials: Any = None,
    ziformula: str = "~ 0",
    dispformula: str = "~ 1",
    weights: Any = None,
    offset: Any = None,
    nominal: str = "~ 0",
    na_action: str = "drop",
    contrasts: Mapping[str, Any] | None = None,
    reml: bool = False,
    priors: Mapping[str, str] | str | None = None,
    start: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    covariances: Mapping[str, Covariance] | None = None,
    control: Control | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    executor: Any = None,
    devices: Sequence[Any] | None = None,
) -> Many:
    """Fit one model to many responses, or to many data sets, in one compiled program, and return a :class:`Many`.

    The model, the likelihood and the Laplace approximation are those of :func:`glmmjax.glmm`; log-likelihoods agree
    with single fits to 1e-8, whatever else is in the batch. A data set that cannot be fitted never stops the others:
    its status says why.

    Args:
        formula: as in :func:`glmmjax.glmm`; with ``responses`` the left-hand side is left out: ``~ x + (1 | id)``.
        data: a data frame or a mapping of columns, n rows.
        responses: the responses, a column for each fit: an array (n, m), a data frame whose columns name the fits, or a
            SciPy sparse matrix (such as AnnData's ``X``). NaN is missing. Counts may be of any integer type.
        family: as in :func:`glmmjax.glmm`; that of :func:`glmmjax.clmm` is ``families.cumulative(link, threshold)``,
            its scale is ``dispformula``. Categories in ``responses`` are numbers; intervals, ``cens()``, need ``by``.
        by: instead of ``responses``, a column (or several) of ``data`` whose every value is a data set of its own.
        keys: names of the fits; default the columns' names, or 0 to m - 1.
        trials: numbers of trials for "binomial" and its like, (n,), (n, m) or a column, where ``responses`` counts
            successes; proportions have them as ``weights``.
        weights: as in :func:`glmmjax.glmm`, shared by all responses, or an array (n, m), each response's own.
        ziformula, dispformula, offset, nominal, na_action, contrasts, reml, priors, start, fixed, covariances, control:
            as in :func:`glmmjax.glmm` and :func:`glmmjax.clmm`; shared by all responses.
        progress: show a bar with the rate and the time left (needs the tqdm package).
        checkpoint: a file to which the run is saved every 20 seconds and when it is interrupted with Ctrl-C. The same
            call goes on from there, with the same results as an uninterrupted run.
        executor: has the fits done by other processes: a ``concurrent.futures`` executor, such as
            ``ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))``, joblib's
            ``get_reusable_executor()``, a Dask ``Client``, or anything with a ``map``. This process prepares the lanes
            and judges where they ended; the estimates are those without an executor. If a worker dies, the statuses of
            its fits say so.
        devices: JAX devices over which to spread the fits, such as ``jax.devices()``; default that of ``control``, or
            else JAX's default.

    Raises:
        FormulaError, DataError, FamilyError, ArgumentError: what is wrong with the model or the design, and the remedy.

    Source: as :func:`glmmjax.glmm`.

    >>> import numpy as np
    >>> from glmmjax import datasets, fit_many
    >>> data = datasets.load("salamanders")
    >>> Y = np.random.default_rng(1).poisson(2.0, size=(len(data), 3))
    >>> many = fit_many("~ mined + (1 | site)", data, Y, "poisson")
    >>> len(many), many.params.shape
    (3, (3, 2))
    """
    began = time.perf_counter()
    control = checked_control(control)
    check_flags("fit_many", reml=reml)
    if (responses is None) == (by is None):
        raise ArgumentError("fit_many: give either responses=, or by= with the response in the formula.")
    if control.optimizer != "newton":
        raise ArgumentError(f"fit_many: the optimizer of a batch is 'newton', not {control.optimizer!r}.")
    if by is not None and not isinstance(by, (str, Sequence)):
        raise ArgumentError(f"fit_many: by= must be the name of a column, or of several, not {by!r}.")
    record = resolve_family(family)
    options = Options(control, reml, priors, by_name("start", start), by_name("fixed", fixed), covariances)
    texts = {"cond": formula, "disp": dispformula, "nominal": nominal, "zi": ziformula}
    inputs = {"weights": weights, "offset": offset, "contrasts": contrasts, "na_action": na_action}
    if by is not None:
        if keys is not None or trials is not None:
            raise ArgumentError("fit_many: keys= and trials= go with responses=; with by= both are in the data.")
        batches = data_batches(texts, data, by, record, inputs, options)
    else:
        batches = response_batches(texts, data, responses, record, trials, keys, inputs, options)
    return run_batches(batches, formula, options, began, Run(progress, checkpoint, executor, devices))
