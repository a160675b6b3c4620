// Fitting of piecewise polynomials: to what a routine gives in float64, at the parameters of a call.
//
// The centre of a polynomial is a number at which the value is very nearly a float (Gal, "Computing
// elementary functions: a new approach for achieving high accuracy and good performance", 1986), so
// that little more than the last addition rounds. It is near the end with the smaller value where
// values differ much, because nothing cancels then, and 0 for a piece that begins there, because
// functions have roots at 0. Where no polynomial is accurate on a whole cell, it is cut where the
// accurate ones end, at a kink for example. What is used was measured; the rest is left to the code.

#pragma once

#include <ATen/Parallel.h>

#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "exact.h"

namespace {

constexpr double GRADED = 0;  // instead of a width: two cells in each octave
constexpr int LOWEST_OCTAVE = -5;  // of those

struct Shape {
  double width;  // of a cell
  int cells, degree;

  bool is_graded() const { return width == GRADED; }
  // Whether it holds narrower features than another.
  bool is_finer_than(const Shape& other) const {
    return width < other.width || (width == other.width && degree > other.degree);
  }
};
constexpr Shape SHAPES[] = {{1, 16, 6},     {1, 16, 8},     {0.5, 16, 8},    {1, 16, 10},
                            {0.5, 16, 10},  {0.5, 32, 8},   {0.25, 32, 8},   {0.5, 32, 10},
                            {0.25, 32, 10}, {GRADED, 32, 8}, {GRADED, 32, 10}};
constexpr int LAST_SHAPE = std::size(SHAPES) - 1;
constexpr int LAST_UNGRADED = LAST_SHAPE - 2;

// How they are found.
constexpr int POINTS = 96;         // of a piece: candidates for the centre, nodes, a first check
constexpr int CANDIDATES = 16;     // near either end, and near the middle
constexpr double APART = 0x1p-12;  // of a piece, from one to the next
constexpr double STEEP = 2;        // ratio of the values at the ends that makes the smaller count
constexpr double TINY = 0x1p-100;  // |x| that counts as 0 for centres
constexpr double BEHAVIOUR[] = {0x1p-40, 0x1p-16, 0x1p-15};  // of a piece: to find out about roots
constexpr int FITTED = 64;         // points that a polynomial with a root at 0 is fitted to
constexpr int HIGHEST_ORDER = 4;   // of such a root
constexpr int CUT_BELOW = 8;       // cells from 0, that may be two pieces, if they have one width
constexpr double CUT_ABOVE = 0.01;  // share of a logistic distribution in others that may be
constexpr double NEAR_END = 1 / 16.0;  // of a cell, for the first of them at least
constexpr double PARTS[] = {0, NEAR_END, 2 * NEAR_END, 4 * NEAR_END};  // of a cell, left out for it

// How they are checked.
constexpr double TOLERANCE[] = {2, 4};  // units in the last place of a value, of a gradient
constexpr double SHARE_AT_FIRST = 0.8, SHARE = 0.9;         // of it, that they may be off
constexpr double SHARE_AT_CUT = 0.6;  // the same, where the longest piece is looked for
constexpr double SHARE_OF_SCALED = 0.78;                    // the same, where a product rounds, too
constexpr int CHECKS = 8192, CHECKS_WITH_PARAMETERS = 256;  // numbers of a piece
constexpr int AT_ONCE = 1024;       // of them
constexpr int ENOUGH = 64;          // that tell how large a result is near a root
constexpr int OCTAVES = 29;         // towards 0, that are checked
constexpr double NEAR = 1 / 16.0;   // of a piece: |x| of its end, from which down they are
constexpr double GOLDEN = 0.6180339887498949;  // its multiples' fractions are spread evenly
constexpr size_t CLOSE = 3;         // points, within which a result that touches 0
constexpr double FALLEN = 0.25;     // has fallen to this
constexpr double RISEN = 0.3;       // or begins with this at most, after it has been 0
constexpr double TRUSTED = 0x1p-28;  // values near a root of which float64 gives all of a float

// A unit in the last place of a float of some size.
double unit(double size) {
  size = std::max(size, double(std::numeric_limits<float>::min()));
  uint64_t bits;
  std::memcpy(&bits, &size, 8);
  bits &= 0x7ff0000000000000;
  std::memcpy(&size, &bits, 8);
  return size * 0x1p-23;
}

// Floats in order as whole numbers.
int32_t rank(float number) {
  int32_t bits;
  std::memcpy(&bits, &number, 4);
  return bits < 0 ? INT32_MIN - bits : bits;
}
float of_rank(int32_t rank) {
  const int32_t bits = rank < 0 ? INT32_MIN - rank : rank;
  float number;
  std::memcpy(&number, &bits, 4);
  return number;
}

// The share of numbers below x in a logistic distribution, which stands for what is computed.
double below(double x) { return 1 / (1 + std::exp(-x)); }

// Coefficients, the lowest first, of the polynomial through count points.
void interpolate(int count, const double* x, double* y) {
  for (int k = 1; k < count; ++k)  // Newton's form
    for (int i = count - 1; i >= k; --i) y[i] = (y[i] - y[i - 1]) / (x[i] - x[i - k]);
  for (int k = count - 2; k >= 0; --k)
    for (int i = k; i < count - 1; ++i) y[i] -= x[k] * y[i + 1];
}

// The z with the least |columns*z - target|, by Householder reflections; both are overwritten.
std::vector<double> least_squares(
    std::vector<std::array<double, FITTED>>& columns, std::array<double, FITTED>& target) {
  const int count = columns.size();
  std::vector<double> diagonal(count), found(count);
  for (int k = 0; k < count; ++k) {
    auto& v = columns[k];
    double norm = 0;
    for (int i = k; i < FITTED; ++i) norm += v[i] * v[i];
    diagonal[k] = v[k] > 0 ? -std::sqrt(norm) : std::sqrt(norm);
    const double scale = diagonal[k] * (diagonal[k] - v[k]);  // half of |v|^2
    v[k] -= diagonal[k];
    auto reflect = [&](std::array<double, FITTED>& w) {
      double product = 0;
      for (int i = k; i < FITTED; ++i) product += v[i] * w[i];
      for (int i = k; i < FITTED; ++i) w[i] -= product / scale * v[i];
    };
    for (int j = k + 1; j < count; ++j) reflect(columns[j]);
    reflect(target);
  }
  for (int k = count - 1; k >= 0; --k) {
    double rest = target[k];
    for (int j = k + 1; j < count; ++j) rest -= columns[j][k] * found[j];
    found[k] = rest / diagonal[k];
  }
  return found;
}

struct Polynomial {
  int order = 1;  // of its root at the centre; each power beyond the first rounds once more
  float centre = 0;
  float coefficients[HIGHEST + 1] = {};  // the lowest first
};

// [low, high), and a polynomial for each result.
struct Piece {
  float low, high;
  std::vector<Polynomial> results;
  bool is_accurate = true;

