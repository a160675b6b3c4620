// float32 by looking up: cubic polynomials, one for each sign, exponent and seven bits of the
// fraction. They pay where an activation of one input and no parameters is computed for many
// elements: four coefficients are loaded at once, whatever the formula is.

#pragma once

#include "registry.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t MANY = 1 << 18;   // elements from which on cubics are fitted
constexpr int PLACES = 16;          // bits of a float below those that choose a cubic
constexpr int MOST_FAILURES = 2;    // blocks of a chunk, after which the others are not tried

#ifdef __AVX512F__
constexpr bool HAS_CUBICS = true;

// The rows of 4 numbers that 16 offsets (in bytes) lead to, as 4 vectors.
inline void transposed(const char* rows, const uint32_t* offsets, __m512* found) {
  __m512 four[4];
  for (int k = 0; k < 4; ++k) {
    auto row = [&](int lane) { return _mm_loadu_ps((const float*)(rows + offsets[lane + k])); };
    four[k] = _mm512_castps128_ps512(row(0));
    four[k] = _mm512_insertf32x4(four[k], row(4), 1);
    four[k] = _mm512_insertf32x4(four[k], row(8), 2);
    four[k] = _mm512_insertf32x4(four[k], row(12), 3);
  }
  const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(four[0], four[1]));
  const __m512d b = _mm512_castps_pd(_mm512_unpacklo_ps(four[2], four[3]));
  const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(four[0], four[1]));
  const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(four[2], four[3]));
  found[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
  found[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  found[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
  found[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
}

// y = f(x), or dy*f(x) where there is a dy; n is a multiple of 16. False where a cubic is missing:
// its coefficients are NaN.
template <bool WITH_DY, bool STREAMS>
bool look_up(const float* cubics, const float* dy, const float* x, float* y, int64_t n) {
  const __m512i mask = _mm512_set1_epi32(~15);
  const __m512i chosen = _mm512_set1_epi32(int(~0u << PLACES));
  __mmask16 missing = 0;
  alignas(64) uint32_t offsets[16];
  __m512 c[4];
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 at = _mm512_loadu_ps(x + i);
    const __m512i bits = _mm512_castps_si512(at);
    const __m512i place = _mm512_and_si512(_mm512_srli_epi32(bits, PLACES - 4), mask);
    _mm512_store_si512(offsets, place);
    const __m512 d = _mm512_sub_ps(at, _mm512_castsi512_ps(_mm512_and_si512(bits, chosen)));
    transposed((const char*)cubics, offsets, c);
    __m512 value = _mm512_fmadd_ps(c[3], d, c[2]);
    value = _mm512_fmadd_ps(value, d, c[1]);
    value = _mm512_fmadd_ps(value, d, c[0]);
    missing |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    if (WITH_DY) value = _mm512_mul_ps(value, _mm512_loadu_ps(dy + i));
    if (STREAMS)
      _mm512_stream_ps(y + i, value);
    else
      _mm512_storeu_ps(y + i, value);
  }
  return !missing;
}

#else
constexpr bool HAS_CUBICS = false;

template <bool WITH_DY, bool STREAMS>
bool look_up(const float*, const float*, const float*, float*, int64_t) {
  return false;
}
#endif

bool is_fitted(const Kernel& kernel, Routine routine, int64_t elements) {
  return HAS_CUBICS && elements >= MANY && kernel.inputs == 1 && kernel.dimensions.empty() &&
      routine != DOUBLE_BACKWARD;
}

// The cubics of a routine; null where there are none that are accurate.
const float* fitted(const Kernel& kernel, Routine routine) {
  if (!kernel.fitted[routine] && !(fitter && fitter(kernel.id, routine))) return nullptr;
  return kernel.cubics[routine];
}

}  // namespace
