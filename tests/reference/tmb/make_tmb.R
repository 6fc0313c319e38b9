# Fits the models of this folder with TMB and records what it reports, one JSON file per model.
# Usage, from the repository root: Rscript tests/reference/tmb/make_tmb.R [MODEL ...]
# Needs TMB and a C++ compiler, numDeriv, jsonlite, Matrix, nlme. The densities are written out in README.md.
suppressMessages({library(TMB); library(jsonlite); library(Matrix)})
folder <- "tests/reference/tmb"
models <- c("nmixture", "theophylline", "sv", "sv2", "spde")
wanted <- commandArgs(TRUE)
if (!length(wanted)) wanted <- models
stopifnot(dir.exists(folder), wanted %in% models)
# The exact generator that the stored data come from, whatever the defaults of later versions.
RNGkind("Mersenne-Twister", "Inversion", "Rejection")

# ---- fitting

# Compiled away from the repository.
compiled <- function(model) {
  path <- file.path(tempdir(), model)
  file.copy(file.path(folder, paste0(model, ".cpp")), paste0(path, ".cpp"), overwrite = TRUE)
  stopifnot(compile(paste0(path, ".cpp"), "-O2") == 0)
  dyn.load(dynlib(path))
}

# The Jacobian of `f` at `x` by Richardson extrapolation with steps of `width`, half of it, ... in units of `scale`.
richardson <- function(f, x, scale, width = 0.02) {
  shifted <- function(z) as.vector(f(x + (z - 1) * scale))
  jacobian <- numDeriv::jacobian(shifted, rep(1, length(x)), method.args = list(d = width, r = 4))
  sweep(jacobian, 2, scale, "/")
}
hessian_of <- function(obj, par, scale) {
  hessian <- richardson(obj$gr, par, scale)
  (hessian + t(hessian)) / 2
}

# The minimum by nlminb, then Newton steps until the gradient is at rounding error.
polished <- function(obj, start) {
  fit <- nlminb(start, obj$fn, obj$gr, control = list(iter.max = 2000, eval.max = 4000, rel.tol = 1e-14, x.tol = 1e-12))
  par <- fit$par
  scale <- sqrt(diag(solve(numDeriv::jacobian(obj$gr, par))))
  stopifnot(all(is.finite(scale)))
  for (i in 1:5) {
    gradient <- as.vector(obj$gr(par))
    if (max(abs(gradient)) < 1e-10) break
    candidate <- par - solve(hessian_of(obj, par, scale), gradient)
    if (max(abs(obj$gr(candidate))) >= max(abs(gradient))) break
    par <- candidate
  }
  hessian <- hessian_of(obj, par, scale)
  # Twice the steps must give the same Hessian; else neither can be trusted.
  coarse <- richardson(obj$gr, par, scale, 0.04)
  stopifnot(max(abs(coarse - hessian) * outer(scale, scale)) < 1e-6)
  list(par = par, objective = as.numeric(obj$fn(par)), gradient = max(abs(obj$gr(par))), hessian = hessian,
       counts = unname(fit$evaluations))
}

# One end of the profile likelihood interval of parameter `k`, by Newton's method on the two conditions that define it
# (Venzon and Moolgavkar 1988): the objective is above its minimum by half a chi-squared quantile, and the gradient in the
# other parameters is zero. `side` is -1 or 1.
profile_end <- function(obj, fit, k, side, level = 0.95) {
  target <- fit$objective + qchisq(level, 1) / 2
  vcov <- solve(fit$hessian)
  scale <- sqrt(diag(vcov))
  conditions <- function(par) {
    gradient <- as.vector(obj$gr(par))
    list(value = c(as.numeric(obj$fn(par)) - target, gradient[-k]), gradient = gradient)
  }
  size <- function(value) max(abs(value * c(1, scale[-k])))
  par <- fit$par + side * sqrt(qchisq(level, 1)) * vcov[, k] / scale[k]
  for (i in 1:50) {
    at <- conditions(par)
    if (size(at$value) < 1e-10) break
    step <- solve(rbind(at$gradient, hessian_of(obj, par, scale)[-k, , drop = FALSE]), at$value)
    shrink <- min(1, 0.7 / max(abs(step / scale)))
    best <- size(at$value)
    while (shrink > 1e-3 && !isTRUE(size(conditions(par - shrink * step)$value) < best)) shrink <- shrink / 2
    if (shrink <= 1e-3) break
    par <- par - shrink * step
  }
  stopifnot(size(conditions(par)$value) < 1e-8, sign(par[k] - fit$par[k]) == side)
  unname(par[k])
}

