"""A binary outcome: which women use contraception, and how does the gap between town and country differ by district?

A logistic model with a random intercept and a random slope of `urban` for each of the 60 districts of Bangladesh.
"""

import glmmjax as gj

data = gj.datasets.load("contraception")
fit = gj.glmm("y ~ age + I(age**2) + urban + livch + (urban | district)", data, family="binomial")
print(fit.summary())

odds = fit.tidy(exponentiate=True)
print("\nOdds ratios with 95% Wald intervals:")
columns = ["term", "estimate", "conf_low", "conf_high", "p_value"]
print(odds.loc[odds["effect"] == "fixed", columns].round(4).to_string(index=False))

print("\nPredicted probability for the first five women, and for their like in an average district:")
women = data.head(5).assign(own_district=fit.predict(data.head(5)), average=fit.predict(data.head(5), re_form="NA"))
print(women[["district", "age", "urban", "livch", "own_district", "average"]].round(3).to_string(index=False))
