"""Comparisons, standard errors and intervals of fits."""

from __future__ import annotations

from glmmjax.inference.comparison import aic_table as aic_table
from glmmjax.inference.comparison import anova as anova
from glmmjax.inference.profiles import Profile as Profile
from glmmjax.inference.profiles import profile as profile
from glmmjax.inference.sdreport import SdReport as SdReport
from glmmjax.inference.sdreport import sdreport as sdreport
