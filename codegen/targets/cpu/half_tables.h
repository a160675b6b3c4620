// Tables for half types: an activation of one input and no parameters has 65,536 values, and as many
// slopes. They are computed in float64 and rounded once, so that values are correctly rounded. Where
// many elements are computed, polynomials take their place that were compared with them at all of
// these numbers, if they take less time than to look an element up.

#pragma once

#include <chrono>

#include "call.h"

namespace {

constexpr int64_t ALL = 1 << 16;     // numbers of a half type
constexpr double LOOKING_UP = 45;    // an element: instructions that take as long
constexpr double NEARLY = 1 / 16.0;  // unit in the last place of a half type, that slopes may be off
constexpr double LARGE = 8;          // float32 units of the largest slope of a piece, that they may
constexpr double MOST_OF = 0.9;      // a logistic distribution: polynomials are used from there on
constexpr int QUANTILES = 1000;      // of it, that are looked at
constexpr float SMALL = 0x1p-6;      // |x| below which the other numbers of a piece may do
constexpr int TIMED = 16;            // calls of which the quickest counts

// To the nearest float, but towards the odd one of two neighbours: rounding again is then correct.
float to_odd(double exact) {
  float found = static_cast<float>(exact);
  if (static_cast<double>(found) == exact || exact != exact) return found;
  uint32_t bits;
  std::memcpy(&bits, &found, 4);
  if (std::abs(static_cast<double>(found)) > std::abs(exact)) --bits;
  bits |= 1;
  std::memcpy(&found, &bits, 4);
  return found;
}

std::vector<double> evaluated(Function<double> function, const std::vector<const double*>& in) {
  std::vector<double> found(ALL);
  std::vector<const double*> here(in.size());
  for (int64_t begin = 0; begin < ALL; begin += BLOCK) {
    for (size_t k = 0; k < in.size(); ++k) here[k] = in[k] + begin;
    double* out[1] = {found.data() + begin};
    function(BLOCK, here.data(), out);
  }
  return found;
}

template <typename S>
std::vector<double> all_numbers() {
  std::vector<double> numbers(ALL);
  for (int64_t i = 0; i < ALL; ++i) {
    S number;
    number.x = static_cast<uint16_t>(i);
    numbers[i] = static_cast<float>(number);
  }
  return numbers;
}

// What is made when it is first needed and kept as long as the process lives.
template <typename T, typename Make>
const T* made_once(std::atomic<const T*>& place, Make make) {
  static std::mutex making;
  if (!place) {
    std::lock_guard<std::mutex> guard(making);
    if (!place) place = make();
  }
  return place;
}

// The table of a routine.
template <typename S, typename T, typename Make>
const T* table(const Kernel& kernel, Routine routine, Make make) {
  auto& place = kernel.tables[routine][std::is_same_v<S, at::BFloat16>];
  return static_cast<const T*>(made_once(place, make));
}

template <typename S>
const S* values(const Kernel& kernel) {
  return table<S, S>(kernel, FORWARD, [&] {
    const auto numbers = all_numbers<S>();
    const auto exact = evaluated(wide_function(kernel, FORWARD), {numbers.data()});
    S* found = new S[ALL];
    for (int64_t i = 0; i < ALL; ++i) found[i] = S(to_odd(exact[i]));
    return found;
  });
}

template <typename S>
const float* slopes(const Kernel& kernel) {
  return table<S, float>(kernel, BACKWARD, [&] {
    const auto numbers = all_numbers<S>();
    const std::vector<double> ones(ALL, 1.0);
    const auto exact = evaluated(wide_function(kernel, BACKWARD), {ones.data(), numbers.data()});
    float* found = new float[ALL];
    for (int64_t i = 0; i < ALL; ++i) found[i] = static_cast<float>(exact[i]);
    return found;
  });
}

// Whether tables take the place of a kernel's routine for half types.
bool is_tabulated(const Kernel& kernel, Routine routine) {
  return kernel.inputs == 1 && kernel.dimensions.empty() && routine != DOUBLE_BACKWARD;
}

// The share of a logistic distribution that is not set aside.
template <typename S>
double share_of(const Piecewise& pieces) {
  int held = 0;
  for (int k = 0; k < QUANTILES; ++k) {
    const double below = (k + 0.5) / QUANTILES;
    const float x = static_cast<float>(S(static_cast<float>(std::log(below / (1 - below)))));
    held += pieces.has(x);
  }
  return double(held) / QUANTILES;
}

// Whether a polynomial gives the same as the table: that value, or nearly that slope.
template <typename S>
bool is_same(float found, S right, float) {
  return S(found).x == right.x || (std::isnan(found) && std::isnan(float(right)));
}
template <typename S>
bool is_same(float found, float right, float largest) {
  const double apart = std::is_same_v<S, at::BFloat16> ? 0x1p16 : 0x1p13;  // in floats
  const double allowed = std::max(NEARLY * apart * unit(std::abs(right)), LARGE * unit(largest));
  return found == right || (std::isnan(found) && std::isnan(right)) ||
      std::abs(found - right) <= allowed;
}

// Polynomials without the pieces where any number of the type gives something else than its table; or
// without the numbers near 0, where those are the only ones.
template <typename S, typename Entry>
Piecewise* checked(const Kernel& kernel, Routine routine, const Entry* right) {
  auto pieces = cheapest(kernel, routine, {std::vector<float>()}, LOOKING_UP, LAST_SHAPE).pieces;
  const auto numbers = all_numbers<S>();
  const std::vector<float> x(numbers.begin(), numbers.end()), dy(ALL, 1.0f);
  std::vector<float> y(ALL);
  const Evaluator<float> evaluate(*pieces, routine == BACKWARD, false);
  for (int64_t begin = 0; begin < ALL; begin += BLOCK) {
    float* const row = y.data() + begin;
    evaluate({dy.data(), x.data() + begin, nullptr}, &row, BLOCK, nullptr);
  }
  float largest[MOST_CELLS] = {};
  for (int64_t i = 0; i < ALL; ++i)
    if (pieces->has(x[i]) && std::isfinite(float(right[i]))) {
      float& most = largest[pieces->piece_of(x[i])];
      most = std::max(most, std::abs(float(right[i])));
    }
  for (int64_t i = 0; i < ALL; ++i) {
    if (!pieces->has(x[i])) continue;
    const int piece = pieces->piece_of(x[i]);
    if (is_same<S>(y[i], right[i], largest[piece])) continue;
    if (std::abs(x[i]) < SMALL)
      pieces->least = std::nextafter(std::abs(x[i]), SMALL);
    else
      pieces->absent |= 1u << piece;
  }
  pieces->share = share_of<S>(*pieces);
  return new Piecewise(*pieces);
}

// y = values[x], and y *= slopes[x]. What is looked up is inserted into vectors: that takes one
// instruction an element, and a narrow store for each of them longer.
template <typename S>
void look_up_values(const S* values, const S* x, S* y, int64_t n) {
  int64_t i = 0;
#ifdef __SSE4_1__
  for (; i + 8 <= n; i += 8) {
    uint64_t four[2];
    std::memcpy(four, x + i, 16);
    __m128i found = _mm_setzero_si128();
    found = _mm_insert_epi16(found, values[four[0] & 0xffff].x, 0);
    found = _mm_insert_epi16(found, values[four[0] >> 16 & 0xffff].x, 1);
    found = _mm_insert_epi16(found, values[four[0] >> 32 & 0xffff].x, 2);
    found = _mm_insert_epi16(found, values[four[0] >> 48].x, 3);
    found = _mm_insert_epi16(found, values[four[1] & 0xffff].x, 4);
    found = _mm_insert_epi16(found, values[four[1] >> 16 & 0xffff].x, 5);
    found = _mm_insert_epi16(found, values[four[1] >> 32 & 0xffff].x, 6);
    found = _mm_insert_epi16(found, values[four[1] >> 48].x, 7);
    _mm_storeu_si128((__m128i*)(y + i), found);
  }
#endif
  for (; i < n; ++i) y[i] = values[x[i].x];
}
template <typename S>
void multiply_by_slopes(const float* slopes, const S* x, float* y, int64_t n) {
  int64_t i = 0;
#ifdef __SSE4_1__
  for (; i + 4 <= n; i += 4) {
    uint64_t four;
    std::memcpy(&four, x + i, 8);
    auto slope = [&](uint64_t number) { return _mm_load_ss(slopes + number); };
    __m128 found = slope(four & 0xffff);
    found = _mm_insert_ps(found, slope(four >> 16 & 0xffff), 0x10);
    found = _mm_insert_ps(found, slope(four >> 32 & 0xffff), 0x20);
    found = _mm_insert_ps(found, slope(four >> 48), 0x30);
    _mm_storeu_ps(y + i, _mm_mul_ps(_mm_loadu_ps(y + i), found));
  }
#endif
  for (; i < n; ++i) y[i] *= slopes[x[i].x];
}

// The least seconds of a few calls.
template <typename F>
double seconds(F f) {
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < TIMED; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    least = std::min(least, taken.count());
  }
  return least;
}

