# Models of families and components that R 4.2's packages have, fitted to data sets of glmmjax:
#     Rscript tests/reference/make_families.R DATA_DIRECTORY tests/reference/families.json [COMPONENTS]
# DATA_DIRECTORY holds the CSV files of glmmjax/datasets. With COMPONENTS, a file, the models of components.json are fitted
# too and written there, those left out that the installed glmmTMB does not have. components.json itself was recorded with
# glmmTMB 1.1.15 (ordinal 2022.11.16 for wine): to replace it, run this with that version or a later one.
library(glmmTMB); library(ordinal); library(jsonlite)
args <- commandArgs(TRUE)
read <- function(name, factors) {
  d <- read.csv(file.path(args[1], paste0(name, ".csv")))
  for (f in factors) d[[f]] <- factor(d[[f]])
  d
}
data <- list(
  sleepstudy = read("sleepstudy", "Subject"), salamanders = read("salamanders", c("site", "spp", "mined")),
  wine = read("wine", c("judge", "rating", "temp", "contact")), epil2 = read("epil2", c("subject", "trt")),
  owls = read("owls", c("Nest", "FoodTreatment", "SexParent")), cbpp = read("cbpp", c("herd", "period")),
  dyestuff = read("dyestuff", "Batch")
)
control <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-14))
tmb <- function(name, set, formula, family, ours, ...) {
  f <- glmmTMB(as.formula(formula), data[[set]], family = family, control = control, ...)
  par <- split(unname(f$fit$par), names(f$fit$par))
  s <- f$sdr
  if (!is.null(s$par.random) && is.null(par$beta)) par$beta <- unname(s$par.random[names(s$par.random) == "beta"])
  list(name = name, data = set, formula = formula, family = ours, engine = paste("glmmTMB", packageVersion("glmmTMB")),
       logLik = as.numeric(logLik(f)), par = par, se = unname(sqrt(diag(vcov(f)$cond))),
       gradient = max(abs(f$obj$gr(f$fit$par))))
}
ord <- function(name, f, ours, engine, ...) list(
  name = name, data = "wine", formula = "rating ~ temp + contact", family = ours,
  engine = paste(engine, packageVersion("ordinal")), logLik = as.numeric(f$logLik), coef = as.list(coef(f)), ...)
w <- data$wine
cases <- list(
  tmb("beta", "sleepstudy", "(Reaction - 150) / 350 ~ Days + (1 | Subject)", beta_family(), "beta"),
  tmb("beta_disp", "sleepstudy", "(Reaction - 150) / 350 ~ Days + (1 | Subject)", beta_family(), "beta", dispformula = ~ Days),
  tmb("gamma_hurdle", "salamanders", "count ~ mined + (1 | site)", ziGamma("log"), "Gamma(log)", ziformula = ~ mined),
  tmb("hurdle_genpois", "salamanders", "count ~ mined + (1 | site)", truncated_genpois(), "truncated_genpois", ziformula = ~ mined),
  tmb("hurdle_nbinom2_disp", "salamanders", "count ~ mined + (1 | site)", truncated_nbinom2(), "truncated_nbinom2", ziformula = ~ mined, dispformula = ~ mined),
  tmb("zi_tweedie", "salamanders", "count ~ mined + (1 | site)", tweedie(), "tweedie", ziformula = ~ 1),
  tmb("zi_copy", "salamanders", "count ~ mined + (1 | site)", poisson(), "poisson", ziformula = ~ .),
  tmb("poisson_reml", "salamanders", "count ~ mined + (1 | site)", poisson(), "poisson", REML = TRUE),
  tmb("nbinom2_reml", "salamanders", "count ~ spp + mined + (1 | site)", nbinom2(), "nbinom2", REML = TRUE),
  ord("clm_cloglog", clm(rating ~ temp + contact, data = w, link = "cloglog"), "cloglog", "clm"),
  ord("clm_loglog", clm(rating ~ temp + contact, data = w, link = "loglog"), "loglog", "clm"),
  ord("clm_scale", clm(rating ~ temp + contact, scale = ~ contact, data = w), "logit", "clm"),
  ord("clm_nominal", clm(rating ~ temp, nominal = ~ contact, data = w), "logit", "clm"),
  ord("clmm_symmetric", clmm(rating ~ temp + contact + (1 | judge), data = w, threshold = "symmetric"), "logit", "clmm"),
  ord("clmm_equidistant", clmm(rating ~ temp + contact + (1 | judge), data = w, threshold = "equidistant"), "logit", "clmm"),
  ord("clmm_loglog", clmm(rating ~ temp + contact + (1 | judge), data = w, link = "cloglog"), "loglog", "clmm, where it is called cloglog")
)
write_json(cases, args[2], digits = NA, auto_unbox = TRUE, pretty = TRUE)
if (length(args) < 3) quit()

# ---- the models of components.json, in the layout of cases.json; `call` holds glmmjax's arguments, which R's follow
parts <- c(cond = "cond", zi = "zi", disp = "disp")
block <- function(m) list(names = names(attr(m, "stddev")), sd = unname(attr(m, "stddev")), corr = unname(attr(m, "correlation")))
coefficients_of <- function(est, se) list(names = names(est), est = unname(est), se = unname(se))
entry <- function(name, set, formula, ours, call, reference) list(
  name = name, data = set, formula = formula, family = ours,
  call = if (length(call)) call else setNames(list(), character()), reference = reference)
