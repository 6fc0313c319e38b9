# Fits the models of cases.json in R and records what R reports.
# Usage, from the repository root: Rscript tests/reference/make_reference.R OUT.json
# Needs glmmTMB (with numDeriv), lme4 and jsonlite. Data: the CSV files of glmmjax/datasets.
suppressMessages({library(glmmTMB); library(lme4); library(jsonlite)})
root <- "glmmjax/datasets"
out <- commandArgs(TRUE)[1]

# Labels stay text, as in glmmjax.datasets: everything R reads as text, and the codes that look like numbers.
codes <- list(sleepstudy = "Subject", contraception = "woman", wine = "bottle", verbagg = "id")
data_of <- function(name) {
  frame <- read.csv(file.path(root, paste0(name, ".csv")), stringsAsFactors = FALSE)
  for (column in codes[[name]]) frame[[column]] <- as.character(frame[[column]])
  frame
}

# nlminb stops early for references that must hold to 1e-6: finish with Newton steps on a Richardson Hessian.
polished <- function(par, fn, gr, control) {
  fit <- nlminb(par, fn, gr, control = list(iter.max = 2000, eval.max = 4000, rel.tol = 1e-14, x.tol = 1e-12))
  best <- fit$par
  for (i in 1:4) {
    step <- tryCatch(solve(numDeriv::jacobian(gr, best), as.vector(gr(best))), error = function(e) NULL)
    if (is.null(step) || !all(is.finite(step)) || fn(best - step) > fn(best) + 1e-7) break
    best <- best - step
  }
  list(par = best, objective = fn(best), convergence = 0, message = "Newton-polished", iterations = fit$iterations,
       evaluations = fit$evaluations)
}
control <- glmmTMBControl(optimizer = polished, optCtrl = list())
tmb <- function(formula, data, ...) suppressWarnings(glmmTMB(formula, data, control = control, ...))

coefficients_of <- function(names, est, se) list(cond = list(names = I(names), est = I(unname(est)), se = I(unname(se))))
# I() keeps vectors of length one as lists in the JSON file.
block <- function(m) list(names = I(rownames(m)), sd = I(unname(attr(m, "stddev"))), corr = unname(attr(m, "correlation")))

reference <- function(fit, singular) UseMethod("reference")
reference.glmmTMB <- function(fit, singular) {
  par <- fit$fit$par
  beta <- names(par) == "beta"
  # The Hessian of sdreport takes fixed steps, too coarse for steep columns; only on a boundary is it the one that inverts.
  vcov <- if (singular) fit$sdr$cov.fixed else solve(numDeriv::jacobian(fit$obj$gr, par))
  groups <- VarCorr(fit)$cond
  par_list <- lapply(split(unname(par), names(par)), I)
  names(par_list)[names(par_list) == "betad"] <- "betadisp"
  if (family(fit)$family == "gaussian") par_list$betadisp <- par_list$betadisp / 2  # glmmTMB < 1.1.9 holds the log variance
  list(engine = paste("glmmTMB", packageVersion("glmmTMB")), logLik = as.numeric(logLik(fit)), df = attr(logLik(fit), "df"),
       AIC = AIC(fit), BIC = BIC(fit),
       coef = coefficients_of(names(fixef(fit)$cond), par[beta], sqrt(diag(vcov))[beta]),
       varcorr = if (length(groups)) list(cond = lapply(groups, block)),
       sigma = sigma(fit), fit_par = par_list, max_gradient = max(abs(fit$obj$gr(par))),
       fitted_head = head(unname(predict(fit, type = "response")), 6),
       ranef_head = if (length(groups)) lapply(ranef(fit)$cond, head, 4))
}
reference.merMod <- function(fit, singular) {
  fixed <- summary(fit)$coefficients
  list(engine = paste("lme4", packageVersion("lme4")), logLik = as.numeric(logLik(fit)), df = attr(logLik(fit), "df"),
       AIC = AIC(fit), BIC = BIC(fit), coef = coefficients_of(rownames(fixed), fixed[, 1], fixed[, 2]),
       varcorr = list(cond = lapply(VarCorr(fit), block)), sigma = sigma(fit),
       fitted_head = head(unname(predict(fit, type = "response")), 6), ranef_head = lapply(ranef(fit), head, 4))
}
# Standard errors of glm() rest on the expected information; these rest on the observed one, as everywhere else here.
reference.glm <- function(fit, singular) {
  X <- model.matrix(fit); y <- fit$y; w <- fit$prior.weights; inverse <- fit$family$linkinv
  nll <- function(beta) -sum(dbinom(round(y * w), w, inverse(drop(X %*% beta)), log = TRUE))
  best <- optim(coef(fit), nll, method = "BFGS", control = list(reltol = 1e-15, maxit = 1000))$par
  for (i in 1:6) best <- best - solve(numDeriv::hessian(nll, best), numDeriv::grad(nll, best))
  vcov <- solve(numDeriv::hessian(nll, best)); p <- length(best)
  list(engine = paste("R", getRversion(), "glm, observed information"), logLik = -nll(best), df = p,
       AIC = 2 * nll(best) + 2 * p, BIC = 2 * nll(best) + log(length(y)) * p,
       coef = coefficients_of(colnames(X), best, sqrt(diag(vcov))), varcorr = NULL, sigma = 1,
       fitted_head = head(unname(inverse(drop(X %*% best))), 6), ranef_head = NULL)
}

