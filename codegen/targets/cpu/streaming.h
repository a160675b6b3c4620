// Stores that bypass the caches: what is larger than these would drive out what is needed next, and
// a line that is only written need not be read.

#pragma once

#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace {

#ifdef __x86_64__
constexpr bool HAS_STREAMING = true;
#else
constexpr bool HAS_STREAMING = false;
#endif

// Copies n elements, whole cache lines that begin with one.
template <typename T>
void stream(const T* from, T* to, int64_t n) {
  const int64_t bytes = n * sizeof(T);
  const char* source = reinterpret_cast<const char*>(from);
  char* target = reinterpret_cast<char*>(to);
#if defined(__AVX512F__)
  for (int64_t i = 0; i < bytes; i += 64)
    _mm512_stream_si512((__m512i*)(target + i), _mm512_loadu_si512(source + i));
#elif defined(__x86_64__)
  for (int64_t i = 0; i < bytes; i += 16)
    _mm_stream_si128((__m128i*)(target + i), _mm_loadu_si128((const __m128i*)(source + i)));
#else
  std::memcpy(target, source, bytes);
#endif
}

// What bypassed the caches is there before what is stored from now on.
inline void arrive() {
#ifdef __x86_64__
  _mm_sfence();
#endif
}

}  // namespace
