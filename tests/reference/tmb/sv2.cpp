// Two series of returns, correlated, whose log variances are AR(1) with correlated shocks;
// volatilities interleaved by day.
#include <TMB.hpp>

// The log-density of a bivariate normal with mean zero.
template <class Type>
Type log_normal2(Type a, Type b, Type var_a, Type var_b, Type cov) {
  Type det = var_a * var_b - cov * cov;
  Type quad = (var_b * a * a - 2 * cov * a * b + var_a * b * b) / det;
  return -log(Type(2 * M_PI)) - log(det) / 2 - quad / 2;
}

template <class Type>
Type objective_function<Type>::operator()() {
  DATA_MATRIX(y);  // days x 2
  PARAMETER_VECTOR(mu);
  PARAMETER_VECTOR(atanh_phi);
  PARAMETER_VECTOR(log_sigma);
  PARAMETER(atanh_rho_y);
  PARAMETER(atanh_rho_h);
  PARAMETER_MATRIX(h);  // 2 x days

  Type phi0 = tanh(atanh_phi(0)), phi1 = tanh(atanh_phi(1));
  Type rho_y = tanh(atanh_rho_y), rho_h = tanh(atanh_rho_h);
  vector<Type> sigma = exp(log_sigma);
  Type var0 = sigma(0) * sigma(0), var1 = sigma(1) * sigma(1), cov = rho_h * sigma(0) * sigma(1);
  int n = y.rows();
  Type nll = -log_normal2(h(0, 0) - mu(0), h(1, 0) - mu(1), var0 / (1 - phi0 * phi0), var1 / (1 - phi1 * phi1),
                          cov / (1 - phi0 * phi1));
  for (int t = 1; t < n; t++)
    nll -= log_normal2(h(0, t) - mu(0) - phi0 * (h(0, t - 1) - mu(0)), h(1, t) - mu(1) - phi1 * (h(1, t - 1) - mu(1)),
                       var0, var1, cov);
  for (int t = 0; t < n; t++)
    nll -= log_normal2(y(t, 0), y(t, 1), exp(h(0, t)), exp(h(1, t)), rho_y * exp((h(0, t) + h(1, t)) / 2));
  vector<Type> phi(2);
  phi << phi0, phi1;
  ADREPORT(phi);
  ADREPORT(sigma);
  ADREPORT(rho_y);
  ADREPORT(rho_h);
  vector<Type> last_volatility(2);
  last_volatility << exp(h(0, n - 1) / 2), exp(h(1, n - 1) / 2);
  ADREPORT(last_volatility);
  return nll;
}
