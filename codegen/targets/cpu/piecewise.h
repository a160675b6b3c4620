// Piecewise polynomials in float32: a function of one input and no parameters is a polynomial on
// each of 32 pieces of one width around 0, whose coefficients a processor's instruction for
// permutations looks up in two of its registers. That takes fewer instructions than most formulas.

#pragma once

#include "registry.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t MANY = 1 << 13;  // elements from which on polynomials are fitted
constexpr int64_t AHEAD = 512;     // elements that are fetched before they are needed
constexpr int MOST_FAILURES = 2;   // blocks of a chunk, after which the others are not tried

// The elements of a block that no polynomial is accurate for.
struct Missing {
  int64_t count = 0;
  alignas(64) float dy[BLOCK], x[BLOCK], y[BLOCK];
  int32_t places[BLOCK];  // in the block

  bool are_many(int64_t n) const { return count > n / 4; }
};

#ifdef __AVX512F__
constexpr bool HAS_PIECES = true;

// What bypassed the caches is there before what is stored from now on.
inline void arrive() { _mm_sfence(); }

inline __m512 entry(const float* row, __m512i place) {
  return _mm512_permutex2var_ps(_mm512_load_ps(row), place, _mm512_load_ps(row + 16));
}

// y = f(x), or dy*f(x), of 16*VECTORS elements from i on. Missing is where |x| is too large, and
// where no polynomial is accurate: the centre of such a piece is NaN.
template <int DEGREE, int VECTORS, bool WITH_DY, bool STREAMS>
inline __attribute__((always_inline)) void evaluate_some(
    const Piecewise& pieces, const float* dy, const float* x, float* y, int64_t i, Missing& missing) {
  if (WITH_DY) dy += i;
  x += i;
  y += i;
  const __m512 shift = _mm512_set1_ps(12582912.0f);  // 1.5 * 2^23 rounds to whole numbers
  const __m512 per_unit = _mm512_set1_ps(pieces.per_unit), limit = _mm512_set1_ps(pieces.limit);
  __m512 r[VECTORS], value[VECTORS];
  __m512i place[VECTORS];  // its last five bits are the number of the piece
  __mmask16 large[VECTORS];
  for (int v = 0; v < VECTORS; ++v) {
    if (STREAMS) _mm_prefetch((const char*)(x + AHEAD + 16 * v), _MM_HINT_T0);
    if (STREAMS && WITH_DY) _mm_prefetch((const char*)(dy + AHEAD + 16 * v), _MM_HINT_T0);
    r[v] = _mm512_loadu_ps(x + 16 * v);
    place[v] = _mm512_castps_si512(_mm512_fmadd_round_ps(
        r[v], per_unit, shift, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
    large[v] = _mm512_cmp_ps_mask(_mm512_abs_ps(r[v]), limit, _CMP_NLT_UQ);
    r[v] = _mm512_sub_ps(r[v], entry(pieces.centres, place[v]));
    value[v] = entry(pieces.coefficients[0], place[v]);
  }
#pragma GCC unroll 16
  for (int k = 1; k <= DEGREE; ++k)
    for (int v = 0; v < VECTORS; ++v)
      value[v] = _mm512_fmadd_ps(value[v], r[v], entry(pieces.coefficients[k], place[v]));
  for (int v = 0; v < VECTORS; ++v) {
    const __mmask16 absent = large[v] | _mm512_cmp_ps_mask(value[v], value[v], _CMP_UNORD_Q);
    if (__builtin_expect(absent, 0)) {
      const __m512i lanes = _mm512_add_epi32(
          _mm512_set1_epi32(int(i) + 16 * v),
          _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
      _mm512_mask_compressstoreu_epi32(missing.places + missing.count, absent, lanes);
      _mm512_mask_compressstoreu_ps(missing.x + missing.count, absent, _mm512_loadu_ps(x + 16 * v));
      if (WITH_DY)
        _mm512_mask_compressstoreu_ps(
            missing.dy + missing.count, absent, _mm512_loadu_ps(dy + 16 * v));
      missing.count += __builtin_popcount(absent);
    }
    if (WITH_DY) value[v] = _mm512_mul_ps(value[v], _mm512_loadu_ps(dy + 16 * v));
    if (STREAMS)
      _mm512_stream_ps(y + 16 * v, value[v]);
    else
      _mm512_storeu_ps(y + 16 * v, value[v]);
  }
}

// The same of a block of n elements, a multiple of 16.
template <int DEGREE, bool WITH_DY, bool STREAMS>
void evaluate(
    const Piecewise& pieces, const float* dy, const float* x, float* y, int64_t n, Missing& missing) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    evaluate_some<DEGREE, 2, WITH_DY, STREAMS>(pieces, dy, x, y, i, missing);
  if (i < n) evaluate_some<DEGREE, 1, WITH_DY, STREAMS>(pieces, dy, x, y, i, missing);
  if (STREAMS && missing.count) arrive();
}

template <bool WITH_DY, bool STREAMS>
void evaluate(
    const Piecewise& pieces, const float* dy, const float* x, float* y, int64_t n, Missing& missing) {
  switch (pieces.degree) {
    case 6: return evaluate<6, WITH_DY, STREAMS>(pieces, dy, x, y, n, missing);
    case 8: return evaluate<8, WITH_DY, STREAMS>(pieces, dy, x, y, n, missing);
    default: return evaluate<10, WITH_DY, STREAMS>(pieces, dy, x, y, n, missing);
  }
}

#else
constexpr bool HAS_PIECES = false;

inline void arrive() {}

template <bool WITH_DY, bool STREAMS>
void evaluate(const Piecewise&, const float*, const float*, float*, int64_t, Missing&) {}
#endif

// The polynomials of a routine; null where there are none that are accurate, or few elements.
const Piecewise* fitted(const Kernel& kernel, Routine routine, int64_t elements) {
  if (!HAS_PIECES || elements < MANY || kernel.inputs != 1 || !kernel.dimensions.empty() ||
      routine == DOUBLE_BACKWARD)
    return nullptr;
  if (!kernel.fitted[routine] && !(fitter && fitter(kernel.id, routine))) return nullptr;
  return kernel.pieces[routine].get();
}

}  // namespace
