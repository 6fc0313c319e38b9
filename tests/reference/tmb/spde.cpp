// Poisson counts with a Gaussian Matern field of smoothness 1 in the plane, by finite elements
// (Lindgren, Rue and Lindstrom 2011).
#include <TMB.hpp>

template <class Type>
Type objective_function<Type>::operator()() {
  DATA_VECTOR(y);
  DATA_VECTOR(x);
  DATA_SPARSE_MATRIX(A);   // places x vertices, barycentric weights
  DATA_SPARSE_MATRIX(C0);  // lumped mass
  DATA_SPARSE_MATRIX(G1);  // stiffness
  DATA_SPARSE_MATRIX(G2);  // G1 C0^-1 G1
  PARAMETER(beta0);
  PARAMETER(beta1);
  PARAMETER(log_tau);
  PARAMETER(log_kappa);
  PARAMETER_VECTOR(w);     // field at the vertices

  Type kappa2 = exp(2 * log_kappa);
  Eigen::SparseMatrix<Type> Q = exp(2 * log_tau) * (kappa2 * kappa2 * C0 + Type(2) * kappa2 * G1 + G2);
  Type nll = density::GMRF(Q)(w);
  vector<Type> field = A * w;
  Type mean_intensity = 0;
  for (int i = 0; i < y.size(); i++) {
    Type eta = beta0 + beta1 * x(i) + field(i);
    nll -= y(i) * eta - exp(eta) - lgamma(y(i) + 1);
    mean_intensity += exp(eta) / Type(y.size());
  }
  Type range = sqrt(Type(8)) * exp(-log_kappa);
  Type sd = exp(-log_tau - log_kappa) / sqrt(Type(4 * M_PI));
  ADREPORT(range);
  ADREPORT(sd);
  ADREPORT(mean_intensity);
  return nll;
}
