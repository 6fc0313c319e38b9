"""A first mixed model: how much slower do people react with each day of too little sleep, and how much do they differ?

Eighteen people were tested on ten days. Each has their own starting level and their own slope, drawn from a common
normal distribution whose standard deviations and correlation are estimated.
"""

import pandas as pd

import glmmjax as gj

data = gj.datasets.load("sleepstudy")
fit = gj.glmm("Reaction ~ Days + (Days | Subject)", data)
print(fit.summary())

print("\nEstimates as a data frame, with 95% Wald intervals:")
columns = ["group", "term", "estimate", "std_error", "conf_low", "conf_high"]
print(fit.tidy()[columns].round(3).to_string(index=False))

print("\nThe population and one person: expected reaction time in ms on days 0, 5 and 9")
days = pd.DataFrame({"Days": [0, 5, 9], "Subject": "308"})
days["population"] = fit.predict(days, re_form="NA")
days["subject_308"] = fit.predict(days)
print(days.round(1).to_string(index=False))