// Whether polynomials give values faster than a table does, on this processor: they give the same.
template <typename S>
bool are_faster(const Piecewise& pieces, const S* values) {
  alignas(64) S x[BLOCK], y[BLOCK];
  S* const out = y;
  for (int64_t i = 0; i < BLOCK; ++i) {  // a logistic distribution, in no order
    const double below = std::fmod((i + 1) * GOLDEN, 1.0);
    const float number = static_cast<float>(std::log(below / (1 - below)));
    x[i] = S(pieces.has(number) ? number : 0.5f);
  }
  const Elements<S> elements{nullptr, x, nullptr};
  const Evaluator<S> evaluate(pieces, false, false);
  return seconds([&] { evaluate(elements, &out, BLOCK, nullptr); }) <
      seconds([&] { look_up_values(values, x, y, BLOCK); });
}

// Those for so many elements; null where looking them up is faster.
template <typename S>
const Piecewise* polynomials_of_halves(const Kernel& kernel, Routine routine, int64_t elements) {
  if (!HAS_PIECES || elements < MANY) return nullptr;
  auto& place = kernel.checked[routine][std::is_same_v<S, at::BFloat16>];
  const Piecewise* found = made_once(place, [&]() -> const Piecewise* {
    if (routine == BACKWARD) return checked<S>(kernel, routine, slopes<S>(kernel));
    Piecewise* pieces = checked<S>(kernel, routine, values<S>(kernel));
    if (!are_faster<S>(*pieces, values<S>(kernel))) pieces->share = 0;
    return pieces;
  });
  return found->share >= MOST_OF ? found : nullptr;
}

