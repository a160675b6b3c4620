// When polynomials take the place of a routine's code, and of which shape they are.

#pragma once

#include "fitting.h"

namespace {

// When polynomials are fitted.
constexpr int64_t MANY = 1 << 13;        // elements from which on
constexpr int64_t MANY_MORE = 1 << 18;   // the same with parameters, which change
constexpr double LARGEST_FACTOR = 64;    // of parameters: beyond, features may be too narrow
constexpr float OTHERS[] = {1.25, 0.8};  // of initial parameters: for what the shape is chosen
constexpr double CAUTION = 0.8;          // share of the tolerance, when it is

// When they are used.
constexpr double WORTHWHILE = 1.1;  // of the time of the code, that they may take
constexpr double ANYWAY = 10;       // instructions that each result takes
constexpr double IN_ONE = 1.4, IN_TWO = 2;  // each coefficient, looked up in so many registers
constexpr double BREAKING = 7;      // each result, where pieces are no cells
constexpr double GRADING = 7;       // the same, where cells are graded
constexpr double SCALING = 5;       // each result of a scaled function
constexpr double APIECE = 350;      // instructions that fitting takes for each point and result
constexpr double TYPICAL = 1 << 20;  // elements of a call whose parameters are new
constexpr double GAIN = 2;          // how many times what fitting takes, that it has to spare
constexpr double SET_ASIDE = 1.5;   // how many times longer the code takes for elements set aside
constexpr double LITTLE = 2;        // instructions that no other shape is tried for
constexpr double MUCH = 0.1;        // share of numbers that another shape is tried for

// Instructions that a polynomial takes.
double cost_apiece(int degree, bool are_few, bool has_breaks, bool is_graded, bool is_scaled) {
  return ANYWAY + (are_few ? IN_ONE : IN_TWO) * (degree + 1) + BREAKING * has_breaks +
      GRADING * is_graded + SCALING * is_scaled;
}

// About how many instructions an element of a logistic distribution takes.
double cost_of(const Piecewise& pieces, double cost_of_code) {
  const double apiece = cost_apiece(
      pieces.degree, pieces.are_few(), pieces.has_breaks, pieces.is_graded, pieces.is_scaled);
  return pieces.results.size() * apiece + SET_ASIDE * (1 - pieces.share) * cost_of_code;
}

// Instructions an element of a routine's code; 0 where polynomials do not take its place.
double cost_of_code(const Kernel& kernel, Routine routine) {
  Fits& fits = kernel.fits[routine];
  if (fits.cost < 0) {
    fits.wide_cost = coster(kernel.id, routine, true);
    fits.cost = kernel.single[routine] ? coster(kernel.id, routine, false) : fits.wide_cost;
  }
  TORCH_CHECK(fits.cost >= 0, "the code of an activation could not be measured");
  return fits.cost;
}

// Polynomials at some parameters, and how many instructions, in all, fitting them takes.
struct Fit {
  std::shared_ptr<Piecewise> pieces;
  double instructions;
};

Fit of_shape(
    const Kernel& kernel, Routine routine, const std::vector<float>& parameters, int shape,
    double caution) {
  const int checks = parameters.empty() ? CHECKS : CHECKS_WITH_PARAMETERS;
  const Exact exact(kernel, routine, parameters);
  const auto pieces = Fitting(exact, SHAPES[shape], caution * TOLERANCE[routine])(checks);
  const double apiece = kernel.fits[routine].wide_cost + APIECE * exact.results();
  return {pieces, apiece * exact.points};
}

struct Choice {
  int shape;                          // its number
  double expected, again, share;      // instructions an element, those of fitting; as `Piecewise`
  std::shared_ptr<Piecewise> pieces;  // at the last parameters
};

// The shape whose polynomials are cheapest, on the average over some settings of the parameters,
// where what they take the place of has a cost.
Choice cheapest(
    const Kernel& kernel, Routine routine, const std::vector<std::vector<float>>& settings,
    double cost, int last) {
  const bool has_parameters = !settings[0].empty();
  const double part = 1.0 / settings.size();
  Choice best{};
  double least = std::numeric_limits<double>::infinity();
  for (int shape = 0; shape <= last; ++shape) {
    Choice found{shape};
    if (shape) {  // the next are no cheaper
      const Piecewise& pieces = *best.pieces;
      const Shape& next = SHAPES[shape];
      const bool are_few = next.cells < MOST_CELLS;
      const double at_least = pieces.results.size() *
          cost_apiece(next.degree, are_few, false, next.is_graded(), pieces.is_scaled);
      if (best.expected < at_least + LITTLE) break;
    }
    for (const auto& parameters : settings) {
      const Fit fit = of_shape(kernel, routine, parameters, shape, has_parameters ? CAUTION : 1);
      found.expected += part * cost_of(*fit.pieces, cost);
      found.again += part * fit.instructions;
      found.share += part * fit.pieces->share;
      found.pieces = fit.pieces;
    }
    const double in_all = found.expected + (has_parameters ? found.again / TYPICAL : 0);
    if (in_all < least) {
      least = in_all;
      best = found;
    }
  }
  return best;
}

// Keeps polynomials for calls with these parameters; none where the code is faster.
void keep(
    Fits& fits, const std::vector<float>& parameters, std::shared_ptr<const Piecewise> pieces,
    double cost_of_code) {
  const bool are_faster = cost_of(*pieces, cost_of_code) < WORTHWHILE * cost_of_code;
  fits.pieces = are_faster ? pieces : nullptr;
  fits.parameters = parameters;
  fits.are_known = true;
}

// The shape that suits parameters near the initial ones best, if it is not known yet.
void choose_shape(const Kernel& kernel, Routine routine) {
  Fits& fits = kernel.fits[routine];
  if (fits.shape >= 0) return;
  std::vector<std::vector<float>> settings;
  if (kernel.is_scaled || kernel.initial.empty()) {
    settings.emplace_back();
  } else {  // 1 may be special, as in beta*a + (1 - beta)*b
    for (float other : OTHERS) {
      settings.push_back(kernel.initial);
      for (float& parameter : settings.back()) parameter *= other;
    }
  }
  const double cost = cost_of_code(kernel, routine);
  const int last = kernel.is_scaled ? LAST_UNGRADED : LAST_SHAPE;
  const Choice choice = cheapest(kernel, routine, settings, cost, last);
  fits.share = choice.share;
  fits.expected = choice.expected;
  fits.again = choice.again;
  fits.shape = choice.shape;
  if (settings[0].empty()) keep(fits, {}, choice.pieces, cost);
}

// The polynomials of a routine at some parameters, of the shape that was chosen or, where that sets
// much aside, of the next finer one.
std::shared_ptr<const Piecewise> fitted(
    const Kernel& kernel, Routine routine, const std::vector<float>& parameters) {
  const Fits& fits = kernel.fits[routine];
  const auto pieces = of_shape(kernel, routine, parameters, fits.shape, 1).pieces;
  if (pieces->share < fits.share - MUCH)
    for (int next = fits.shape + 1; next <= LAST_SHAPE; ++next)
      if (SHAPES[next].is_finer_than(SHAPES[fits.shape]))
        return of_shape(kernel, routine, parameters, next, 1).pieces;
  return pieces;
}

// Those for a call, which has no parameters if the function is scaled; null where the code is faster.
std::shared_ptr<const Piecewise> polynomials(
    const Kernel& kernel, Routine routine, const std::vector<float>& parameters,
    int64_t elements) {
  if (!HAS_PIECES || kernel.inputs != 1 || routine == DOUBLE_BACKWARD ||
      elements < (parameters.empty() ? MANY : MANY_MORE))
    return nullptr;
  double factor = 1;  // by which parameters may narrow features together
  for (float parameter : parameters) factor *= std::max(1.0f, std::abs(parameter));
  if (!(factor <= LARGEST_FACTOR)) return nullptr;
  Fits& fits = kernel.fits[routine];
  std::lock_guard<std::mutex> guard(fits.lock);
  const double cost = cost_of_code(kernel, routine);
  if (cost == 0) return nullptr;
  choose_shape(kernel, routine);
  if (!parameters.empty() && elements * (cost - fits.expected) < GAIN * fits.again) return nullptr;
  const bool is_same = fits.are_known && fits.parameters.size() == parameters.size() &&
      !std::memcmp(fits.parameters.data(), parameters.data(), sizeof(float) * parameters.size());
  if (!is_same)  // 0 and -0 may differ
    keep(fits, parameters, fitted(kernel, routine, parameters), cost);
  return fits.pieces;
}

}  // namespace
