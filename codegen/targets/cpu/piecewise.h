// Piecewise polynomials in float32: where many elements are computed, a function of one input is a
// polynomial on each of up to 32 pieces around 0, whose coefficients a processor's instruction for
// permutations looks up in two of its registers. That takes fewer instructions than most formulas.

#pragma once

#include "registry.h"

#include <limits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int CELLS = 32;
constexpr int HIGHEST = 10;     // degree of a polynomial
constexpr int64_t AHEAD = 512;  // elements that are fetched before they are needed

// A polynomial c0 + c1*r + ... of r = x - centre on each piece.
struct Polynomials {
  alignas(64) float centres[CELLS];
  alignas(64) float coefficients[HIGHEST + 1][CELLS];  // that of the highest power first
};

// The polynomials of a routine's results; those of a gradient are factors of dy. The number line
// around 0 is cut into cells of one width; that of x has the number floor(x*per_unit), modulo 32. A
// cell is a piece, and they share their number, or it is two, with consecutive numbers.
struct Piecewise {
  float per_unit, limit;  // cells in 1; |x| that is too large
  int degree;             // 6, 8 or 10
  bool has_breaks;        // whether a cell is two pieces
  double share;           // of a logistic distribution, that polynomials are accurate for
  uint32_t absent;        // bit k: no polynomial is accurate on piece k
  alignas(64) int32_t first[CELLS];  // of a cell: its first piece
  alignas(64) float breaks[CELLS];   // of a cell: where its second piece begins; infinity if none
  std::vector<Polynomials> results;
};

// The elements of a block that no polynomial is accurate for.
struct Missing {
  int64_t count = 0;
  alignas(64) float dy[BLOCK], x[BLOCK];
  int32_t places[BLOCK];  // in the block

  bool are_many(int64_t n) const { return count > n / 2; }
};

#ifdef __AVX512F__
constexpr bool HAS_PIECES = true;

// What bypassed the caches is there before what is stored from now on.
inline void arrive() { _mm_sfence(); }

inline __m512 entry(const float* row, __m512i place) {
  return _mm512_permutex2var_ps(_mm512_load_ps(row), place, _mm512_load_ps(row + 16));
}
inline __m512i entry(const int32_t* row, __m512i place) {
  return _mm512_permutex2var_epi32(_mm512_load_si512(row), place, _mm512_load_si512(row + 16));
}