head10 <- function(x) unname(head(x, 10))

# Everything TMB reports on the model with `data` and the parameters `start`; `other` is a second start of the parameters
# without `random`; `profiles` name the parameters whose profile likelihood interval is wanted.
reference <- function(model, data, start, random, other, profiles) {
  obj <- MakeADFun(data, start, random = random, DLL = model, silent = TRUE,
                   inner.control = list(maxit = 1000, tol = 1e-11, tol10 = 0))
  fit <- polished(obj, obj$par)
  again <- polished(obj, unlist(other))
  se <- sqrt(diag(solve(fit$hessian)))
  apart <- max(abs(again$par - fit$par) / se)
  stopifnot(fit$gradient < 1e-8, apart < 1e-6, abs(again$objective - fit$objective) < 1e-9 * max(1, abs(fit$objective)))
  obj$fn(fit$par)
  report <- sdreport(obj, par.fixed = fit$par, hessian.fixed = fit$hessian, bias.correct = TRUE)
  stopifnot(report$pdHess)
  full <- obj$env$last.par
  stopifnot(max(abs(full[-obj$env$random] - fit$par)) == 0)
  inner <- obj$env$spHess(full, random = TRUE)
  conditional <- sqrt(diag(solve(inner, Diagonal(nrow(inner))))[1:10])
  intervals <- lapply(profiles, function(name) {
    k <- match(name, names(fit$par))
    list(name = name, index = k - 1, level = 0.95, lower = profile_end(obj, fit, k, -1), upper = profile_end(obj, fit, k, 1))
  })
  cat(sprintf("%-13s objective %.9f  max|g| %.0e  two starts %.0e se apart\n", model, fit$objective, fit$gradient, apart))
  print(data.frame(par = fit$par, se = se, other = again$par, row.names = make.unique(names(fit$par))), digits = 7)
  reported <- data.frame(value = report$value, se = report$sd, corrected = report$unbiased$value,
                         row.names = make.unique(names(report$value)))
  print(reported, digits = 7)
  for (interval in intervals) cat(sprintf("profile %s: %.8f, %.8f\n", interval$name, interval$lower, interval$upper))
  list(objective = fit$objective, max_gradient = fit$gradient, par_names = names(fit$par), par = unname(fit$par), se = unname(se),
       vcov = unname(solve(fit$hessian)), random_head = head10(report$par.random),
       random_sd_head = head10(sqrt(report$diag.cov.random)), random_conditional_sd_head = conditional,
       report_names = names(report$value), report = unname(report$value), report_se = unname(report$sd),
       bias_corrected = unname(report$unbiased$value), profile = intervals, evaluations = fit$counts)
}

# ---- files

# Compact JSON with one line per entry of the two upper levels, so that differences can be read.
json <- function(x) toJSON(x, digits = NA, auto_unbox = TRUE, matrix = "rowmajor")
write_json <- function(content, model) {
  lines <- function(x, indent) {
    entries <- vapply(names(x), function(name) {
      value <- if (indent == 1 && is.list(x[[name]]) && name != "versions") lines(x[[name]], 2) else json(x[[name]])
      sprintf("%s\"%s\": %s", strrep(" ", indent), name, value)
    }, "")
    paste0("{\n", paste(entries, collapse = ",\n"), "\n", strrep(" ", indent - 1), "}")
  }
  writeLines(lines(content, 1), file.path(folder, paste0(model, ".json")))
}
# What is fitted is what the file holds.
as_stored <- function(data) fromJSON(json(data))
record <- function(model, data, start, expected, truth = NULL) {
  content <- list(data = data, start = start, truth = truth, expected = expected,
                  versions = list(R = as.character(getRversion()), TMB = as.character(packageVersion("TMB"))))
  write_json(Filter(Negate(is.null), content), model)
}

# ---- nmixture: simulated. With the repeated counts at hand in R packages (salamanders) the estimates grow with K without end.
nmixture <- function() {
  set.seed(2004)
  sites <- 100; visits <- 3
  truth <- list(beta0 = 1.2, beta1 = 0.6, logit_p = 0.2, log_sigma = -0.7)
  x <- round(rnorm(sites), 4)
  abundance <- rpois(sites, exp(truth$beta0 + truth$beta1 * x + exp(truth$log_sigma) * rnorm(sites)))
  y <- matrix(rbinom(sites * visits, rep(abundance, visits), plogis(truth$logit_p)), sites)
  data <- as_stored(list(y = y, x = x, K = 100))
  start <- list(beta0 = 0, beta1 = 0, logit_p = 0, log_sigma = 0)
  expected <- reference("nmixture", data, c(start, list(u = numeric(sites))), "u",
                        other = list(beta0 = 2, beta1 = 1, logit_p = -1, log_sigma = -1.5), profiles = c("log_sigma", "logit_p"))
  record("nmixture", data, start, expected, truth)
}

