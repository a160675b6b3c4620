// Calls of routines on tensors: blocks, threads, float64 where it is needed, and sums.

#pragma once

#include <ATen/Parallel.h>

#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include "choosing.h"
#include "registry.h"
#include "views.h"

namespace {

constexpr int MOST_FAILURES = 2;  // blocks of a chunk, after which polynomials are not tried

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

struct Work {  // a routine of one kernel, in chunks that are computed in any order
  const Kernel& kernel;
  const Routine routine;
  const std::vector<Argument> arguments;
  std::vector<Result> results;
  const int64_t elements;
  int64_t chunks = 0;

  Work(
      const Kernel& kernel, Routine routine, std::vector<Argument> arguments,
      std::vector<Result> results, int64_t elements)
      : kernel(kernel),
        routine(routine),
        arguments(std::move(arguments)),
        results(std::move(results)),
        elements(elements) {}
  virtual ~Work() = default;
  virtual void compute(int64_t first, int64_t last) = 0;
};

using Works = std::vector<std::unique_ptr<Work>>;

// Whether values bypass the caches: they are many, and begin with a cache line.
bool can_stream(const std::vector<Result>& results, int64_t bytes) {
  return HAS_STREAMING && bytes >= STREAMED &&
      std::all_of(results.begin(), results.end(), [](const Result& result) {
        return result.sums || (uintptr_t)result.data % 64 == 0;
      });
}

// All chunks, on as many threads as are worth it.
void run(const Works& works) {
  int64_t chunks = 0, elements = 0;
  for (const auto& work : works) {
    chunks += work->chunks;
    elements += work->elements;
  }
  auto part = [&](int64_t first, int64_t last) {
    int64_t begin = 0;
    for (const auto& work : works) {
      const int64_t end = begin + work->chunks;
      if (first < end && begin < last)
        work->compute(std::max(first, begin) - begin, std::min(last, end) - begin);
      begin = end;
    }
  };
  if (elements > 2 * CHUNK)
    at::parallel_for(0, chunks, 1, part);
  else
    part(0, chunks);
}

// Where a routine's float32 code is not accurate: beyond some |x|, and next to 0.
struct Doubtful {
  float bound, least;

  bool operator()(float x) const {
    const float size = std::abs(x);
    return (size > bound) | ((size < least) & (size > 0));
  }
};

// Tensors hold S, kernels compute with T.
template <typename S, typename T>
struct Call final : Work {
  static constexpr bool is_wide = std::is_same_v<T, double>;
  static constexpr bool is_same = std::is_same_v<S, T>;

  Function<T> function;
  Doubtful doubtful;
  bool has_doubtful;
  std::shared_ptr<const Piecewise> pieces;  // null where the code computes everything
  std::optional<Evaluator<float>> by_polynomials;  // of these pieces
  bool streams = false;  // whether values bypass the caches
  int64_t chunk = CHUNK;  // elements of one

  template <typename... Rest>
  explicit Call(const Kernel& kernel, Routine routine, Rest&&... rest)
      : Work(kernel, routine, std::forward<Rest>(rest)...),
        function(fitting(kernel, routine)),
        doubtful{static_cast<float>(kernel.bound[routine]), static_cast<float>(kernel.least[routine])},
        has_doubtful(
            !is_wide && function &&
            (doubtful.bound < std::numeric_limits<float>::infinity() || doubtful.least > 0)) {
    int64_t most = 1;
    for (const auto& result : results) most = std::max(most, result.sums);
    chunk = std::max(chunk, (most + BLOCK - 1) / BLOCK * BLOCK * 8);
    chunks = (elements + chunk - 1) / chunk;
    for (auto& result : results) result.partial.assign(chunks * result.sums, 0.0);
    if (!is_wide) pieces = fitting_pieces();
    streams = can_stream(results, elements * sizeof(S));
    if (pieces) by_polynomials.emplace(*pieces, routine == BACKWARD, is_same && streams);
  }

  std::shared_ptr<const Piecewise> fitting_pieces() const {
    std::vector<float> parameters;
    if (kernel.is_scaled) {
      auto found = polynomials(kernel, routine, parameters, elements);
      const T* b = (const T*)arguments.back().data;
      const bool serves = found && std::all_of(b, b + arguments.back().view.span(), [&](T b) {
        return found->serves(b);
      });
      return serves ? found : nullptr;
    }
    for (const Argument& argument : arguments)
      if (argument.is_parameter) {
        if (!argument.view.constant()) return nullptr;
        parameters.push_back(*(const T*)argument.data);
      }
    return polynomials(kernel, routine, parameters, elements);
  }

  static Function<T> fitting(const Kernel& kernel, Routine routine) {
    if constexpr (is_wide)
      return wide_function(kernel, routine);
    else
      return single_function(kernel, routine);
  }

  void compute(int64_t first, int64_t last) override {
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
      if (arguments[k].is_parameter && arguments[k].view.repeats(BLOCK))
        arguments[k].view.read((const T*)arguments[k].data, 0, std::min(BLOCK, elements), buffer);
    }
    for (int64_t c = first; c < last; ++c) {
      const int64_t end = std::min(elements, (c + 1) * chunk);
      int failures = 0;
      for (int64_t begin = c * chunk; begin < end; begin += BLOCK) {
        const int64_t n = std::min(BLOCK, end - begin);
        const int64_t padded = (n + LANES - 1) / LANES * LANES;
        for (int64_t k = 0; k < reads; ++k)
          in[k] = read(arguments[k], begin, n, padded, buffers + k * BLOCK);
        const bool is_direct = is_same && n == padded && (pieces || !streams);
        for (int64_t k = 0; k < writes; ++k)
          out[k] = is_direct && !results[k].sums
              ? (T*)results[k].data + begin
              : buffers + (reads + k) * BLOCK;
        bool is_done = false;
        if constexpr (!is_wide)
          if (pieces && failures < MOST_FAILURES) {
            is_done = evaluate(padded, in, out, wide_memory);
            failures += !is_done;
          }
        if (!is_done) compute(padded, in, out, wide_memory);
        for (int64_t k = 0; k < writes; ++k) write(results[k], c, begin, n, out[k]);
      }
    }
    if (streams) arrive();
  }

