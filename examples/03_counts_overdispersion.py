"""Counts that vary more than a Poisson model allows: salamanders found at 23 stream sites, mined and not.

The negative binomial (`nbinom2`, variance mu + mu^2 / theta) holds the Poisson model as its limit, so AIC and a
likelihood-ratio test can compare the two.
"""

import glmmjax as gj

data = gj.datasets.load("salamanders")
formula = "count ~ spp + mined + (1 | site)"
poisson = gj.glmm(formula, data, family="poisson")
negative_binomial = gj.glmm(formula, data, family="nbinom2")

for name, fit in [("poisson", poisson), ("nbinom2", negative_binomial)]:
    ratio = (fit.resid(type="pearson") ** 2).sum() / fit.df_resid
    print(f"{name:<8} AIC {fit.aic:8.1f}   squared Pearson residuals per degree of freedom {ratio:.2f}")

print("\nLikelihood-ratio test (theta is on its boundary under Poisson: the p-value is, if anything, too large):")
test = gj.anova(poisson, negative_binomial).iloc[1]
print(f"chisq {test['chisq']:.1f} on {test['chi_df']:.0f} degree of freedom, p = {test['p_value']:.1g}")

print()
print(negative_binomial.summary())

print("\nRate ratios:")
rates = negative_binomial.tidy(exponentiate=True)
columns = ["term", "estimate", "conf_low", "conf_high"]
print(rates.loc[rates["effect"] == "fixed", columns].round(3).to_string(index=False))