# ---- theophylline: Theoph of R's datasets, checked against nlme, which linearizes about the modes.
one_compartment <- function(dose, time, log_ka, log_cl, log_v) {
  ka <- exp(log_ka); ke <- exp(log_cl - log_v)
  dose * ka / (exp(log_v) * (ka - ke)) * (exp(-ke * time) - exp(-ka * time))
}
theophylline <- function() {
  subject <- as.integer(as.character(Theoph$Subject)) - 1L
  data <- as_stored(list(concentration = Theoph$conc, time = Theoph$Time, dose = Theoph$Dose, subject = subject))
  start <- list(log_ka = 0.5, log_cl = -3, log_v = -1, log_sd = c(-1, -1, -1), log_sigma = 0)
  expected <- reference("theophylline", data, c(start, list(b = matrix(0, 3, 12))), "b",
                        other = list(log_ka = 0.2, log_cl = -3.5, log_v = -0.5, log_sd = c(-0.5, -1.5, -2), log_sigma = -0.5),
                        profiles = c("log_ka", "log_sigma"))
  linearized <- nlme::nlme(conc ~ one_compartment(Dose, Time, lka, lcl, lv), Theoph, fixed = lka + lcl + lv ~ 1,
                           random = nlme::pdDiag(lka + lcl + lv ~ 1), groups = ~Subject, start = c(0.5, -3, -1), method = "ML")
  theirs <- c(nlme::fixef(linearized), log(as.numeric(nlme::VarCorr(linearized)[, "StdDev"])))
  cat("nlme:", format(theirs, digits = 4), " logLik", format(as.numeric(logLik(linearized)), digits = 7), "\n")
  stopifnot(abs(theirs - expected$par)[c(1:5, 7)] < 0.5 * expected$se[c(1:5, 7)])
  record("theophylline", data, start, expected)
}

# ---- sv, sv2: daily returns, in percent, of the German and the Swiss index in R's EuStockMarkets, all days and the last 1000.
returns <- function(series, days) tail(round(100 * diff(log(EuStockMarkets[, series])), 6), days)
sv <- function() {
  data <- as_stored(list(y = as.vector(returns("DAX", 1859))))
  start <- list(mu = 0, atanh_phi = 1.5, log_sigma = -1)
  expected <- reference("sv", data, c(start, list(h = numeric(1859))), "h",
                        other = list(mu = -1, atanh_phi = 2.3, log_sigma = -2), profiles = c("atanh_phi", "log_sigma"))
  record("sv", data, start, expected)
}
sv2 <- function() {
  data <- as_stored(list(y = unname(as.matrix(returns(c("DAX", "SMI"), 1000)))))
  start <- list(mu = c(0, 0), atanh_phi = c(1.5, 1.5), log_sigma = c(-1, -1), atanh_rho_y = 0, atanh_rho_h = 0)
  expected <- reference("sv2", data, c(start, list(h = matrix(0, 2, 1000))), "h",
                        other = list(mu = c(-1, -0.5), atanh_phi = c(2.3, 2), log_sigma = c(-2, -1.5), atanh_rho_y = 1, atanh_rho_h = 1),
                        profiles = c("atanh_rho_y", "atanh_rho_h"))
  record("sv2", data, start, expected)
}

# ---- spde: simulated on a mesh made here.

# Vertices of a jittered lattice on [low, high]^2 with a straight edge, and its Delaunay triangulation. The jitter is small
# enough that it consists of the lattice's quadrilaterals, each cut along the diagonal whose opposite angles sum to less than pi.
lattice_mesh <- function(low, high, m, jitter) {
  grid <- seq(low, high, length.out = m)
  inside <- seq_len(m) %in% 2:(m - 1)
  moved <- function(free) ifelse(free, runif(m * m, -jitter, jitter) * (grid[2] - grid[1]), 0)
  vertices <- round(cbind(rep(grid, m) + moved(rep(inside, m)), rep(grid, each = m) + moved(rep(inside, each = m))), 4)
  angle <- function(at, p, q) {
    a <- vertices[p, ] - vertices[at, ]; b <- vertices[q, ] - vertices[at, ]
    acos(sum(a * b) / sqrt(sum(a^2) * sum(b^2)))
  }
  cells <- expand.grid(i = 1:(m - 1), j = 1:(m - 1))
  triangles <- do.call(rbind, lapply(seq_len(nrow(cells)), function(cell) {
    a <- cells$i[cell] + (cells$j[cell] - 1) * m
    b <- a + 1; c <- b + m; d <- a + m
    if (angle(b, a, c) + angle(d, a, c) < pi) rbind(c(a, b, c), c(a, c, d)) else rbind(c(a, b, d), c(b, c, d))
  }))
  list(vertices = vertices, triangles = triangles)
}

