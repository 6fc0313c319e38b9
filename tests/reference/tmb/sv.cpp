// Stochastic volatility: returns with a stationary AR(1) log variance.
#include <TMB.hpp>

template <class Type>
Type objective_function<Type>::operator()() {
  DATA_VECTOR(y);
  PARAMETER(mu);
  PARAMETER(atanh_phi);
  PARAMETER(log_sigma);
  PARAMETER_VECTOR(h);

  Type phi = tanh(atanh_phi);
  Type sigma = exp(log_sigma);
  int n = y.size();
  Type nll = -dnorm(h(0), mu, sigma / sqrt(1 - phi * phi), true);
  for (int t = 1; t < n; t++) nll -= dnorm(h(t), mu + phi * (h(t - 1) - mu), sigma, true);
  Type volatility = 0;
  for (int t = 0; t < n; t++) {
    nll -= dnorm(y(t), Type(0), exp(h(t) / 2), true);
    volatility += exp(h(t) / 2) / Type(n);
  }
  ADREPORT(phi);
  ADREPORT(sigma);
  Type last_volatility = exp(h(n - 1) / 2);
  ADREPORT(last_volatility);
  Type mean_volatility = volatility;
  ADREPORT(mean_volatility);
  return nll;
}
