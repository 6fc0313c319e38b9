"""Three levels: two assays of each cask, three casks in each of ten deliveries of a chemical paste.

The letters a, b, c name other casks in every delivery; `(1 | batch/cask)` means `(1 | batch) + (1 | batch:cask)` and
keeps them apart. Where does the variation come from?
"""

import glmmjax as gj

data = gj.datasets.load("pastes")
nested = gj.glmm("strength ~ 1 + (1 | batch/cask)", data)
print(nested.summary())

casks_only = gj.glmm("strength ~ 1 + (1 | batch:cask)", data)
test = gj.anova(casks_only, nested).iloc[1]
print(f"\nDo the deliveries differ beyond their casks? chisq {test['chisq']:.2f}, p = {test['p_value']:.2f}")
print("(A variance of zero is the end of its range, so the p-value should be halved.)")

spread = nested.tidy()
spread = spread[(spread["effect"] == "ran_pars") & spread["term"].str.startswith("sd__")]
variances = {row.group: row.estimate**2 for row in spread.itertuples()}
total = sum(variances.values())
print("\nShare of the variance:")
for group, variance in variances.items():
    print(f"  {group:<12} {variance:6.3f}   {variance / total:5.1%}")
