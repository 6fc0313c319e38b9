# Models of families and components that R 4.2's packages have, fitted to data sets of glmmjax:
#     Rscript tests/reference/make_families.R DATA_DIRECTORY tests/reference/families.json
# DATA_DIRECTORY holds the CSV files of glmmjax/datasets.
library(glmmTMB); library(ordinal); library(jsonlite)
args <- commandArgs(TRUE)
read <- function(name, factors) {
  d <- read.csv(file.path(args[1], paste0(name, ".csv")))
  for (f in factors) d[[f]] <- factor(d[[f]])
  d
}
data <- list(
  sleepstudy = read("sleepstudy", "Subject"), salamanders = read("salamanders", c("site", "spp", "mined")),
  wine = read("wine", c("judge", "rating", "temp", "contact")), epil2 = read("epil2", c("subject", "trt"))
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
