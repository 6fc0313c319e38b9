"""Is an interval to be trusted? The parametric bootstrap of a small study, all refits as one batch."""

import glmmjax as gj

herds = gj.datasets.load("cbpp")
fit = gj.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds, family="binomial")

bootstrap = gj.bootstrap(fit, 200, seed=1)
print(bootstrap)
print("Bias, standard errors and limits by refitting to 200 simulated studies:")
print(bootstrap.summary().round(3).to_string())
print("Standard errors of the fit itself:")
print(fit.bse.round(3).to_string())
