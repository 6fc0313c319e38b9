"""Inference from fits: comparing models."""

from __future__ import annotations

from glmmjax.inference.comparison import aic_table as aic_table
from glmmjax.inference.comparison import anova as anova
