"""One model for every gene: counts of many genes in the same samples, fitted together."""

import numpy as np
import pandas as pd

import glmmjax as gj

# Simulated counts of 60 genes in 36 patients before and after a treatment that changes the first ten.
rng = np.random.default_rng(1)
samples = pd.DataFrame({"patient": np.repeat(np.arange(36), 2), "after": np.tile([0, 1], 36)})
effect = np.where(np.arange(60) < 10, 1.0, 0.0)
patients = 0.5 * rng.normal(size=(36, 60))
means = np.exp(rng.uniform(1, 4, size=60) + patients[samples.patient] + np.outer(samples.after, effect))
counts = pd.DataFrame(rng.poisson(means * rng.gamma(5.0, 0.2, size=means.shape)), columns=[f"g{i}" for i in range(60)])
counts["g59"] = 0  # a gene that was never seen

many = gj.fit_many("~ after + (1 | patient)", samples, counts, family="nbinom2")
print(many)

tests = many.contrast({"after": 1.0})
found = tests[tests.p_adjusted < 0.05]
print("Changed at a false discovery rate of 5%:", ", ".join(found.index))

print("Not like the others:")
for gene, status in many.failed.items():
    print(f"  {gene}: {status}")

# A likelihood ratio test in every gene.
without = gj.fit_many("~ 1 + (1 | patient)", samples, counts, family="nbinom2")
lrt = many.likelihood_ratio_test(without)
print("Agreement with the Wald tests:", round(float(np.mean((lrt.p_adjusted < 0.05) == (tests.p_adjusted < 0.05))), 2))

# Any gene as a full fit.
print(many["g0"].summary())
