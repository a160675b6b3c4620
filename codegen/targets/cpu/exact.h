// What polynomials are fitted to: what a routine gives in float64 for one dy.

#pragma once

#include <atomic>
#include <cmath>
#include <vector>

#include "piecewise.h"

namespace {

constexpr double NEXT_TO_0 = 0x1p-60;  // stands for a 0 that a result would be divided by

// The results of a routine as functions of t: at fixed parameters of x itself; of a scaled function
// what is left of them without their powers of x or b.
class Exact {
 public:
  const bool is_scaled;
  std::vector<Powers> powers;  // of each result
  mutable std::atomic<int64_t> points = 0;  // that it was evaluated at

  Exact(const Kernel& kernel, Routine routine, const std::vector<float>& parameters)
      : is_scaled(kernel.is_scaled),
        powers(routine == FORWARD ? 1 : 1 + kernel.dimensions.size()),
        function(wide_function(kernel, routine)) {
    if (routine == BACKWARD) arguments.emplace_back(BLOCK, 1.0);
    place = arguments.size();
    arguments.emplace_back();
    for (float parameter : parameters) arguments.emplace_back(BLOCK, parameter);
    if (is_scaled) {
      arguments.emplace_back();
      for (int64_t k = 0; k < results(); ++k)
        powers[k] = powers_of(k, routine == FORWARD ? kernel.degree : kernel.degree + (k ? 1 : -1));
    }
  }

  int64_t results() const { return powers.size(); }

  // At n numbers t, a multiple of LANES; row after row.
  std::vector<double> operator()(const double* t, int64_t n) const {
    if (!is_scaled) return at(t, nullptr, n);
    std::vector<double> ones(n, 1.0), away(t, t + n);
    for (double& number : away)
      if (std::abs(number) < NEXT_TO_0) number = std::copysign(NEXT_TO_0, number);
    auto found = at(t, ones.data(), n);
    const auto divided = at(away.data(), ones.data(), n);
    for (int64_t k = 0; k < results(); ++k)
      if (powers[k].x)
        for (int64_t i = 0; i < n; ++i)
          found[k * n + i] = divided[k * n + i] / std::pow(away[i], powers[k].x);
    return found;
  }

  // At n numbers x, for as many b if the function is scaled: the results themselves.
  std::vector<double> at(const double* x, const double* b, int64_t n) const {
    std::vector<double> found(results() * n);
    const double* in[MOST];
    double* out[MOST];
    for (size_t k = 0; k < arguments.size(); ++k) in[k] = arguments[k].data();
    in[place] = x;
    if (is_scaled) in[place + 1] = b;
    for (int64_t k = 0; k < results(); ++k) out[k] = found.data() + k * n;
    function(n, in, out);
    points += n;
    return found;
  }

  // Whether what holds for other b holds for b = 0, too; the function may be undefined there.
  bool is_continuous() const {
    const std::vector<double> x(LANES, 0.7), zeros(LANES, 0.0);
    const auto found = at(x.data(), zeros.data(), LANES), rest = (*this)(zeros.data(), LANES);
    for (int64_t k = 0; k < results(); ++k) {
      const double expected = powers[k].of(0.7, 0) * rest[k * LANES];
      if (!(std::abs(found[k * LANES] - expected) <= 1e-9 * std::abs(expected))) return false;
    }
    return true;
  }

 private:
  const Function<double> function;
  std::vector<std::vector<double>> arguments;
  size_t place;  // of x among them

  // Those of a result of some degree: of x, unless what is left would have a pole at 0.
  Powers powers_of(int64_t result, int degree) const {
    if (degree <= 0) return {0, -degree};
    std::vector<double> t(LANES, 0x1p-20), ones(LANES, 1.0);
    t[1] = 0x1p-40;
    const auto found = at(t.data(), ones.data(), LANES);
    auto left = [&](int i) { return std::abs(found[result * LANES + i] / std::pow(t[i], degree)); };
    return left(1) <= 4 * left(0) ? Powers{degree, 0} : Powers{0, -degree};
  }
};

}  // namespace