cases <- list()
# `formula` and `family` are in glmmjax's spelling; `fit` is the R call on the same data. `weights` and `offset` name columns.
# `singular` marks an estimate on the boundary: there only the log-likelihood and the fixed effects are comparable.
case <- function(name, data, formula, family, fit, weights = NULL, offset = NULL, singular = FALSE, note = "") {
  frame <- data_of(data)
  start <- proc.time()[["elapsed"]]
  result <- fit(frame)
  call <- Filter(Negate(is.null), list(weights = weights, offset = offset))
  cases[[length(cases) + 1]] <<- list(name = name, data = data, formula = formula, family = family,
    call = if (length(call)) call else setNames(list(), character()), singular = singular, note = note, reference = reference(result, singular))
  last <- cases[[length(cases)]]$reference
  cat(sprintf("%-34s %.6f  max|g| %.1e  (%.1f s)\n", name, last$logLik, max(c(last$max_gradient, 0)), proc.time()[["elapsed"]] - start))
}
# The common pattern: R reads the same formula, and the family is a glmmTMB family.
same <- function(name, data, formula, family, r_family, ...) {
  case(name, data, formula, family, function(d) tmb(as.formula(formula), d, family = r_family), ...)
}

# ---- gaussian, maximum likelihood
same("sleepstudy_us_ml", "sleepstudy", "Reaction ~ Days + (Days | Subject)", "gaussian", gaussian())
same("sleepstudy_uncorrelated", "sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", "gaussian", gaussian())
same("sleepstudy_double_bar", "sleepstudy", "Reaction ~ Days + (Days || Subject)", "gaussian", gaussian(),
     note = "the same model as sleepstudy_uncorrelated")
same("sleepstudy_intercept", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "gaussian", gaussian())
same("wine_three_effects", "wine", "response ~ temp * contact + (temp + contact | judge)", "gaussian", gaussian(),
     singular = TRUE, note = "blocks of three; their covariance matrix has rank two")
same("sleepstudy_no_fixed_intercept", "sleepstudy", "Reaction ~ 0 + Days + (1 | Subject)", "gaussian", gaussian())
same("sleepstudy_log_link", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "gaussian(log)", gaussian("log"))
same("dyestuff_ml", "dyestuff", "Yield ~ 1 + (1 | Batch)", "gaussian", gaussian())
case("dyestuff_ml_lme4", "dyestuff", "Yield ~ 1 + (1 | Batch)", "gaussian",
     function(d) lmer(Yield ~ 1 + (1 | Batch), d, REML = FALSE,
                      control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12))),
     note = "lme4's standard errors of fixed effects take theta as known, which is the same for a balanced design")
