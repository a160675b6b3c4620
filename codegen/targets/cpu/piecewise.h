// Piecewise polynomials in float32: where many elements are computed, a function of one input is a
// polynomial on each of 16 or up to 32 pieces around 0, whose coefficients a processor's instruction
// for permutations looks up in one or two of its registers. That takes fewer instructions than most
// formulas.

#pragma once

#include "registry.h"
#include "streaming.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int MOST_CELLS = 32;
constexpr int HIGHEST = 10;      // degree of a polynomial
constexpr int64_t AHEAD = 2048;  // bytes that are fetched before they are needed

// Factors of a result beside a function of t = b*x: that of x from 0 to 2, that of b from -2 to 1.
struct Powers {
  int x = 0, b = 0;

  double of(double x_, double b_) const { return std::pow(x_, x) * std::pow(b_, b); }
};

// A polynomial c0 + c1*r + ... of r = t - centre on each piece.
struct Polynomials {
  alignas(64) float centres[MOST_CELLS];
  alignas(64) float coefficients[HIGHEST + 1][MOST_CELLS];  // that of the highest power first
  Powers powers;  // beside it
};

// The polynomials of a routine's results; those of a gradient are factors of dy. They are functions
// of t, which is x or, for a scaled function, b*x. The number line around 0 is cut into cells, of one
// width or, where functions are no polynomials near 0, two in each octave of |t|. A cell is a piece,
// and they share their number, or it has the number of its first piece, of two perhaps.
struct Piecewise {
  float per_unit, limit;  // cells in 1, if they have one width; |t| that is too large
  float least = 0;        // |t| that is not too small, for graded cells and half types
  int cells;              // 16, or 32
  int degree;             // 6, 8 or 10
  bool is_graded;         // whether there are two cells in each octave
  bool has_breaks;        // whether a cell has the number of a piece, and may be two
  bool is_scaled;         // whether t is b*x
  bool is_continuous;     // where b is 0
  double share;           // of a logistic distribution, that polynomials are accurate for
  uint32_t absent;        // bit k: no polynomial is accurate on piece k
  alignas(64) int32_t first[MOST_CELLS];  // of a cell: its first piece
  alignas(64) float breaks[MOST_CELLS];   // of a cell: where its second piece begins; infinity if none
  std::vector<Polynomials> results;

  // Whether it has a number that is in no absent piece.
  bool has(float t) const {
    return std::abs(t) < limit && std::abs(t) >= least && !(absent >> piece_of(t) & 1);
  }

  // Whether the coefficients of one power fit into a register.
  bool are_few() const { return cells == MOST_CELLS / 2 && !has_breaks; }

  // The number of the cell that t is in: of those of one width floor(t*per_unit), modulo their number;
  // of graded ones the last bits of the exponent, and the first of the mantissa, and the sign before.
  int cell_of(float t) const {
    if (!is_graded) return int(std::floor(t * per_unit)) & (cells - 1);
    uint32_t bits;
    std::memcpy(&bits, &t, 4);
    return (bits >> 22 & 15) | (bits >> 27 & 16);
  }

  // The piece that it is on.
  int piece_of(float t) const {
    const int cell = cell_of(t);
    return has_breaks ? first[cell] + (t >= breaks[cell]) : cell;
  }

  // Whether no power of b overflows, and b is not where the function may be something else.
  bool serves(float b) const {
    return b == 0 ? is_continuous : 0x1p-40f <= std::abs(b) && std::abs(b) <= 0x1p40f;
  }
};

// Elements in the memory order of x; their number is a multiple of LANES.
template <typename S>
struct Elements {
  const S* dy;  // null where it counts as 1, for one result
  const S* x;
  const float* b;  // for a scaled function
};

// The elements of a block that polynomials, or float32 code, are not accurate for.
struct Missing {
  int64_t count;
  int32_t places[BLOCK + 16];  // in the block; room for a whole vector

