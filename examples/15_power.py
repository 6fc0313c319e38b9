"""How many herds would it take? The power of a planned trial, from a fit to the data at hand."""

import numpy as np

import glmmjax as gj

# A pilot study: cases of a disease among the animals of 15 herds in four periods; the herds differ.
herds = gj.datasets.load("cbpp")
herds["treated"] = (np.unique(herds.herd, return_inverse=True)[1] % 2).astype(float)  # by turns, in the trial to come
formula = "cbind(incidence, size - incidence) ~ treated + period + (1 | herd)"
pilot = gj.glmm(formula, herds, family="binomial", control=gj.Control(compilation="quick"))

# The treatment should be found if it halves the odds.
effect = {"treated": np.log(0.5)}
power = gj.power(pilot, effect, sizes={"herd": [15, 60]}, n=200, seed=1)
print(power)

table = power.summary()
print("Enough for a power of 80 %:", *table.index[table["power"] >= 0.8], "herds")
print("An estimate that is significant with 15 herds exaggerates the effect by a factor of", table.type_m[15].round(1))
