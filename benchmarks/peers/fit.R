# Fits models on request. Each line of input is: engine, family, CSV file, formula, separated by tabs. Each line of output
# is one JSON object; the first has the versions of what is installed.

quoted <- function(x) encodeString(x, quote = '"')
say <- function(...) cat("{", paste0(quoted(names(c(...))), ": ", c(...), collapse = ", "), "}\n", sep = "")

attached <- function(p) suppressWarnings(suppressMessages(require(p, character.only = TRUE, quietly = TRUE)))
have <- Filter(attached, c("glmmTMB", "lme4"))
installed <- c(vapply(have, function(p) as.character(packageVersion(p)), ""))
if ("glmmTMB" %in% have) {
  installed <- c(installed, TMB = as.character(packageVersion("TMB")))
  # glmmTMB up to 1.1.11 lets system.time() run a full gc() in every fit; this copy does not.
  gcless <- new.env(parent = asNamespace("glmmTMB"))
  gcless$system.time <- function(expr, ...) base::system.time(expr, gcFirst = FALSE)
  gcless$fitTMB <- get("fitTMB", asNamespace("glmmTMB"))
  environment(gcless$fitTMB) <- gcless
  glmmTMB_nogc <- glmmTMB::glmmTMB
  environment(glmmTMB_nogc) <- gcless
}
versions <- c(R = paste(R.version$major, R.version$minor, sep = "."), installed, BLAS = unname(extSoftVersion()["BLAS"]))
do.call(say, as.list(setNames(quoted(versions), names(versions))))

fit_once <- function(engine, family, data, formula) switch(engine,
  "glmmTMB" = glmmTMB(formula, data, family = family),
  "glmmTMB-nogc" = glmmTMB_nogc(formula, data, family = family),
  "lme4" = if (family == "gaussian") lmer(formula, data, REML = FALSE)
           else glmer(formula, data, family = family))

answer <- function(engine, family, data, formula) {
  note <- ""
  fit <- withCallingHandlers(
    {
      began <- Sys.time()
      fit <- fit_once(engine, family, data, formula)
      seconds <- as.numeric(Sys.time() - began, units = "secs")
      fit
    },
    warning = function(w) { note <<- conditionMessage(w); invokeRestart("muffleWarning") },
    message = function(m) invokeRestart("muffleMessage"))
  say(seconds = format(seconds, digits = 9), llf = format(as.numeric(logLik(fit)), digits = 15), note = quoted(note))
}

tables <- list()
requests <- file("stdin", "r")
while (length(line <- readLines(requests, n = 1)) > 0) {
  request <- strsplit(line, "\t", fixed = TRUE)[[1]]
  if (is.null(tables[[request[3]]])) tables[[request[3]]] <- read.csv(request[3], stringsAsFactors = TRUE)
  tryCatch(answer(request[1], request[2], tables[[request[3]]], as.formula(request[4])),
           error = function(e) say(error = quoted(conditionMessage(e))))
}