  const T* read(
      const Argument& argument, int64_t begin, int64_t n, int64_t padded, T* buffer) const {
    if (argument.is_parameter) {
      if (n == BLOCK && argument.view.repeats(BLOCK)) return buffer;
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
    S* to = (S*)result.data + begin;
    if (result.sums)
      result.view.add(from, begin, n, result.partial.data() + chunk * result.sums);
    else if (streams && n == BLOCK && from != (const T*)to)
      stream_converted(from, to);
    else if (from != (const T*)to)
      convert(from, to, n);
  }

  static void stream_converted(const T* from, S* to) {
    S narrow[BLOCK];
    if constexpr (!is_same) convert(from, narrow, BLOCK);
    stream(is_same ? (const S*)from : narrow, to, BLOCK);
  }

  // A block of n elements, a multiple of WIDTH.
  void compute(int64_t n, const T* const* in, T* const* out, std::vector<double>& memory) const {
    if constexpr (is_wide) {
      function(n, in, out);
    } else {
      Missing missing;
      if (has_doubtful) find_doubtful(n, in, missing);
      if (!function || missing.are_many(n) || function(n, in, out))
        compute_wide(n, in, out, memory);
      else if (missing.count)
        compute_apart(missing, in, out, [&](int64_t few, auto given, auto found) {
          compute_wide(few, given, found, memory);
        });
    }
  }

  // Where in a block of n elements an input is doubtful.
  void find_doubtful(int64_t n, const float* const* in, Missing& found) const {
#ifdef __AVX512F__
    const __m512 bound = _mm512_set1_ps(doubtful.bound), least = _mm512_set1_ps(doubtful.least);
    uint16_t which[BLOCK / 16] = {};
    uint16_t any = 0;
    for (size_t k = 0; k < arguments.size(); ++k)
      if (arguments[k].is_input)
        for (int64_t i = 0; i < n / 16; ++i) {
          const __m512 size = _mm512_abs_ps(_mm512_loadu_ps(in[k] + 16 * i));
          const __mmask16 is_small = _mm512_cmp_ps_mask(size, least, _CMP_LT_OQ);
          which[i] |= _mm512_cmp_ps_mask(size, bound, _CMP_GT_OQ) |
              _mm512_mask_cmp_ps_mask(is_small, size, _mm512_setzero_ps(), _CMP_GT_OQ);
          any |= which[i];
        }
    if (!any) return;
    int64_t count = 0;
    for (int64_t i = 0; i < n / 16; ++i)
      count = found.enter(count, which[i], 16 * i, lanes<float>(0));
    found.count = count;
#else
    for (int64_t i = 0; i < n; ++i) {
      bool is_doubtful = false;
      for (size_t k = 0; k < arguments.size(); ++k)
        is_doubtful |= arguments[k].is_input && doubtful(in[k][i]);
      found.places[found.count] = int32_t(i);
      found.count += is_doubtful;
    }
#endif
  }

  // The same by polynomials; false where they are not worth it.
  bool evaluate(
      int64_t n, const float* const* in, float* const* out, std::vector<double>& memory) const {
    Missing missing;
    const bool with_dy = routine == BACKWARD;
    const float* dy = with_dy ? in[0] : nullptr;
    const float *x = in[with_dy], *b = in[arguments.size() - 1];
    (*by_polynomials)({dy, x, b}, out, n, &missing);
    if (missing.are_many(n)) return false;
    if (!missing.count) return true;
    compute_apart(missing, in, out, [&](int64_t few, auto given, auto found) {
      compute(few, given, found, memory);
    });
    return true;
  }

  // Some elements of a block, copied from it and back. One use may lie inside of another: each has
  // its own memory.
  template <typename Compute>
  void compute_apart(
      const Missing& missing, const T* const* in, T* const* out, Compute compute) const {
    const int32_t* places = missing.places;
    const int64_t count = missing.count;
    const int64_t reads = arguments.size(), writes = results.size();
    const int64_t padded = (count + WIDTH - 1) / WIDTH * WIDTH;
    static thread_local std::vector<T> rows;
    rows.resize(std::max<size_t>(rows.size(), (reads + writes) * BLOCK));
    const T* given[MOST];
    T* found[MOST];
    for (int64_t k = 0; k < reads; ++k) {
      if (arguments[k].is_parameter && arguments[k].view.constant()) {
        given[k] = in[k];
        continue;
      }
      T* row = rows.data() + k * BLOCK;
      const T* from = in[k];
      for (int64_t i = 0; i < count; ++i) row[i] = from[places[i]];
      std::fill(row + count, row + padded, row[0]);
      given[k] = row;
    }
    for (int64_t k = 0; k < writes; ++k) found[k] = rows.data() + (reads + k) * BLOCK;
    compute(padded, given, found);
    for (int64_t k = 0; k < writes; ++k) {
      const T* from = found[k];
      T* to = out[k];
      for (int64_t i = 0; i < count; ++i) to[places[i]] = from[i];
    }
  }

  // In float64.
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