  Missing() : count(0) {}  // without filling the places, which takes as long as many functions

  bool are_many(int64_t n) const { return count > n / 2; }

#ifdef __AVX512F__
  // Those of 16 elements that lie in these lanes, from the first on.
  void add(__mmask16 which, int64_t first, __m512i lanes) {
    count = enter(count, which, first, lanes);
  }
  // The same after so many; how many then. A loop that does so often counts in a register.
  int64_t enter(int64_t after, __mmask16 which, int64_t first, __m512i lanes) {
    const __m512i all = _mm512_add_epi32(_mm512_set1_epi32(int(first)), lanes);
    // Some processors take a hundred times as long to store no more than these.
    _mm512_storeu_si512(places + after, _mm512_maskz_compress_epi32(which, all));
    return after + __builtin_popcount(which);
  }
#endif
};

#ifdef __AVX512F__
constexpr bool HAS_PIECES = true;

// The number of a piece in a row of them, which lies in one register or in two.
template <bool FEW>
inline __m512 entry(const float* row, __m512i place) {
  if (FEW) return _mm512_permutexvar_ps(place, _mm512_load_ps(row));
  return _mm512_permutex2var_ps(_mm512_load_ps(row), place, _mm512_load_ps(row + 16));
}
inline __m512i entry(const int32_t* row, __m512i place) {
  return _mm512_permutex2var_epi32(_mm512_load_si512(row), place, _mm512_load_si512(row + 16));
}

// How LANES elements become vectors, and where they are. Those of bfloat16 are every other one, so
// that shifts do what permutations would.
constexpr int VECTORS = LANES / 16;

inline __m512 vector(const float* from, int v) { return _mm512_loadu_ps(from + 16 * v); }
inline __m512 vector(const at::Half* from, int v) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(from + 16 * v)));
}
inline __m512 vector(const at::BFloat16* from, int v) {
  const __m512i both = _mm512_loadu_si512(from + 32 * (v / 2));
  return _mm512_castsi512_ps(
      v % 2 ? _mm512_and_si512(both, _mm512_set1_epi32(0xffff0000)) : _mm512_slli_epi32(both, 16));
}
template <typename S>
inline __m512i lanes(int v) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  if (std::is_same_v<S, at::BFloat16>)
    return _mm512_add_epi32(_mm512_slli_epi32(lane, 1), _mm512_set1_epi32(32 * (v / 2) + v % 2));
  return _mm512_add_epi32(lane, _mm512_set1_epi32(16 * v));
}

inline void store(void* to, __m512i both, bool streams) {
  streams ? _mm512_stream_si512((__m512i*)to, both) : _mm512_storeu_si512(to, both);
}
inline void store(float* to, const __m512* value, bool streams) {
  for (int v = 0; v < VECTORS; ++v)
    store((void*)(to + 16 * v), _mm512_castps_si512(value[v]), streams);
}
inline void store(at::Half* to, const __m512* value, bool streams) {
  for (int v = 0; v < VECTORS; v += 2) {
    const auto half = [&](int k) { return _mm512_cvtps_ph(value[v + k], _MM_FROUND_TO_NEAREST_INT); };
    const __m512i first = _mm512_castsi256_si512(half(0));
    store((void*)(to + 16 * v), _mm512_inserti64x4(first, half(1), 1), streams);
  }
}
inline __m512i rounded(__m512 value) {  // to nearest, ties to even; the upper half is a bfloat16
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
}
inline void store(at::BFloat16* to, const __m512* value, bool streams) {
  for (int v = 0; v < VECTORS; v += 2) {
    const __m512i upper = _mm512_and_si512(rounded(value[v + 1]), _mm512_set1_epi32(0xffff0000));
    const __m512i lower = _mm512_srli_epi32(rounded(value[v]), 16);
    store((void*)(to + 16 * v), _mm512_or_si512(upper, lower), streams);
  }
}

