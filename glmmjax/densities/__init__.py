"""Densities to write a likelihood with: small immutable records that compose, each with ``nll``, ``sample`` and
``event_shape``.

    scaled(separable(ar1(rho, n_years), gmrf_grid(shape, kappa)), sd).nll(x)

is the negative log-density, all constants included, of an array with one axis of years and those of a grid. Densities
are pytrees and can be built inside functions that JAX traces, so that their parameters can be estimated.
"""

from __future__ import annotations

from glmmjax.densities._density import Density as Density
from glmmjax.densities._density import Gaussian as Gaussian
from glmmjax.densities.ar1 import ar1 as ar1
from glmmjax.densities.ark import ark as ark
from glmmjax.densities.ark import partial_to_ar as partial_to_ar
from glmmjax.densities.finite_elements import FiniteElements as FiniteElements
from glmmjax.densities.finite_elements import finite_elements as finite_elements
from glmmjax.densities.gmrf import gmrf as gmrf
from glmmjax.densities.gmrf import gmrf_sparse as gmrf_sparse
from glmmjax.densities.gmrf_grid import gmrf_grid as gmrf_grid
from glmmjax.densities.mvnorm import mvnorm as mvnorm
from glmmjax.densities.ou import ou as ou
from glmmjax.densities.random_walk import random_walk as random_walk
from glmmjax.densities.scaled import scaled as scaled
from glmmjax.densities.separable import separable as separable
from glmmjax.densities.shifted import shifted as shifted
from glmmjax.densities.spde_precision import SpdePrecision as SpdePrecision
from glmmjax.densities.spde_precision import spde_precision as spde_precision
from glmmjax.densities.unstructured_corr import correlation as correlation
from glmmjax.densities.unstructured_corr import unstructured_corr as unstructured_corr
