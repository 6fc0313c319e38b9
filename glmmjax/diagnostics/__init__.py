"""Checks of fits: is something wrong, and what?"""

from __future__ import annotations

from glmmjax.diagnostics.consistency import Consistency as Consistency
from glmmjax.diagnostics.consistency import consistency as consistency