// y times the powers that stand beside a polynomial: those of b and the first of x before dy, so that
// nothing overflows on the way, or loses digits, that would be there again in the end.
struct Powers512 {
  __mmask16 x, xx, b, divided, divided_twice;  // all ones where it applies

  Powers512() = default;
  explicit Powers512(const Powers& powers)
      : x(all(powers.x >= 1)),
        xx(all(powers.x >= 2)),
        b(all(powers.b >= 1)),
        divided(all(powers.b <= -1)),
        divided_twice(all(powers.b <= -2)) {}

  static __mmask16 all(bool condition) { return condition ? 0xffff : 0; }

  __m512 before_dy(__m512 y, __m512 x_, __m512 b_) const {
    y = _mm512_mask_mul_ps(y, b, y, b_);
    if (__builtin_expect(divided, 0)) {
      y = _mm512_div_ps(y, b_);
      y = _mm512_mask_div_ps(y, divided_twice, y, b_);
    }
    return _mm512_mask_mul_ps(y, x, y, x_);
  }
  __m512 after_dy(__m512 y, __m512 x_) const { return _mm512_mask_mul_ps(y, xx, y, x_); }
};

// y = f(x), or dy*f(x), of LANES elements from i on, for one result or two.
template <
    int DEGREE, int RESULTS, bool GRADED, bool BREAKS, bool FEW, bool WITH_DY, bool SCALED,
    typename S, typename Streams>
