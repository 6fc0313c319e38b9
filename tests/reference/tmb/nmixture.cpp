// Counts at sites visited repeatedly, abundance unknown and summed out (Royle 2004).
#include <TMB.hpp>

template <class Type>
Type objective_function<Type>::operator()() {
  DATA_MATRIX(y);    // sites x visits
  DATA_VECTOR(x);    // one covariate per site
  DATA_INTEGER(K);   // largest abundance in the sum
  PARAMETER(beta0);
  PARAMETER(beta1);
  PARAMETER(logit_p);
  PARAMETER(log_sigma);
  PARAMETER_VECTOR(u);  // standard normal, one per site

  Type sigma = exp(log_sigma);
  Type log_p = -logspace_add(Type(0), -logit_p);
  Type log_q = -logspace_add(Type(0), logit_p);
  int sites = y.rows(), visits = y.cols();
  Type nll = 0, total = 0;
  for (int i = 0; i < sites; i++) {
    Type log_lambda = beta0 + beta1 * x(i) + sigma * u(i);
    Type lambda = exp(log_lambda);
    int largest = 0;
    Type seen = 0;
    for (int t = 0; t < visits; t++) {
      largest = std::max(largest, CppAD::Integer(y(i, t)));
      seen += y(i, t);
    }
    Type log_sum = 0;
    for (int N = largest; N <= K; N++) {
      Type constant = -lgamma(Type(N + 1));
      for (int t = 0; t < visits; t++)
        constant += lgamma(Type(N + 1)) - lgamma(y(i, t) + 1) - lgamma(Type(N) - y(i, t) + 1);
      Type term = constant + Type(N) * log_lambda - lambda + seen * log_p + (Type(visits * N) - seen) * log_q;
      log_sum = N == largest ? term : logspace_add(log_sum, term);
    }
    nll -= log_sum + dnorm(u(i), Type(0), Type(1), true);
    total += lambda;
  }
  ADREPORT(sigma);
  Type p = exp(log_p);
  ADREPORT(p);
  Type mean_abundance = total / Type(sites);
  ADREPORT(mean_abundance);
  return nll;
}
