// One call of a routine on whole tensors: blocks, threads, float64 where it is needed, and sums.

#pragma once

#include <ATen/Parallel.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "registry.h"
#include "views.h"

namespace {

struct Argument {  // what a routine reads
  View view;
  const void* data;
  bool is_parameter;  // then it is stored as what is computed with
  bool is_input;      // x or gate, which a kernel's bound is for
};

struct Result {  // what a routine writes: values in the memory order of x, or a parameter's sums
  View view;
  void* data = nullptr;         // of the values
  int64_t sums = 0;             // how many; 0 for values
  std::vector<double> partial;  // the sums of each chunk
};

// work(first, last) for all chunks, on as many threads as are worth it.
template <typename F>
void in_threads(int64_t chunks, bool streams, F work) {
  auto part = [&](int64_t first, int64_t last) {
    work(first, last);
#ifdef __x86_64__
    if (streams) _mm_sfence();
#endif
  };
  if (chunks > 2)
    at::parallel_for(0, chunks, 1, part);
  else
    part(0, chunks);
}

template <typename T>
bool outside(const T* x, int64_t n, T bound) {
  int any = 0;
  for (int64_t i = 0; i < n; ++i) any |= std::abs(x[i]) > bound;
  return any;
}

// Tensors hold S, kernels compute with T.
template <typename S, typename T>
struct Call {
  static constexpr bool is_wide = std::is_same_v<T, double>;
  static constexpr bool is_same = std::is_same_v<S, T>;

  const Kernel& kernel;
  const Routine routine;
  const std::vector<Argument>& arguments;
  std::vector<Result>& results;
  const int64_t elements;
  const Function<T> function;
  const T bound;
  const bool is_bounded, streams;

  Call(
      const Kernel& kernel, Routine routine, const std::vector<Argument>& arguments,
      std::vector<Result>& results, int64_t elements)
      : kernel(kernel),
        routine(routine),
        arguments(arguments),
        results(results),
        elements(elements),
        function(fitting(kernel, routine)),
        bound(static_cast<T>(kernel.bound[routine])),
        is_bounded(!is_wide && function && bound < std::numeric_limits<T>::infinity()),
        streams(is_same && elements * int64_t(sizeof(S)) >= STREAMED) {}

  static Function<T> fitting(const Kernel& kernel, Routine routine) {
    if constexpr (is_wide)
      return wide_function(kernel, routine);
    else
      return single_function(kernel, routine);
  }

  void run() {
    int64_t most = 1;
    for (const auto& result : results) most = std::max(most, result.sums);
    const int64_t chunk = std::max(CHUNK, (most + BLOCK - 1) / BLOCK * BLOCK * 8);
    const int64_t chunks = (elements + chunk - 1) / chunk;
    for (auto& result : results) result.partial.assign(chunks * result.sums, 0.0);
    auto work = [&](int64_t first, int64_t last) { compute(first, last, chunk); };
    in_threads(chunks, streams, work);
  }

  void compute(int64_t first, int64_t last, int64_t chunk) {
    const int64_t reads = arguments.size(), writes = results.size();
    static thread_local std::vector<T> memory;
    memory.resize(std::max<size_t>(memory.size(), (reads + writes) * BLOCK + 64 / sizeof(T)));
    T* buffers = (T*)(((uintptr_t)memory.data() + 63) & ~uintptr_t(63));
    std::vector<double> wide_memory;
    const T* in[MOST];
    T* out[MOST];
    for (int64_t k = 0; k < reads; ++k) {
      T* buffer = buffers + k * BLOCK;
      in[k] = buffer;
      if (arguments[k].is_parameter && arguments[k].view.constant())
        std::fill(buffer, buffer + BLOCK, *(const T*)arguments[k].data);
    }
    for (int64_t c = first; c < last; ++c) {
      const int64_t end = std::min(elements, (c + 1) * chunk);
      for (int64_t begin = c * chunk; begin < end; begin += BLOCK) {
        const int64_t n = std::min(BLOCK, end - begin);
        const int64_t padded = (n + LANES - 1) / LANES * LANES;
        bool again = !function;
        for (int64_t k = 0; k < reads; ++k) {
          in[k] = read(arguments[k], begin, n, padded, buffers + k * BLOCK);
          if (is_bounded && arguments[k].is_input) again |= outside(in[k], n, bound);
        }
        for (int64_t k = 0; k < writes; ++k)
          out[k] = is_same && !streams && !results[k].sums && n == padded
              ? (T*)results[k].data + begin
              : buffers + (reads + k) * BLOCK;
        if (!again) again = function(padded, in, out);
        if (again && !is_wide) compute_wide(padded, in, out, wide_memory);
        for (int64_t k = 0; k < writes; ++k) write(results[k], c, begin, n, out[k]);
      }
    }
  }

  const T* read(
      const Argument& argument, int64_t begin, int64_t n, int64_t padded, T* buffer) const {
    if (argument.is_parameter) {
      if (argument.view.constant()) return buffer;
      argument.view.read((const T*)argument.data, begin, n, buffer);
    } else {
      if constexpr (is_same)
        if (argument.view.contiguous() && n == padded) return (const T*)argument.data + begin;
      argument.view.read((const S*)argument.data, begin, n, buffer);
    }
    std::fill(buffer + n, buffer + padded, buffer[n - 1]);
    return buffer;
  }

  void write(Result& result, int64_t chunk, int64_t begin, int64_t n, const T* from) const {
    if (result.sums)
      result.view.add(from, begin, n, result.partial.data() + chunk * result.sums);
    else if (streams)
      stream(from, (S*)result.data + begin, n * sizeof(S));
    else if (from != (const T*)((const S*)result.data + begin))
      convert(from, (S*)result.data + begin, n);
  }

  void compute_wide(
      int64_t n, const T* const* in, T* const* out, std::vector<double>& memory) const {
    const int64_t reads = arguments.size(), writes = results.size();
    memory.resize((reads + writes) * BLOCK);
    const double* wide_in[MOST];
    double* wide_out[MOST];
    for (int64_t k = 0; k < reads; ++k) {
      wide_in[k] = memory.data() + k * BLOCK;
      convert(in[k], memory.data() + k * BLOCK, n);
    }
    for (int64_t k = 0; k < writes; ++k) wide_out[k] = memory.data() + (reads + k) * BLOCK;
    wide_function(kernel, routine)(n, wide_in, wide_out);
    for (int64_t k = 0; k < writes; ++k) convert((const double*)wide_out[k], out[k], n);
  }
};

}  // namespace