inline __attribute__((always_inline)) void evaluate_some(
    const Piecewise& pieces, const Polynomials* polynomials, const Powers512 (&powers)[RESULTS],
    const Elements<S>& elements, S* const* y, int64_t i, Streams streams, Missing* missing,
    int64_t& count) {
  const S *dy = WITH_DY ? elements.dy + i : nullptr, *x = elements.x + i;
  const float* b = SCALED ? elements.b + i : nullptr;
  const __m512i one = _mm512_set1_epi32(1);
  const uint32_t absent = FEW ? 0x10001 * (pieces.absent & 0xffff) : pieces.absent;
  const __m512 shift = _mm512_set1_ps(12582912.0f);  // 1.5 * 2^23 rounds to whole numbers
  const __m512 per_unit = _mm512_set1_ps(pieces.per_unit), limit = _mm512_set1_ps(pieces.limit);
  const __m512 least = _mm512_set1_ps(pieces.least);
  const __m512 normal = _mm512_set1_ps(std::numeric_limits<float>::min());
  __m512 r[RESULTS][VECTORS], value[RESULTS][VECTORS];
  __m512i place[VECTORS];  // its last five bits are the number of the cell, then of the piece; its
                           // last four where they are few
  __mmask16 without[VECTORS];
  if (streams)
    for (int64_t at = 0; at < int64_t(16 * VECTORS * sizeof(S)); at += 64) {
      _mm_prefetch((const char*)x + AHEAD + at, _MM_HINT_T0);
      if (WITH_DY) _mm_prefetch((const char*)dy + AHEAD + at, _MM_HINT_T0);
    }
  for (int v = 0; v < VECTORS; ++v) {
    __m512 t = vector(x, v);
    if (SCALED) t = _mm512_mul_ps(t, vector(b, v));
    if (GRADED) {
      const __m512i bits = _mm512_castps_si512(t), last = _mm512_set1_epi32(15);
      const __m512i sizes = _mm512_srli_epi32(bits, 22), sign = _mm512_srli_epi32(bits, 27);
      place[v] = _mm512_ternarylogic_epi32(last, sizes, sign, 0xca);  // last ? sizes : sign
    } else {
      place[v] = _mm512_castps_si512(_mm512_fmadd_round_ps(
          t, per_unit, shift, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
    }
    without[v] = _mm512_cmp_ps_mask(_mm512_abs_ps(t), limit, _CMP_NLT_UQ);
    if (GRADED || !std::is_same_v<S, float>)
      without[v] |= _mm512_cmp_ps_mask(_mm512_abs_ps(t), least, _CMP_LT_OQ);
    if (BREAKS) {
      const __m512 second = entry<false>(pieces.breaks, place[v]);
      const __mmask16 beyond = _mm512_cmp_ps_mask(t, second, _CMP_GE_OQ);
      place[v] = entry(pieces.first, place[v]);
      place[v] = _mm512_mask_add_epi32(place[v], beyond, place[v], one);
    }
    if (WITH_DY && missing)  // 0 times infinity may not be what the code gives
      without[v] |= _mm512_cmp_ps_mask(
          _mm512_abs_ps(vector(dy, v)), _mm512_set1_ps(std::numeric_limits<float>::infinity()),
          _CMP_NLT_UQ);
    if (absent)
      without[v] |= _mm512_test_epi32_mask(
          _mm512_rorv_epi32(_mm512_set1_epi32(absent), place[v]), one);
    if (SCALED) {  // b*x may be 0, and b and x not
      const __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(t), normal, _CMP_LT_OQ);
      if (__builtin_expect(small, 0)) {
        const __m512 zero = _mm512_setzero_ps();
        const __mmask16 has_b = _mm512_mask_cmp_ps_mask(small, vector(b, v), zero, _CMP_NEQ_OQ);
        without[v] |= _mm512_mask_cmp_ps_mask(has_b, vector(x, v), zero, _CMP_NEQ_OQ);
      }
    }
    for (int k = 0; k < RESULTS; ++k) {
      const __m512 centre = entry<FEW>(polynomials[k].centres, place[v]);
      r[k][v] = SCALED ? _mm512_fmsub_ps(vector(x, v), vector(b, v), centre)
                       : _mm512_sub_ps(t, centre);
      value[k][v] = entry<FEW>(polynomials[k].coefficients[0], place[v]);
    }
  }
#pragma GCC unroll 16
  for (int power = 1; power <= DEGREE; ++power)
    for (int k = 0; k < RESULTS; ++k)
      for (int v = 0; v < VECTORS; ++v)
        value[k][v] = _mm512_fmadd_ps(
            value[k][v], r[k][v], entry<FEW>(polynomials[k].coefficients[power], place[v]));
  if (missing)
    for (int v = 0; v < VECTORS; ++v)
      if (GRADED)  // numbers near 0, which these leave out, are many
        count = missing->enter(count, without[v], i, lanes<S>(v));
      else if (__builtin_expect(without[v], 0))
        missing->add(without[v], i, lanes<S>(v));
  for (int k = 0; k < RESULTS; ++k) {
    for (int v = 0; v < VECTORS; ++v) {
      __m512& y = value[k][v];
      if (SCALED) y = powers[k].before_dy(y, vector(x, v), vector(b, v));
      if (WITH_DY) y = _mm512_mul_ps(y, vector(dy, v));
      if (SCALED) y = powers[k].after_dy(y, vector(x, v));
    }
    store(y[k] + i, value[k], streams && k == 0);
  }
}

// The same of a block of n elements, for the results from one on. Streams is bool, or a constant.
template <
    int DEGREE, int RESULTS, bool GRADED, bool BREAKS, bool FEW, bool WITH_DY, bool SCALED,
    typename S, typename Streams>
void evaluate_block(
    const Piecewise& pieces, int64_t first, const Elements<S>& elements, S* const* y, int64_t n,
    bool now, Missing* missing) {
  Streams streams{};
  if constexpr (std::is_same_v<Streams, bool>) streams = now;
  const Polynomials* polynomials = &pieces.results[first];
  Powers512 powers[RESULTS];
  for (int k = 0; k < RESULTS; ++k) powers[k] = Powers512(polynomials[k].powers);
  int64_t count = 0;  // of what graded cells leave out
  for (int64_t i = 0; i < n; i += LANES)
    evaluate_some<DEGREE, RESULTS, GRADED, BREAKS, FEW, WITH_DY, SCALED>(
        pieces, polynomials, powers, elements, y + first, i, streams, missing, count);
  if (GRADED && missing) missing->count = count;
  if (streams && missing && missing->count) arrive();
}

template <typename F>
void choose(bool condition, F f) {
  condition ? f(std::true_type()) : f(std::false_type());
}
template <typename F>
void choose_degree(int degree, F f) {
  switch (degree) {
    case 6: return f(std::integral_constant<int, 6>());
    case 8: return f(std::integral_constant<int, 8>());
    default: return f(std::integral_constant<int, 10>());
  }
}
// Few have no breaks, and are not graded.
template <typename F>
void choose_cells(const Piecewise& pieces, F f) {
  if (pieces.is_graded)
    choose(pieces.has_breaks, [&](auto breaks) { f(std::true_type(), breaks, std::false_type()); });
  else if (pieces.has_breaks)
    f(std::false_type(), std::true_type(), std::false_type());
  else
    choose(pieces.are_few(), [&](auto few) { f(std::false_type(), std::false_type(), few); });
}

// The `evaluate_block` for one result or two of some polynomials.
template <typename S>
using EvaluateBlock = void (*)(
    const Piecewise&, int64_t, const Elements<S>&, S* const*, int64_t, bool, Missing*);

template <typename S>
EvaluateBlock<S> chosen(const Piecewise& pieces, bool are_two, bool with_dy, bool streams) {
  EvaluateBlock<S> found = nullptr;
  auto take = [&](auto two, auto degree, auto graded, auto breaks, auto few, auto with_dy,
                  auto scaled, auto streams) {
    constexpr bool has_results = scaled() ? two() == with_dy() : with_dy() || !two();
    constexpr bool has_cells = !graded() || (!scaled() && degree() > 6);
    constexpr bool has_type = std::is_same_v<S, float> || (!two() && !scaled());
    if constexpr (has_results && has_cells && has_type)
      found = evaluate_block<
          degree(), 1 + two(), graded(), breaks(), few(), with_dy(), scaled(), S,
          decltype(streams)>;
  };
  choose(are_two, [&](auto two) {
    choose_cells(pieces, [&](auto graded, auto breaks, auto few) {
      choose(with_dy, [&](auto with_dy) {
        choose(pieces.is_scaled, [&](auto scaled) {
          choose_degree(pieces.degree, [&](auto degree) {
            auto all = [&](auto now) {
              take(two, degree, graded, breaks, few, with_dy, scaled, now);
            };
            if constexpr (std::is_same_v<S, float>)
              choose(streams, all);
            else
              all(streams);
          });
        });
      });
    });
  });
  return found;
}

// y = f(x), or dy*f(x) if with dy, of n elements of a block, for all results. The first may bypass
// the caches. Missing is where |t| is too large, and where no polynomial is accurate.
template <typename S>
class Evaluator {
 public:
  Evaluator(const Piecewise& pieces, bool with_dy, bool streams)
      : pieces(pieces),
        streams(streams),
        first(chosen<S>(pieces, pieces.results.size() > 1, with_dy, streams)),
        two(chosen<S>(pieces, true, with_dy, false)),
        one(chosen<S>(pieces, false, with_dy, false)) {}

  void operator()(const Elements<S>& elements, S* const* y, int64_t n, Missing* missing) const {
    first(pieces, 0, elements, y, n, streams, missing);
    const int64_t results = pieces.results.size();
    for (int64_t k = 2; k < results; k += 2)  // what is missing is the same for all
      (k + 1 < results ? two : one)(pieces, k, elements, y, n, false, nullptr);
  }

 private:
  const Piecewise& pieces;
  const bool streams;
  const EvaluateBlock<S> first, two, one;
};

#else
constexpr bool HAS_PIECES = false;

template <typename S>
struct Evaluator {
  Evaluator(const Piecewise&, bool, bool) {}
  void operator()(const Elements<S>&, S* const*, int64_t, Missing*) const {}
};
#endif

}  // namespace