  double share() const { return is_accurate ? below(high) - below(low) : 0; }
  bool is_undefined() const {
    return is_accurate && std::all_of(results.begin(), results.end(), [](const Polynomial& result) {
      return std::isnan(result.coefficients[0]);
    });
  }
};

// A cell: one piece, or two.
struct Cell {
  std::vector<Piece> pieces;

  double share() const {
    double sum = 0;
    for (const Piece& piece : pieces) sum += piece.share();
    return sum;
  }
};

class Fitting {
 public:
  Fitting(const Exact& exact, const Shape& shape, double tolerance)
      : exact(exact), shape(shape), tolerance(tolerance) {}

  std::shared_ptr<Piecewise> operator()(int checks) {
    std::vector<Sampled> sampled;
    for (int k = 0; k < shape.cells; ++k) sampled.push_back(sample(low_of(k), high_of(k)));
    find_roots(sampled);
    std::vector<Cell> cells(shape.cells);
    each_cell([&](int k) {
      cells[k].pieces = {fit(low_of(k), high_of(k), sampled[k])};
      if (!cells[k].pieces[0].is_accurate && may_be_cut(k)) cells[k] = cut(k);
    });
    std::vector<int> order(shape.cells);  // those with most numbers first
    std::iota(order.begin(), order.end(), 0);
    std::vector<double> shares(shape.cells);
    for (int k = 0; k < shape.cells; ++k) shares[k] = cells[k].share();
    std::stable_sort(
        order.begin(), order.end(), [&](int a, int b) { return shares[a] > shares[b]; });
    auto pieces = assembled(cells, order);
    check(*pieces, cells, checks);
    pieces->share = 0;
    for (const Cell& cell : cells) pieces->share += cell.share();
    return pieces;
  }

