"""A Matern field on a triangular mesh: counts in space by the SPDE approach (Lindgren, Rue and Lindstrom 2011).

The field lives at the mesh's vertices and has a sparse precision matrix Q. Its log-determinant, and the curvature of
the whole density, are factored by the same sparse Cholesky factorization.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jax.scipy.special import gammaln

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/spde.json").read_text())
mesh = {name: np.array(values) for name, values in recorded["data"].items()}
n = len(mesh["C0"])

# finite elements of the mesh: lumped mass C, stiffness G; the precision mixes C, G and G C^-1 G on one pattern
upper = sparse.coo_array((mesh["G1"], (mesh["G1_row"], mesh["G1_col"])), shape=(n, n)).tocsr()
precision = gj.densities.spde_precision(sparse.diags_array(mesh["C0"]), upper + sparse.triu(upper, 1).T)
Q = gj.Sparse(sparse.coo_array((np.ones(len(precision.rows)), (precision.rows, precision.cols)), shape=(n, n)))
once = np.flatnonzero(precision.rows <= precision.cols)  # a symmetric matrix stores one triangle

# each count sees the three vertices around it, so that the curvature has the pattern of Q and of A'A
sees = (np.ones(900), (np.repeat(np.arange(300), 3), mesh["A_columns"].reshape(-1)))
A = sparse.coo_array(sees, shape=(300, n))
H = gj.Sparse(abs(A.T @ A) + sparse.coo_array((np.ones(len(precision.rows)), (precision.rows, precision.cols))))

data = {name: mesh[name] for name in ("y", "x", "A_columns", "A_weights")} | {"precision": precision, "once": once}


def intensity(params, random, data):
    field = jnp.sum(data["A_weights"] * random["w"][data["A_columns"]], axis=1)
    return params["beta0"] + params["beta1"] * data["x"] + field


def nll(params, random, data):
    values = data["precision"].values(jnp.exp(params["log_kappa"]), jnp.exp(params["log_tau"]))
    rows, cols = data["precision"].rows, data["precision"].cols
    field = gj.densities.gmrf_sparse(rows, cols, values, n, logdet=lambda q: Q.logdet(q[data["once"]], None))
    eta = intensity(params, random, data)
    return field.nll(random["w"]) - jnp.sum(data["y"] * eta - jnp.exp(eta) - gammaln(data["y"] + 1.0))


def report(params, random, data):
    tau, kappa = jnp.exp(params["log_tau"]), jnp.exp(params["log_kappa"])
    return {
        "range": jnp.sqrt(8.0) / kappa,
        "sd": 1.0 / (jnp.sqrt(4.0 * jnp.pi) * kappa * tau),
        "mean_intensity": jnp.mean(jnp.exp(intensity(params, random, data))),
    }


start = {"beta0": 0.0, "beta1": 0.0, "log_tau": 0.0, "log_kappa": 0.0}
fit = gj.fit(nll, start, {"w": np.zeros(n)}, data, structure=H, report=report)
print(fit.summary())
