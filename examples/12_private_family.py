"""A response distribution of one's own: the folded normal, for sizes whose sign was not recorded.

The package has it as well ("folded_normal"): one file in ``glmmjax/families``, one entry in its registry, one row of
what is known of it in the tests. Here it is written as anyone outside would.

A family is a record of functions. Its name, a link and the negative log-density are all that a fit needs; the mean,
the variance and a simulator are what predictions, residuals and simulations need besides.
"""

import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import glmmjax as gj


def nll(y, eta, trials, link):
    """-log of the sum of two normal densities, at y and at -y; phi is their standard deviation."""
    m, log_sd = link.inverse(eta["cond"]), eta["disp"]
    a, b = -0.5 * ((y - m) * jnp.exp(-log_sd)) ** 2, -0.5 * ((y + m) * jnp.exp(-log_sd)) ** 2
    return log_sd + 0.5 * jnp.log(2 * jnp.pi) - jnp.logaddexp(a, b)


def simulate(rng, at):
    return np.abs(rng.normal(at.mu, at.phi))


def mean(at):
    """The mean of the size, which is not the mean of the signed value that the link is for."""
    z = at.mu / at.phi
    return at.phi * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + at.mu * (1 - 2 * norm.sf(z))


folded = gj.families.Family(
    "folded_normal", gj.families.LINKS["log"], nll, has_dispersion=True, mean=mean, simulate=simulate
)

rng = np.random.default_rng(1)
g = np.repeat(np.arange(40), 15)
x = rng.uniform(-1, 1, size=len(g))
mu = np.exp(0.5 + 0.6 * x + 0.3 * rng.normal(size=40)[g])
y = np.abs(rng.normal(mu, 0.8))

fit = gj.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family=folded)
print(fit.summary())
print(f"\nSimulated with slope 0.6, estimated {fit.params['x']:.2f} with standard error {fit.bse['x']:.2f}.")
own = gj.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="folded_normal")
print(f"The package's own family has the same log-likelihood: {own.llf:.6f} and {fit.llf:.6f}.")
print(f"Mean of the sizes {y.mean():.2f}, of their predictions {fit.predict().mean():.2f}.")
naive = gj.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="gaussian(log)")
print(f"A gaussian model, which takes the sizes for signed: {naive.params['x']:.2f}.")