same("pastes_nested", "pastes", "strength ~ 1 + (1 | batch/cask)", "gaussian", gaussian(), note = "cask letters repeat in every batch")
same("pastes_cask_in_batch", "pastes", "strength ~ 1 + (1 | batch:cask)", "gaussian", gaussian())
same("pastes_cask_fixed", "pastes", "strength ~ cask + (1 | batch) + (1 | sample)", "gaussian", gaussian())
case("salamanders_gaussian_weights", "salamanders", "Wtemp ~ DOY + (1 | site)", "gaussian", weights = "sample",
     function(d) tmb(Wtemp ~ DOY + (1 | site), d, family = gaussian(), weights = d$sample),
     note = "weights multiply each row's log-likelihood")
# ---- Gamma
same("sleepstudy_gamma", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "Gamma(log)", Gamma("log"))
same("sleepstudy_gamma_slope", "sleepstudy", "Reaction ~ Days + (Days | Subject)", "Gamma(log)", Gamma("log"))
same("sleepstudy_gamma_inverse", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "Gamma(inverse)", Gamma("inverse"))
same("sleepstudy_gamma_identity", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "Gamma(identity)", Gamma("identity"))
# ---- binomial
cbpp_formula <- "cbind(incidence, size - incidence) ~ period + (1 | herd)"
same("cbpp_binomial", "cbpp", cbpp_formula, "binomial", binomial())
case("cbpp_proportion", "cbpp", "I(incidence / size) ~ period + (1 | herd)", "binomial", weights = "size",
     function(d) tmb(incidence / size ~ period + (1 | herd), d, family = binomial(), weights = d$size),
     note = "the same model as cbpp_binomial, trials as weights")
same("cbpp_two_re", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd) + (1 | obs)", "binomial", binomial())
same("cbpp_nested", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd/period)", "binomial", binomial(),
     note = "one row in each herd and period: the same model as cbpp_two_re")
same("cbpp_probit", "cbpp", cbpp_formula, "binomial(probit)", binomial("probit"))
same("cbpp_cloglog", "cbpp", cbpp_formula, "binomial(cloglog)", binomial("cloglog"))
same("cbpp_no_intercept", "cbpp", "cbind(incidence, size - incidence) ~ 0 + period + (1 | herd)", "binomial", binomial())
same("cbpp_glm", "cbpp", "cbind(incidence, size - incidence) ~ period", "binomial", binomial(), note = "no random effects")
for (link in c("probit", "cloglog", "cauchit")) local({
  l <- link
  case(paste0("contraception_glm_", l), "contraception", "y ~ age + urban + livch", sprintf("binomial(%s)", l),
       function(d) glm(y ~ age + urban + livch, binomial(l), d), note = "no random effects")
})
fixed <- "y ~ age + I(age**2) + urban + livch"
same("contraception_intercept", "contraception", paste(fixed, "+ (1 | district)"), "binomial", binomial())
same("contraception_slope", "contraception", paste(fixed, "+ (urban | district)"), "binomial", binomial())
same("contraception_cell_slopes", "contraception", paste(fixed, "+ (0 + urban | district)"), "binomial", binomial(),
     note = "one effect for each level of urban: the same fit as contraception_slope, other standard deviations")
same("contraception_probit", "contraception", "y ~ age + urban + (1 | district)", "binomial(probit)", binomial("probit"))
same("contraception_three_effects", "contraception", "y ~ age * urban + livch + (age + urban | district)", "binomial", binomial(),
     note = "blocks of three")
same("contraception_nested", "contraception", "y ~ age * urban + livch + (1 | district/urban)", "binomial", binomial(),
     singular = TRUE, note = "the standard deviation of district is zero")