reference <- function(f) {
  varied <- !identical(deparse(f$modelInfo$allForm$dispformula), "~1")
  # glmmTMB < 1.1.9 holds the log variance of a gaussian
  half <- if (family(f)$family == "gaussian" && packageVersion("glmmTMB") < "1.1.9") 2 else 1
  coef <- lapply(parts, function(part) {
    est <- fixef(f)[[part]]
    if (!length(est) || part == "disp" && !varied) return(NULL)
    over <- if (part == "disp") half else 1
    coefficients_of(est / over, sqrt(diag(as.matrix(vcov(f)[[part]]))) / over)
  })
  varcorr <- lapply(Filter(length, unclass(VarCorr(f))[parts]), function(groups) lapply(groups, block))
  list(engine = paste("glmmTMB", packageVersion("glmmTMB")), logLik = as.numeric(logLik(f)), coef = Filter(length, coef),
       varcorr = varcorr, sigma = if (!varied) sigma(f), family_params = as.list(family_params(f)),
       fitted_head = head(unname(predict(f, type = "response")), 6))
}
component <- function(name, set, formula, family, ours, ...) tryCatch({
  call <- list(...)
  arguments <- lapply(call, function(value) if (is.character(value)) as.formula(value) else value)
  names(arguments) <- sub("reml", "REML", names(arguments))
  given <- c(list(as.formula(formula), data[[set]], family = family, control = control), arguments)
  entry(name, set, formula, ours, call, reference(suppressWarnings(do.call(glmmTMB, given))))
}, error = function(e) message(name, " left out: ", conditionMessage(e)))
ordered <- function(link) {
  f <- clmm(rating ~ temp + contact + (1 | judge), data = w, link = link)
  own <- seq_along(coef(f))
  judge <- block(VarCorr(f)$judge)[c("names", "sd")]
  entry(paste0("wine_", link), "wine", "rating ~ temp + contact + (1 | judge)", sprintf("cumulative(%s)", link), list(), list(
    engine = paste("ordinal", packageVersion("ordinal")), logLik = as.numeric(logLik(f)),
    coef = list(cond = coefficients_of(coef(f)[own], sqrt(diag(vcov(f)))[own])), varcorr = list(cond = list(judge = judge))))
}
days <- "Reaction ~ Days + (1 | Subject)"; slopes <- "Reaction ~ Days + (Days | Subject)"
species <- "count ~ spp + mined + (1 | site)"
calls <- "SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1 | Nest)"
components <- list(
  component("sleepstudy_us_reml", "sleepstudy", slopes, gaussian(), "gaussian", reml = TRUE),
  component("sleepstudy_t", "sleepstudy", days, t_family(), "t"),
  component("sleepstudy_lognormal", "sleepstudy", days, lognormal(), "lognormal"),
  component("sleepstudy_skewnormal", "sleepstudy", days, skewnormal(), "skewnormal"),
  component("sleepstudy_disp", "sleepstudy", days, gaussian(), "gaussian", dispformula = "~ Days"),
  component("sleepstudy_disp_re", "sleepstudy", slopes, gaussian(), "gaussian", dispformula = "~ 1 + (1 | Subject)"),
  component("dyestuff_reml", "dyestuff", "Yield ~ 1 + (1 | Batch)", gaussian(), "gaussian", reml = TRUE),
  component("cbpp_betabinomial", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", betabinomial(), "betabinomial"),
  component("salamanders_zip", "salamanders", species, poisson(), "poisson", ziformula = "~ spp + mined"),
  component("salamanders_nb12", "salamanders", species, nbinom12(), "nbinom12"),
  component("salamanders_zinb2", "salamanders", species, nbinom2(), "nbinom2", ziformula = "~ mined"),
  component("salamanders_zi_re", "salamanders", species, nbinom2(), "nbinom2", ziformula = "~ 1 + (1 | site)"),
  component("salamanders_nb2_disp", "salamanders", species, nbinom2(), "nbinom2", dispformula = "~ mined"),
  component("salamanders_hurdle_poisson", "salamanders", species, truncated_poisson(), "truncated_poisson", ziformula = "~ spp + mined"),
  component("salamanders_hurdle_nb2", "salamanders", species, truncated_nbinom2(), "truncated_nbinom2", ziformula = "~ mined"),
  component("salamanders_hurdle_nb1", "salamanders", species, truncated_nbinom1(), "truncated_nbinom1", ziformula = "~ mined"),
  component("salamanders_genpois", "salamanders", species, genpois(), "genpois"),
  component("salamanders_tweedie", "salamanders", species, tweedie(), "tweedie"),
  component("salamanders_bell", "salamanders", species, bell(), "bell"),
  component("owls_nb1_zi", "owls", calls, nbinom1(), "nbinom1", ziformula = "~ 1"),
  component("owls_zip_zi_re", "owls", calls, poisson(), "poisson", ziformula = "~ 1 + (1 | Nest)"),
  component("epil2_compois", "epil2", "y ~ Base + trt + (1 | subject)", compois(), "compois"),
  ordered("logit"), ordered("probit"), ordered("cloglog")
)
write_json(Filter(length, components), args[3], digits = NA, auto_unbox = TRUE, pretty = TRUE, null = "null")
