"""Structures of the Hessian of the joint density in the random effects: one file each, one interface.

Every structure stores a symmetric matrix by pairs of levels, factors it with a flag instead of an exception, and can
be traced, differentiated and batched: :class:`Structure` has the interface.
"""

from __future__ import annotations

import numpy as np

from glmmjax.hessians._levels import Level as Level
from glmmjax.hessians._levels import Membership as Membership
from glmmjax.hessians._levels import Runs as Runs
from glmmjax.hessians._levels import zeros as zeros
from glmmjax.hessians._links import link as link
from glmmjax.hessians._links import prefer_links as prefer_links
from glmmjax.hessians._structure import MOST_SHARED as MOST_SHARED
from glmmjax.hessians._structure import RowStructure as RowStructure
from glmmjax.hessians._structure import Structure as Structure
from glmmjax.hessians._structure import as_matrix as as_matrix
from glmmjax.hessians._structure import damp as damp
from glmmjax.hessians._structure import identity as identity
from glmmjax.hessians._structure import select as select
from glmmjax.hessians.banded import Banded as Banded
from glmmjax.hessians.blocks import Blocks as Blocks
from glmmjax.hessians.bordered import BorderedHessian as BorderedHessian
from glmmjax.hessians.bordered import BorderedMatrix as BorderedMatrix
from glmmjax.hessians.crossed import Crossed as Crossed
from glmmjax.hessians.dense import DenseHessian as DenseHessian
from glmmjax.hessians.linked import Linked as Linked
from glmmjax.hessians.sparse import Sparse as Sparse


def parent_groups(fine: np.ndarray, coarse: np.ndarray, n_fine: int) -> np.ndarray | None:
    """The coarse group that holds each fine group (n_fine,), or None where the two factors are crossed.

    >>> parent_groups(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]), 3)
    array([0, 0, 1], dtype=int32)
    """
    parent = np.zeros(n_fine, dtype=np.int32)
    parent[fine] = coarse
    return parent if np.array_equal(parent[fine], coarse) else None