same("verbagg_crossed", "verbagg", "y ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "binomial", binomial())
same("toenail_laplace", "toenail", "y ~ treatment * time + (1 | patientID)", "binomial", binomial(),
     note = "the Laplace approximation is poor here; it is still the same approximation")
# ---- counts
same("grouseticks_three_re", "grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson", poisson())
same("grouseticks_nested", "grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | LOCATION/BROOD/INDEX)", "poisson", poisson(),
     note = "the same model as grouseticks_three_re: chicks in broods in locations")
same("salamanders_poisson", "salamanders", "count ~ spp + mined + (1 | site)", "poisson", poisson())
same("salamanders_nested", "salamanders", "count ~ spp + mined + (1 | site/sample)", "poisson", poisson(),
     note = "visits 1 to 4 within each site")
case("salamanders_weights", "salamanders", "count ~ spp + mined + (1 | site)", "poisson", weights = "sample",
     function(d) tmb(count ~ spp + mined + (1 | site), d, family = poisson(), weights = d$sample),
     note = "weights multiply each row's log-likelihood")
same("salamanders_nb2", "salamanders", "count ~ spp + mined + (1 | site)", "nbinom2", nbinom2())
same("salamanders_nb1", "salamanders", "count ~ spp + mined + (1 | site)", "nbinom1", nbinom1())
same("salamanders_nb2_interaction", "salamanders", "count ~ spp * mined + (1 | site)", "nbinom2", nbinom2())
same("salamanders_nb2_no_intercept", "salamanders", "count ~ 0 + spp + mined + (1 | site)", "nbinom2", nbinom2())
same("salamanders_nb2_glm", "salamanders", "count ~ spp + mined", "nbinom2", nbinom2(), note = "no random effects")
same("salamanders_nb1_glm", "salamanders", "count ~ spp + mined", "nbinom1", nbinom1(), note = "no random effects")
owls_formula <- "SiblingNegotiation ~ FoodTreatment * SexParent + offset(log(BroodSize)) + (1 | Nest)"
same("owls_poisson_offset", "owls", owls_formula, "poisson", poisson())
same("owls_nb1_offset", "owls", owls_formula, "nbinom1", nbinom1())
same("owls_nb2_offset", "owls", owls_formula, "nbinom2", nbinom2())
case("owls_offset_argument", "owls", "SiblingNegotiation ~ FoodTreatment * SexParent + (1 | Nest)", "nbinom2", offset = "logBroodSize",
     function(d) tmb(SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1 | Nest), d, family = nbinom2()),
     note = "the same model as owls_nb2_offset")
same("owls_three_effects", "owls", "SiblingNegotiation ~ FoodTreatment * SexParent + (FoodTreatment + SexParent | Nest)", "poisson", poisson(),
     note = "blocks of three")
same("epil2_nb2_slope", "epil2", "y ~ Base * trt + Age + Visit + (Visit | subject)", "nbinom2", nbinom2(), singular = TRUE,
     note = "the correlation of intercept and slope is -1")
same("epil2_poisson_slope", "epil2", "y ~ Base * trt + Age + Visit + (Visit | subject)", "poisson", poisson())
case("sleepstudy_poisson_identity", "sleepstudy", "np.round(Reaction) ~ Days + (1 | Subject)", "poisson(identity)",
     function(d) tmb(round(Reaction) ~ Days + (1 | Subject), d, family = poisson("identity")))
case("sleepstudy_poisson_sqrt", "sleepstudy", "np.round(Reaction) ~ Days + (1 | Subject)", "poisson(sqrt)",
     function(d) tmb(round(Reaction) ~ Days + (1 | Subject), d, family = poisson("sqrt")))
case("sleepstudy_poisson_slope", "sleepstudy", "np.round(Reaction) ~ Days + (Days | Subject)", "poisson",
     function(d) tmb(round(Reaction) ~ Days + (Days | Subject), d, family = poisson()))
case("sleepstudy_nb2_slope", "sleepstudy", "np.round(Reaction) ~ Days + (Days | Subject)", "nbinom2",
     function(d) tmb(round(Reaction) ~ Days + (Days | Subject), d, family = nbinom2()))

write(toJSON(cases, digits = NA, auto_unbox = TRUE, null = "null", pretty = TRUE), out)
cat(length(cases), "cases\n")