// y = f(x), or dy*f(x), of 16*VECTORS elements from i on.
template <int DEGREE, int VECTORS, bool BREAKS, bool WITH_DY, bool STREAMS>
inline __attribute__((always_inline)) void evaluate_some(
    const Piecewise& pieces, const Polynomials& polynomials, const float* dy, const float* x,
    float* y, int64_t i, Missing* missing) {
  if (WITH_DY) dy += i;
  x += i;
  y += i;
  const __m512i one = _mm512_set1_epi32(1), absent = _mm512_set1_epi32(pieces.absent);
  const __m512 shift = _mm512_set1_ps(12582912.0f);  // 1.5 * 2^23 rounds to whole numbers
  const __m512 per_unit = _mm512_set1_ps(pieces.per_unit), limit = _mm512_set1_ps(pieces.limit);
  __m512 r[VECTORS], value[VECTORS];
  __m512i place[VECTORS];  // its last five bits are the number of the cell, then of the piece
  __mmask16 without[VECTORS];
  for (int v = 0; v < VECTORS; ++v) {
    if (STREAMS) _mm_prefetch((const char*)(x + AHEAD + 16 * v), _MM_HINT_T0);
    if (STREAMS && WITH_DY) _mm_prefetch((const char*)(dy + AHEAD + 16 * v), _MM_HINT_T0);
    r[v] = _mm512_loadu_ps(x + 16 * v);
    place[v] = _mm512_castps_si512(_mm512_fmadd_round_ps(
        r[v], per_unit, shift, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
    without[v] = _mm512_cmp_ps_mask(_mm512_abs_ps(r[v]), limit, _CMP_NLT_UQ);
    if (BREAKS) {
      const __mmask16 beyond =
          _mm512_cmp_ps_mask(r[v], entry(pieces.breaks, place[v]), _CMP_GE_OQ);
      place[v] = entry(pieces.first, place[v]);
      place[v] = _mm512_mask_add_epi32(place[v], beyond, place[v], one);
    }
    if (WITH_DY && missing)  // 0 times infinity may not be what the code gives
      without[v] |= _mm512_cmp_ps_mask(
          _mm512_abs_ps(_mm512_loadu_ps(dy + 16 * v)),
          _mm512_set1_ps(std::numeric_limits<float>::infinity()), _CMP_NLT_UQ);
    without[v] |= _mm512_test_epi32_mask(_mm512_rorv_epi32(absent, place[v]), one);
    r[v] = _mm512_sub_ps(r[v], entry(polynomials.centres, place[v]));
    value[v] = entry(polynomials.coefficients[0], place[v]);
  }
#pragma GCC unroll 16
  for (int k = 1; k <= DEGREE; ++k)
    for (int v = 0; v < VECTORS; ++v)
      value[v] = _mm512_fmadd_ps(value[v], r[v], entry(polynomials.coefficients[k], place[v]));
  for (int v = 0; v < VECTORS; ++v) {
    if (__builtin_expect(without[v], 0) && missing) {
      const __m512i lanes = _mm512_add_epi32(
          _mm512_set1_epi32(int(i) + 16 * v),
          _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
      _mm512_mask_compressstoreu_epi32(missing->places + missing->count, without[v], lanes);
      _mm512_mask_compressstoreu_ps(
          missing->x + missing->count, without[v], _mm512_loadu_ps(x + 16 * v));
      if (WITH_DY)
        _mm512_mask_compressstoreu_ps(
            missing->dy + missing->count, without[v], _mm512_loadu_ps(dy + 16 * v));
      missing->count += __builtin_popcount(without[v]);
    }
    if (WITH_DY) value[v] = _mm512_mul_ps(value[v], _mm512_loadu_ps(dy + 16 * v));
    if (STREAMS)
      _mm512_stream_ps(y + 16 * v, value[v]);
    else
      _mm512_storeu_ps(y + 16 * v, value[v]);
  }
}

// The same of a block of n elements, a multiple of 16.
template <int DEGREE, bool BREAKS, bool WITH_DY, bool STREAMS>
void evaluate_block(
    const Piecewise& pieces, int64_t result, const float* dy, const float* x, float* y, int64_t n,
    Missing* missing) {
  const Polynomials& polynomials = pieces.results[result];
  int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    evaluate_some<DEGREE, 2, BREAKS, WITH_DY, STREAMS>(pieces, polynomials, dy, x, y, i, missing);
  if (i < n)
    evaluate_some<DEGREE, 1, BREAKS, WITH_DY, STREAMS>(pieces, polynomials, dy, x, y, i, missing);
  if (STREAMS && missing && missing->count) arrive();
}

template <typename F>
void choose(bool condition, F f) {
  condition ? f(std::true_type()) : f(std::false_type());
}

// y = f(x), or dy*f(x) where there is a dy, of a block of n elements, a multiple of 16. Missing is
// where |x| is too large, and where no polynomial is accurate.
void evaluate(
    const Piecewise& pieces, int64_t result, const float* dy, const float* x, float* y, int64_t n,
    bool streams, Missing* missing) {
  auto run = [&](auto degree, auto breaks, auto with_dy, auto streams) {
    evaluate_block<degree(), breaks(), with_dy(), streams()>(
        pieces, result, dy, x, y, n, missing);
  };
  choose(pieces.has_breaks, [&](auto breaks) {
    choose(dy, [&](auto with_dy) {
      choose(streams, [&](auto streams) {
        switch (pieces.degree) {
          case 6: return run(std::integral_constant<int, 6>(), breaks, with_dy, streams);
          case 8: return run(std::integral_constant<int, 8>(), breaks, with_dy, streams);
          default: return run(std::integral_constant<int, 10>(), breaks, with_dy, streams);
        }
      });
    });
  });
}

#else
constexpr bool HAS_PIECES = false;

inline void arrive() {}

void evaluate(
    const Piecewise&, int64_t, const float*, const float*, float*, int64_t, bool, Missing*) {}
#endif

}  // namespace