// Forward: x -> values[x]. Backward: (dy, x) -> dy * slopes[x].
template <typename S>
struct LookUp final : Work {
  const S* value_of;
  const float* slope_of;
  const Piecewise* pieces;  // null where all elements are looked up
  std::optional<Evaluator<S>> evaluate;
  bool streams;             // whether results bypass the caches

  template <typename... Rest>
  explicit LookUp(const Kernel& kernel, Routine routine, Rest&&... rest)
      : Work(kernel, routine, std::forward<Rest>(rest)...),
        value_of(routine == FORWARD ? values<S>(kernel) : nullptr),
        slope_of(routine == BACKWARD ? slopes<S>(kernel) : nullptr),
        pieces(polynomials_of_halves<S>(kernel, routine, elements)),
        streams(can_stream(results, elements * sizeof(S))) {
    if (pieces) evaluate.emplace(*pieces, routine == BACKWARD, streams);
    chunks = (elements + CHUNK - 1) / CHUNK;
  }

  void compute(int64_t first, int64_t last) override {
    S x_block[BLOCK], dy_block[BLOCK], y_block[BLOCK];
    int failures = 0;
    for (int64_t begin = first * CHUNK; begin < std::min(elements, last * CHUNK); begin += BLOCK) {
      const int64_t n = std::min(BLOCK, elements - begin);
      if (begin % CHUNK == 0) failures = 0;
      const S* x = block(arguments.back(), begin, n, x_block);
      const S* dy = routine == BACKWARD ? block(arguments.front(), begin, n, dy_block) : nullptr;
      S* const to = static_cast<S*>(results[0].data) + begin;
      S* const y = streams && !pieces && n == BLOCK ? y_block : to;
      int64_t done = 0;
      if (pieces && failures < MOST_FAILURES) {
        done = evaluate_most({dy, x, nullptr}, y, n);
        failures += !done;
      }
      look_up(dy ? dy + done : nullptr, x + done, y + done, n - done);
      if (y != to) stream(y, to, n);
    }
    if (streams) arrive();
  }

  // By polynomials, but for the last few; how many, 0 where they are not worth it.
  int64_t evaluate_most(const Elements<S>& elements, S* y, int64_t n) const {
    Missing missing;
    const int64_t done = n / LANES * LANES;
    (*evaluate)(elements, &y, done, &missing);
    if (missing.are_many(n)) return 0;
    for (int64_t i = 0; i < missing.count; ++i) {
      const int64_t place = missing.places[i];
      look_up(elements.dy ? elements.dy + place : nullptr, elements.x + place, y + place, 1);
    }
    return done;
  }

  void look_up(const S* dy, const S* x, S* y, int64_t n) const {
    if (!dy) return look_up_values(value_of, x, y, n);
    float wide[BLOCK];
    convert(dy, wide, n);
    multiply_by_slopes(slope_of, x, wide, n);
    convert(wide, y, n);
  }

  static const S* block(const Argument& argument, int64_t begin, int64_t n, S* buffer) {
    const S* data = static_cast<const S*>(argument.data);
    if (argument.view.contiguous()) return data + begin;
    argument.view.read(data, begin, n, buffer);
    return buffer;
  }
};

}  // namespace
