"""Checks of a fit by name: ``glmmjax.check.consistency(fit)``."""

from __future__ import annotations

from glmmjax.diagnostics.consistency import consistency as consistency
