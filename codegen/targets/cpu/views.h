// Tensors as blocks of their elements: conversion, copies, and reading in any memory order.

#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace {

// ---- conversion of blocks

template <typename T>
void convert(const T* from, T* to, int64_t n) {
  std::memcpy(to, from, n * sizeof(T));
}
template <typename S, typename T>
void convert(const S* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]);
}

#ifdef __AVX512F__
void convert(const at::Half* from, float* to, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(from + i))));
  for (; i < n; ++i) to[i] = from[i];
}
void convert(const float* from, at::Half* to, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256((__m256i*)(to + i), _mm512_cvtps_ph(_mm512_loadu_ps(from + i), 0));
  for (; i < n; ++i) to[i] = from[i];
}
#endif
void convert(const at::BFloat16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits = uint32_t(from[i].x) << 16;
    std::memcpy(to + i, &bits, 4);
  }
}
void convert(const float* from, at::BFloat16* to, int64_t n) {  // to nearest, ties to even
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    to[i].x = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
  }
}

// ---- runs of a parameter, which may be short

template <typename T>
double sum(const T* from, int64_t n) {
  double lanes[16] = {}, total = 0;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += from[i + lane];
  for (; i < n; ++i) total += from[i];
  for (double lane : lanes) total += lane;
  return total;
}
template <typename T>
void add_rows(const T* from, int64_t rows, int64_t n, double* total) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) total[i] += from[row * n + i];
}
template <typename T>
void fill(T* to, int64_t n, T value) {
  std::fill(to, to + n, value);
}

#ifdef __AVX512F__
inline __mmask16 first_lanes(int64_t n) { return (1u << n) - 1; }

inline void add_halves(__m512 row, __m512d& low, __m512d& high) {
  low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(row)));
  const __m256d upper = _mm512_extractf64x4_pd(_mm512_castps_pd(row), 1);
  high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm256_castpd_ps(upper)));
}

double sum(const float* from, int64_t n) {
  __m512d low[2] = {}, high[2] = {};  // a sum waits for the one before it
  int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (int k = 0; k < 2; ++k) add_halves(_mm512_loadu_ps(from + i + 16 * k), low[k], high[k]);
  for (; i < n; i += 16) {
    const __mmask16 lanes = first_lanes(std::min<int64_t>(n - i, 16));
    add_halves(_mm512_maskz_loadu_ps(lanes, from + i), low[0], high[0]);
  }
  for (int k = 0; k < 2; ++k) low[k] = _mm512_add_pd(low[k], high[k]);
  return _mm512_reduce_add_pd(_mm512_add_pd(low[0], low[1]));
}
void add_rows(const float* from, int64_t rows, int64_t n, double* total) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 lanes = first_lanes(std::min<int64_t>(n - i, 16));
    __m512d low = _mm512_maskz_loadu_pd(lanes, total + i);
    __m512d high = _mm512_maskz_loadu_pd(lanes >> 8, total + i + 8);
    for (int64_t row = 0; row < rows; ++row)
      add_halves(_mm512_maskz_loadu_ps(lanes, from + row * n + i), low, high);
    _mm512_mask_storeu_pd(total + i, lanes, low);
    _mm512_mask_storeu_pd(total + i + 8, lanes >> 8, high);
  }
}
void fill(float* to, int64_t n, float value) {
  const __m512 row = _mm512_set1_ps(value);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(to + i, row);
  if (i < n) _mm512_mask_storeu_ps(to + i, first_lanes(n - i), row);
}
#endif

// ---- views: a tensor, or a parameter that does not advance, in the memory order of the result

struct View {
  int64_t count = 0;                            // dimensions left when adjacent ones are merged
  c10::SmallVector<int64_t, 6> sizes, strides;  // outermost first; in elements

  View(at::IntArrayRef all_sizes, at::IntArrayRef all_strides, const std::vector<int64_t>& order) {
    for (int64_t d : order) {
      if (all_sizes[d] == 1) continue;
      if (count && strides[count - 1] == all_strides[d] * all_sizes[d]) {
        sizes[count - 1] *= all_sizes[d];
        strides[count - 1] = all_strides[d];
      } else {
        sizes.push_back(all_sizes[d]);
        strides.push_back(all_strides[d]);
        ++count;
      }
    }
    if (!count) {
      sizes.push_back(1);
      strides.push_back(0);
      count = 1;
    }
  }
  bool contiguous() const { return count == 1 && (strides[0] == 1 || sizes[0] == 1); }
  bool constant() const { return count == 1 && strides[0] == 0; }
  // Whether every n elements from a multiple of n on are the same.
  bool repeats(int64_t n) const {
    return constant() || (count == 2 && strides[0] == 0 && n % sizes[1] == 0);
  }
  int64_t span() const {  // elements from the first to the last
    int64_t found = 1;
    for (int64_t d = 0; d < count; ++d) found += (sizes[d] - 1) * strides[d];
    return found;
  }

  // f(offset of the tensor's element, stride, place in the block, length) for every run
  template <typename F>
  void runs(int64_t begin, int64_t n, F f) const {
    int64_t index[DEEP], rest = begin, offset = 0;
    for (int64_t d = count - 1; d >= 0; --d) {
      index[d] = rest % sizes[d];
      rest /= sizes[d];
      offset += index[d] * strides[d];
    }
    const int64_t last = count - 1;
    for (int64_t done = 0; done < n;) {
      int64_t length = std::min(n - done, sizes[last] - index[last]);
      f(offset, strides[last], done, length);
      done += length;
      offset += length * strides[last];
      index[last] += length;
      for (int64_t d = last; d > 0 && index[d] == sizes[d]; --d) {
        offset += strides[d - 1] - sizes[d] * strides[d];
        index[d] = 0;
        ++index[d - 1];
      }
    }
  }

  template <typename S, typename T>
  void read(const S* from, int64_t begin, int64_t n, T* to) const {
    runs(begin, n, [&](int64_t offset, int64_t stride, int64_t place, int64_t length) {
      if (stride == 1)
        convert(from + offset, to + place, length);
      else if (stride == 0)
        fill(to + place, length, static_cast<T>(from[offset]));
      else
        for (int64_t i = 0; i < length; ++i)
          to[place + i] = static_cast<T>(from[offset + i * stride]);
    });
  }

  template <typename T>
  void add(const T* contributions, int64_t begin, int64_t n, double* total) const {
    if (count == 2 && strides[0] == 0 && strides[1] == 1 && begin % sizes[1] == 0 &&
        n % sizes[1] == 0)
      return add_rows(contributions, n / sizes[1], sizes[1], total);
    runs(begin, n, [&](int64_t offset, int64_t stride, int64_t place, int64_t length) {
      const T* from = contributions + place;
      if (stride == 0) {
        total[offset] += sum(from, length);
      } else {
        for (int64_t i = 0; i < length; ++i) total[offset + i] += from[i];
      }
    });
  }
};

}  // namespace