 private:
  struct Sampled {
    std::array<double, POINTS> x;
    std::vector<double> y;
  };

  const Exact& exact;
  const Shape shape;
  const double tolerance;
  std::vector<std::vector<double>> roots;  // of each result; not those at 0

  int half() const { return shape.cells / 2; }  // of the cells are on either side of 0

  template <typename F>
  void each_cell(F f) const {
    std::atomic<int> next = 0;  // those near 0 take longest
    at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
      for (int k; (k = next++) < shape.cells;) f(k);
    });
  }

  // Where a cell begins and ends; it has its first number, and not its last.
  float low_of(int cell) const {
    if (!shape.is_graded()) return (cell - half()) * shape.width;
    return cell < half() ? after(-edge(half() - cell)) : edge(cell - half());
  }
  float high_of(int cell) const {
    if (!shape.is_graded()) return low_of(cell + 1);
    return cell < half() ? after(-edge(half() - 1 - cell)) : edge(cell + 1 - half());
  }
  static float edge(int half_octave) {
    return std::ldexp(half_octave % 2 ? 1.5f : 1.0f, LOWEST_OCTAVE + half_octave / 2);
  }
  static float after(float number) { return of_rank(rank(number) + 1); }
  // As `Piecewise` numbers it.
  int number_of(int cell) const {
    if (!shape.is_graded()) return (cell + half()) % shape.cells;
    const bool is_negative = cell < half();
    const int half_octave = is_negative ? half() - 1 - cell : cell - half();
    return (2 * (127 + LOWEST_OCTAVE) + half_octave) % half() + is_negative * half();
  }
  bool may_be_cut(int cell) const {
    if (shape.is_graded()) return below(high_of(cell)) - below(low_of(cell)) > CUT_ABOVE;
    return std::max(cell - half(), half() - 1 - cell) < CUT_BELOW;
  }
  int first_check() const { return 3 * CANDIDATES + shape.degree; }

  // Chebyshev's, between 0 and 1.
  static double node(int i, int count) { return 0.5 - 0.5 * std::cos(M_PI * (i + 0.5) / count); }

  Sampled sample(float low, float high) const {
    Sampled found;
    const double width = double(high) - low;
    double* x = found.x.data();
    for (int i = 0; i < CANDIDATES; ++i) {
      x[i] = float(low + width * APART * i);
      x[CANDIDATES + i] = float(low + width * (0.5 + APART * (i - CANDIDATES / 2)));
      x[2 * CANDIDATES + i] = float(high - width * APART * (i + 1));
    }
    for (int i = 0; i < shape.degree; ++i)
      x[3 * CANDIDATES + i] = low + width * node(i, shape.degree);
    const float last = of_rank(rank(high) - 1);
    for (int i = first_check(); i < POINTS; ++i)
      x[i] = std::min(float(low + width * (i - first_check()) / (POINTS - 1 - first_check())), last);
    found.y = exact(x, POINTS);
    return found;
  }

  // Near the end that is nearer to 0: how a function behaves there, numbers to be checked, and those
  // to be fitted to.
  Sampled sample_near_0(float low, float high) const {
    Sampled found;
    const bool rises = std::abs(low) < std::abs(high);
    const double end = rises ? low : high, width = rises ? double(high) - low : double(low) - high;
    const float last = of_rank(rank(high) - 1);
    double* x = found.x.data();
    for (int i = 0; i < 3; ++i) x[i] = end + width * BEHAVIOUR[i];
    for (int i = 1; i <= OCTAVES; ++i)
      x[2 + i] = std::min(float(end + std::ldexp(width, -i)), last);
    for (int i = 0; i < FITTED; ++i) x[3 + OCTAVES + i] = end + width * node(i, FITTED);
    static_assert(3 + OCTAVES + FITTED == POINTS);
    found.y = exact(x, POINTS);
    return found;
  }

  // Where each result changes its sign, touches 0, or rises from it.
  void find_roots(const std::vector<Sampled>& cells) {
    roots.assign(exact.results(), {});
    for (int64_t k = 0; k < exact.results(); ++k) {
      std::vector<double> x, y;
      for (int cell = 0; cell < shape.cells; ++cell) {
        if (shape.is_graded() && cell == half()) {  // what lies between is not known
          x.push_back(0);
          y.push_back(std::numeric_limits<double>::quiet_NaN());
        }
        for (int i = first_check(); i < POINTS; ++i) {
          x.push_back(cells[cell].x[i]);
          y.push_back(cells[cell].y[k * POINTS + i]);
        }
      }
      double last = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        if (y[i] * last < 0 || rises_from_0(y, i) || touches_0(y, i)) roots[k].push_back(x[i]);
        if (y[i] != 0) last = y[i];
      }
    }
  }

  // After it has stayed 0. A step is no root, nor is what float64 has no smaller numbers for.
  static bool rises_from_0(const std::vector<double>& y, size_t at) {
    auto rises = [&](size_t first, size_t beyond) {
      const double size = std::abs(y[first]);
      return size >= std::numeric_limits<float>::min() && size <= RISEN * std::abs(y[beyond]);
    };
    if (at <= CLOSE || at + CLOSE >= y.size()) return false;
    if (y[at - 1] == 0) return rises(at, at + CLOSE);
    return y[at] == 0 && rises(at - 1, at - 1 - CLOSE);
  }

  static bool touches_0(const std::vector<double>& y, size_t at) {
    if (at < CLOSE || at + CLOSE >= y.size()) return false;
    const double size = std::abs(y[at]);
    for (size_t i = at - CLOSE; i <= at + CLOSE; ++i)
      if (!(size <= std::abs(y[i]))) return false;
    return size < FALLEN * std::min(std::abs(y[at - CLOSE]), std::abs(y[at + CLOSE]));
  }

  static bool is_within_octave(double a, double b) {
    return a * b > 0 && std::abs(a) <= 2 * std::abs(b) && std::abs(b) <= 2 * std::abs(a);
  }

  // About the largest result within an octave of x, of those of a piece, if there is a root so
  // near. More than a few numbers are in ascending order.
  double size_near_root(
      int64_t result, double x, const double* numbers, const double* y, int count) const {
    double found = 0;
    if (std::none_of(roots[result].begin(), roots[result].end(), [&](double root) {
          return is_within_octave(root, x);
        }))
      return found;
    int first = 0, last = count;
    if (count > ENOUGH) {
      first = std::lower_bound(numbers, numbers + count, std::min(x / 2, 2 * x)) - numbers;
      last = std::upper_bound(numbers, numbers + count, std::max(x / 2, 2 * x)) - numbers;
    }
    for (int i = first; i < last; i += 1 + (last - first) / ENOUGH)
      if (is_within_octave(numbers[i], x) && std::isfinite(y[i]))
        found = std::max(found, std::abs(y[i]));
    return found;
  }

  Piece fit(float low, float high, const Sampled& sampled, double share = SHARE_AT_FIRST) const {
    Piece piece{low, high, std::vector<Polynomial>(exact.results())};
    const bool is_single = rank(high) - rank(low) == 1;
    const double nearest = std::min(std::abs(low), std::abs(high));
    const bool is_at_0 = !is_single && nearest < TINY;
    const bool is_near_0 = !is_single && nearest < NEAR * (double(high) - low);
    const Sampled near_0 = is_near_0 ? sample_near_0(low, high) : Sampled();
    for (int64_t k = 0; k < exact.results() && piece.is_accurate; ++k) {
      Polynomial& polynomial = piece.results[k];
      const double* y = sampled.y.data() + k * POINTS;
      const double* near = is_near_0 ? near_0.y.data() + k * POINTS : nullptr;
      if (is_single || std::all_of(y, y + POINTS, [](double value) { return std::isnan(value); })) {
        polynomial.centre = low;
        polynomial.coefficients[0] = float(y[0]);
      } else if (is_at_0) {
        fit_at_0(polynomial, sampled.x.data(), y, near_0.x.data(), near);
      } else {
        fit_around_centre(polynomial, sampled.x.data(), y);
      }
      if (is_near_0) {
        const bool has_root = is_at_0 && polynomial.coefficients[0] == 0;
        piece.is_accurate = is_within(
            polynomial, k, near_0.x.data() + 3, near + 3, OCTAVES, has_root ? TRUSTED : 0, share);
      }
      const int checks = is_single ? 1 : POINTS - first_check();
      piece.is_accurate = piece.is_accurate &&
          is_within(
              polynomial, k, sampled.x.data() + first_check(), y + first_check(), checks, 0, share);
    }
    return piece;
  }

  static double largest(const double* y, int count) {
    double found = 0;
    for (int i = 0; i < count; ++i)
      if (std::isfinite(y[i])) found = std::max(found, std::abs(y[i]));
    return found;
  }

  void fit_around_centre(Polynomial& polynomial, const double* x, const double* y) const {
    const double first = std::abs(y[0]), last = std::abs(y[2 * CANDIDATES]);
    const bool is_steep = std::max(first, last) > STEEP * std::min(first, last);
    const int from = !is_steep ? CANDIDATES : first < last ? 0 : 2 * CANDIDATES;
    int best = from;
    double least = std::numeric_limits<double>::infinity();
    for (int i = from; i < from + CANDIDATES; ++i) {
      const double off = std::abs(y[i] - float(y[i])) / unit(std::abs(y[i]));
      if (off < least) {
        best = i;
        least = off;
      }
    }
    interpolate_around(polynomial, x[best], y[best], x, y);
  }

  // c0 + c1*r + ... through the nodes, c0 being near the value at the centre.
  void interpolate_around(
      Polynomial& polynomial, double centre, double value, const double* x, const double* y) const {
    polynomial.centre = float(centre);
    polynomial.coefficients[0] = value == 0 ? -0.0f : float(value);  // -0 + a zero is that zero
    const int first = 3 * CANDIDATES;
    double r[HIGHEST], rest[HIGHEST];
    for (int i = 0; i < shape.degree; ++i) {
      r[i] = x[first + i] - polynomial.centre;
      rest[i] = (y[first + i] - polynomial.coefficients[0]) / r[i];
    }
    interpolate(shape.degree, r, rest);
    bool is_constant = true;
    for (int i = 0; i < shape.degree; ++i) {
      polynomial.coefficients[i + 1] = float(rest[i]);
      is_constant &= polynomial.coefficients[i + 1] == 0;
    }
    if (is_constant) polynomial.coefficients[0] = float(value);
  }

  void fit_at_0(
      Polynomial& polynomial, const double* x, const double* y, const double* near_x,
      const double* near_y) const {
    const double size = largest(y + first_check(), POINTS - first_check());
    if (!(std::abs(near_y[0]) <= 0x1p-30 * size))
      return interpolate_around(polynomial, 0, near_y[0], x, y);
    const double ratio = near_y[2] / near_y[1];
    const double order = ratio > 1 ? std::round(std::log2(ratio)) : 1;
    fit_root(
        polynomial, std::min(std::max(int(order), 1), HIGHEST_ORDER), near_x + 3 + OCTAVES,
        near_y + 3 + OCTAVES);
  }

  // With the least squares of relative errors. The lowest coefficient is rounded, and the others
  // make up for that.
  void fit_root(Polynomial& polynomial, int order, const double* x, const double* y) const {
    polynomial = {order};
    polynomial.coefficients[0] = -0.0f;
    const double width = x[FITTED - 1];
    double lowest = 0;
    for (int from : {order, order + 1}) {
      std::vector<std::array<double, FITTED>> columns(shape.degree + 1 - from);
      std::array<double, FITTED> target;
      for (int i = 0; i < FITTED; ++i) {
        if (y[i] == 0) return;
        target[i] = 1 - lowest * std::pow(x[i], order) / y[i];
        double power = std::pow(x[i] / width, from) / y[i];
        for (auto& column : columns) {
          column[i] = power;
          power *= x[i] / width;
        }
      }
      const auto found = least_squares(columns, target);
      for (size_t k = 0; k < found.size(); ++k)
        polynomial.coefficients[from + k] = float(found[k] / std::pow(width, from + k));
      lowest = polynomial.coefficients[order];
    }
  }

  float value(const Polynomial& polynomial, float x) const {
    const float r = x - polynomial.centre;
    float found = polynomial.coefficients[shape.degree];
    for (int i = shape.degree - 1; i >= 0; --i)
      found = std::fma(found, r, polynomial.coefficients[i]);
    return found;
  }

  // At all of some numbers of a piece; near a root errors are relative to the largest value there.
  bool is_within(
      const Polynomial& polynomial, int64_t result, const double* x, const double* exact, int count,
      double least, double share) const {
    for (int i = 0; i < count; ++i) {
      const float found = value(polynomial, float(x[i]));
      if (is_within(found, exact[i], least, share, polynomial.order)) continue;
      const double size = size_near_root(result, x[i], x, exact, count);
      if (!is_within(found, exact[i], size, share, polynomial.order)) return false;
    }
    return true;
  }

  // Without branches, so that loops are vectorised.
  bool is_within(float value, double exact, double size, double share, int order) const {
    const bool is_equal = (value == float(exact)) | (std::isnan(value) & std::isnan(exact));
    const double allowed =
        (share * tolerance + 0.5 * (order - 1)) * unit(std::max(size, std::abs(exact)));
    return is_equal | (std::isfinite(exact) & (std::abs(value - exact) <= allowed));
  }

  // At all of some numbers, none of them near a root.
  bool are_within(
      const float* values, const double* exact, int count, double share, int order) const {
    int failures = 0;
    for (int i = 0; i < count; ++i) failures += !is_within(values[i], exact[i], 0, share, order);
    return !failures;
  }

  // A cell in two: halves, or cut where accurate polynomials from its lower end do, or near that end.
  Cell cut(int k) const {
    const float low = low_of(k), high = high_of(k), width = high - low, middle = low + 0.5f * width;
    auto fitted = [&](float from, float to, double share = SHARE_AT_FIRST) {
      return fit(from, to, sample(from, to), share);
    };
    Piece first = fitted(low, middle), second = fitted(middle, high);
    if (first.is_accurate && second.is_accurate) return {{first, second}};
    int32_t accurate = rank(first.is_accurate ? middle : float(low + NEAR_END * width));
    int32_t inaccurate = rank(first.is_accurate ? high : middle);
    if (!first.is_accurate) first = fitted(low, of_rank(accurate));
    if (first.is_accurate) {
      while (inaccurate - accurate > 1) {
        const int32_t between = accurate + (inaccurate - accurate) / 2;
        Piece next = fitted(low, of_rank(between), SHARE_AT_CUT);
        (next.is_accurate ? accurate : inaccurate) = between;
        if (next.is_accurate) first = std::move(next);
      }
      Piece rest = fitted(first.high, high);
      if (rest.is_accurate || !second.is_accurate) return {{first, rest}};
    }
    if (!second.is_accurate) return {{Piece{low, high, {}, false}}};
    for (double part : PARTS) {
      const float at = std::max(float(low + part * width), of_rank(rank(low) + 1));
      if (Piece rest = fitted(at, high); rest.is_accurate)
        return {{part ? Piece{low, at, {}, false} : fitted(low, at), rest}};
    }
    return {{Piece{low, middle, {}, false}, second}};
  }

  std::shared_ptr<Piecewise> assembled(std::vector<Cell>& cells, const std::vector<int>& order) {
    auto pieces = std::make_shared<Piecewise>();
    pieces->is_graded = shape.is_graded();
    pieces->per_unit = shape.is_graded() ? 0 : 1 / shape.width;
    pieces->limit = shape.is_graded() ? edge(half()) : half() * shape.width;
    pieces->least = shape.is_graded() ? edge(0) : 0;
    pieces->is_scaled = exact.is_scaled;
    pieces->is_continuous = exact.is_scaled && exact.is_continuous();
    pieces->cells = shape.cells;
    pieces->degree = shape.degree;
    pieces->absent = ~0u;
    pieces->results.resize(exact.results());
    for (int64_t k = 0; k < exact.results(); ++k) pieces->results[k].powers = exact.powers[k];
    pieces->has_breaks = std::any_of(cells.begin(), cells.end(), [](const Cell& cell) {
      return cell.pieces.size() > 1;
    });
    int next = 0, undefined = -1;  // the number of the piece of all cells without values
    for (int k : order) {
      Cell& cell = cells[k];
      const int number = number_of(k), count = cell.pieces.size();
      const bool is_undefined = count == 1 && cell.pieces[0].is_undefined();
      int first = pieces->has_breaks ? next : number;
      if (pieces->has_breaks && is_undefined && undefined >= 0) {
        first = undefined;
      } else if (pieces->has_breaks && (!cell.share() || next + count >= MOST_CELLS)) {
        for (Piece& piece : cell.pieces) piece.is_accurate = false;
        first = MOST_CELLS - 1;  // is absent
      } else {
        if (is_undefined) undefined = first;
        next += count;
        for (int i = 0; i < count; ++i) enter(*pieces, first + i, cell.pieces[i]);
      }
      pieces->first[number] = first;
      pieces->breaks[number] = count > 1 && first < MOST_CELLS - 1
          ? cell.pieces[1].low
          : std::numeric_limits<float>::infinity();
    }
    for (int k = shape.cells; k < MOST_CELLS; ++k) {  // where the last five bits tell more
      pieces->first[k] = pieces->first[k - shape.cells];
      pieces->breaks[k] = pieces->breaks[k - shape.cells];
    }
    return pieces;
  }

  void enter(Piecewise& pieces, int number, const Piece& piece) const {
    if (!piece.is_accurate) return;
    pieces.absent &= ~(1u << number);
    for (int64_t k = 0; k < exact.results(); ++k) {
      pieces.results[k].centres[number] = piece.results[k].centre;
      for (int i = 0; i <= shape.degree; ++i)
        pieces.results[k].coefficients[shape.degree - i][number] =
            piece.results[k].coefficients[i];
    }
  }

  // Take back what is not accurate at many more numbers, computed as it will be.
  void check(Piecewise& pieces, std::vector<Cell>& cells, int checks) const {
    std::vector<uint32_t> refused(shape.cells);
    each_cell([&](int k) {
      const int number = pieces.first[number_of(k)];
      for (size_t i = 0; i < cells[k].pieces.size(); ++i) {
        Piece& piece = cells[k].pieces[i];
        if (piece.is_accurate && !holds(pieces, piece, checks)) {
          piece.is_accurate = false;
          refused[k] |= 1u << (number + i);
        }
      }
    });
    for (uint32_t bits : refused) pieces.absent |= bits;
  }

  bool holds(const Piecewise& pieces, const Piece& piece, int checks) const {
    const int turns = (checks + AT_ONCE - 1) / AT_ONCE;
    for (int turn = 0; turn < turns; ++turn)
      if (!holds(pieces, piece, checks / turns, double(turn) / turns)) return false;
    return true;
  }

  // The same at some of them, which lie between the others.
  bool holds(const Piecewise& pieces, const Piece& piece, int checks, double offset) const {
    float x[AT_ONCE], b[AT_ONCE];
    double wide_x[AT_ONCE], wide_b[AT_ONCE], t[AT_ONCE];
    const double width = double(piece.high) - piece.low;
    const float last = of_rank(rank(piece.high) - 1);
    for (int i = 0; i < checks; ++i) {
      t[i] = std::min(float(piece.low + width * (i + offset) / (checks - 1)), last);
      b[i] = exact.is_scaled ? std::copysign(1 + std::fmod(i * GOLDEN, 1), i % 2 - 0.5) : 1;
      x[i] = float(t[i] / b[i]);
      if (const float product = x[i] * b[i]; product < piece.low || product >= piece.high) {
        b[i] = 1;
        x[i] = t[i];
      }
    }
    if (piece.low == 0 && offset == 0) {
      x[1] = -0.0f;
      t[1] = 0;
    }
    std::copy(x, x + checks, wide_x);
    std::copy(b, b + checks, wide_b);
    const auto right_rows = exact.at(wide_x, wide_b, checks);
    const std::vector<float> ones(checks, 1.0f);
    std::vector<float> found(exact.results() * checks);
    std::vector<float*> rows;
    for (int64_t k = 0; k < exact.results(); ++k) rows.push_back(found.data() + k * checks);
    const float* dy = exact.results() > 1 ? ones.data() : nullptr;
    Evaluator<float>(pieces, dy, false)({dy, x, b}, rows.data(), checks, nullptr);
    for (int64_t k = 0; k < exact.results(); ++k) {
      const double* right = right_rows.data() + k * checks;
      const float* y = rows[k];
      const double share = exact.is_scaled ? SHARE_OF_SCALED : SHARE;
      const int order = piece.results[k].order;
      if (are_within(y, right, checks, share, order)) continue;
      double factors[AT_ONCE], sizes[AT_ONCE];  // of the function of t
      for (int i = 0; i < checks; ++i) {
        factors[i] = exact.is_scaled ? std::abs(exact.powers[k].of(wide_x[i], wide_b[i])) : 1;
        sizes[i] = std::abs(right[i]) / factors[i];
      }
      for (int i = 0; i < checks; ++i) {
        if (is_within(y[i], right[i], 0, share, order)) continue;
        const double size = factors[i] * size_near_root(k, t[i], t, sizes, checks);
        if (!is_within(y[i], right[i], size, share, order)) return false;
      }
    }
    return true;
  }
};

}  // namespace
