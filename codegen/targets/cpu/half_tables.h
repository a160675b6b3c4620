// Tables for half types: an activation of one input and no parameters has 65,536 values, and as many
// slopes. They are computed in float64 and rounded once, so that values are correctly rounded.

#pragma once

#include "call.h"

namespace {

constexpr int64_t ALL = 1 << 16;  // numbers of a half type

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

// The table of a routine, made when it is first needed and kept as long as the process lives.
template <typename S, typename T, typename Make>
const T* table(const Kernel& kernel, Routine routine, Make make) {
  static std::mutex making;
  auto& place = kernel.tables[routine][std::is_same_v<S, at::BFloat16>];
  if (!place) {
    std::lock_guard<std::mutex> guard(making);
    if (!place) place = make();
  }
  return static_cast<const T*>(place.load());
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

// Forward: x -> values[x]. Backward: (dy, x) -> dy * slopes[x].
template <typename S>
struct LookUp final : Work {
  const S* value_of;
  const float* slope_of;

  template <typename... Rest>
  explicit LookUp(const Kernel& kernel, Routine routine, Rest&&... rest)
      : Work(kernel, routine, std::forward<Rest>(rest)...),
        value_of(routine == FORWARD ? values<S>(kernel) : nullptr),
        slope_of(routine == BACKWARD ? slopes<S>(kernel) : nullptr) {
    chunks = (elements + CHUNK - 1) / CHUNK;
  }

  void compute(int64_t first, int64_t last) override {
    S x_block[BLOCK], dy_block[BLOCK];
    float wide[BLOCK];
    for (int64_t begin = first * CHUNK; begin < std::min(elements, last * CHUNK); begin += BLOCK) {
      const int64_t n = std::min(BLOCK, elements - begin);
      const S* x = block(arguments.back(), begin, n, x_block);
      S* out = static_cast<S*>(results[0].data) + begin;
      if (routine == FORWARD) {
        for (int64_t i = 0; i < n; ++i) out[i] = value_of[x[i].x];
      } else {
        convert(block(arguments.front(), begin, n, dy_block), wide, n);
        for (int64_t i = 0; i < n; ++i) wide[i] *= slope_of[x[i].x];
        convert(wide, out, n);
      }
    }
  }

  static const S* block(const Argument& argument, int64_t begin, int64_t n, S* buffer) {
    const S* data = static_cast<const S*>(argument.data);
    if (argument.view.contiguous()) return data + begin;
    argument.view.read(data, begin, n, buffer);
    return buffer;
  }
};

}  // namespace
