// One compartment, first-order absorption, a single oral dose; three log parameters vary between subjects.
#include <TMB.hpp>

template <class Type>
Type objective_function<Type>::operator()() {
  DATA_VECTOR(concentration);
  DATA_VECTOR(time);
  DATA_VECTOR(dose);       // per row, mg per kg of body weight
  DATA_IVECTOR(subject);   // per row, from 0
  PARAMETER(log_ka);
  PARAMETER(log_cl);
  PARAMETER(log_v);
  PARAMETER_VECTOR(log_sd);  // of ka, cl, v
  PARAMETER(log_sigma);
  PARAMETER_ARRAY(b);        // 3 x subjects

  vector<Type> sd = exp(log_sd);
  Type sigma = exp(log_sigma);
  Type nll = 0;
  for (int i = 0; i < b.cols(); i++)
    for (int k = 0; k < 3; k++) nll -= dnorm(b(k, i), Type(0), sd(k), true);
  for (int j = 0; j < concentration.size(); j++) {
    int i = subject(j);
    Type ka = exp(log_ka + b(0, i));
    Type cl = exp(log_cl + b(1, i));
    Type v = exp(log_v + b(2, i));
    Type ke = cl / v;
    Type mean = dose(j) * ka / (v * (ka - ke)) * (exp(-ke * time(j)) - exp(-ka * time(j)));
    nll -= dnorm(concentration(j), mean, sigma, true);
  }
  ADREPORT(sd);
  ADREPORT(sigma);
  Type half_life = log(Type(2)) * exp(log_v - log_cl);
  ADREPORT(half_life);
  Type half_life_first = log(Type(2)) * exp(log_v + b(2, 0) - log_cl - b(1, 0));
  ADREPORT(half_life_first);
  return nll;
}