# Linear finite elements: the diagonal of the lumped mass matrix C0 and the stiffness matrix G1, rounded as they are stored.
finite_elements <- function(mesh) {
  n <- nrow(mesh$vertices)
  C0 <- numeric(n); G1 <- matrix(0, n, n)
  for (k in seq_len(nrow(mesh$triangles))) {
    t <- mesh$triangles[k, ]
    p <- mesh$vertices[t, ]
    edge <- p[c(3, 1, 2), ] - p[c(2, 3, 1), ]  # opposite to each vertex
    area <- abs(edge[1, 1] * edge[2, 2] - edge[1, 2] * edge[2, 1]) / 2
    C0[t] <- C0[t] + area / 3
    G1[t, t] <- G1[t, t] + edge %*% t(edge) / (4 * area)
  }
  at <- which(upper.tri(G1, diag = TRUE) & abs(G1) > 1e-9, arr.ind = TRUE)
  list(C0 = signif(C0, 10), row = at[, 1], col = at[, 2], G1 = signif(G1[at], 10))
}

# The triangle of each place and its barycentric weights, which sum to one also after rounding.
barycentric <- function(mesh, places) {
  found <- t(apply(places, 1, function(place) {
    for (k in seq_len(nrow(mesh$triangles))) {
      p <- mesh$vertices[mesh$triangles[k, ], ]
      weights <- solve(rbind(t(p), 1), c(place, 1))
      if (all(weights > -1e-12)) return(c(mesh$triangles[k, ], weights))
    }
  }))
  weights <- round(found[, 4:5], 6)
  list(columns = found[, 1:3], weights = cbind(weights, round(1 - rowSums(weights), 6)))
}

spde <- function() {
  set.seed(2011)
  places <- 300
  truth <- list(beta0 = 1, beta1 = 0.5, log_tau = NA, log_kappa = log(sqrt(8) / 3))  # a range of 3, a standard deviation of 0.8
  truth$log_tau <- -log(0.8 * sqrt(4 * pi)) - truth$log_kappa
  mesh <- lattice_mesh(-3, 13, 22, 0.15)
  n <- nrow(mesh$vertices)
  fem <- finite_elements(mesh)
  where <- matrix(round(runif(2 * places, 0, 10), 4), places)
  A <- barycentric(mesh, where)
  x <- round(rnorm(places), 4)
  data <- list(x = x, places = where, vertices = mesh$vertices, triangles = mesh$triangles - 1, A_columns = A$columns - 1,
               A_weights = A$weights, C0 = fem$C0, G1_row = fem$row - 1, G1_col = fem$col - 1, G1 = fem$G1)
  matrices <- function(data) {
    A <- sparseMatrix(rep(1:places, 3), c(data$A_columns) + 1, x = c(data$A_weights), dims = c(places, n))
    C0 <- as(as(Diagonal(x = data$C0), "generalMatrix"), "CsparseMatrix")
    G1 <- as(sparseMatrix(data$G1_row + 1, data$G1_col + 1, x = data$G1, dims = c(n, n), symmetric = TRUE), "generalMatrix")
    list(A = A, C0 = C0, G1 = G1, G2 = as(G1 %*% Diagonal(x = 1 / data$C0) %*% G1, "generalMatrix"))
  }
  part <- matrices(data)
  kappa2 <- exp(2 * truth$log_kappa)
  Q <- exp(2 * truth$log_tau) * (kappa2^2 * part$C0 + 2 * kappa2 * part$G1 + part$G2)
  field <- backsolve(chol(as.matrix(Q)), rnorm(n))
  data <- c(list(y = rpois(places, exp(truth$beta0 + truth$beta1 * x + as.vector(part$A %*% field)))), data)
  data <- as_stored(data)
  start <- list(beta0 = 0, beta1 = 0, log_tau = 0, log_kappa = 0)
  expected <- reference("spde", c(data[c("y", "x")], matrices(data)), c(start, list(w = numeric(n))), "w",
                        other = list(beta0 = 1, beta1 = -0.5, log_tau = -1, log_kappa = 0.5), profiles = c("log_kappa", "beta1"))
  record("spde", data, start, expected, truth)
}

for (model in wanted) {
  compiled(model)
  get(model)()
}
