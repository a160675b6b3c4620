// The kernels of a process, by number, and their compiled routines.

#pragma once

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

namespace {

constexpr int64_t BLOCK = 1024;           // most elements that a kernel is called with
constexpr int64_t WIDTH = 16;             // their number is a multiple of this
constexpr int64_t LANES = 64;             // the same, where polynomials take its place
constexpr int64_t CHUNK = 16 * BLOCK;     // elements that one thread computes at a time
constexpr int64_t STREAMED = 1 << 24;     // bytes from which on a result bypasses the caches
constexpr int64_t SHARED = std::numeric_limits<int64_t>::min();
constexpr int MOST = 128;                 // arguments or results of a routine
constexpr int DEEP = 64;                  // dimensions of a tensor

enum Routine { FORWARD, BACKWARD, DOUBLE_BACKWARD, ROUTINES };

template <typename T>
using Function = int (*)(long, const T* const*, T* const*);

struct Piecewise;

// The polynomials of a routine: what they were fitted to last, and whether they are used at all.
struct Fits {
  std::mutex lock;
  double cost = -1;  // instructions an element of the routine's code; 0: no polynomials, -1: not known
  double wide_cost = -1;  // of that in float64, to which they are fitted
  int shape = -1;    // of the polynomials that suit the initial parameters; -1: not known
  double share = 0;     // of numbers, that those are accurate for
  double expected = 0;  // instructions an element that they take
  double again = 0;     // instructions in all, that fitting takes
  std::vector<float> parameters;
  std::shared_ptr<const Piecewise> pieces;  // null where they are not worth it
  bool are_known = false;                   // whether the last two are
};

struct Kernel {
  int64_t id = 0;
  int64_t inputs = 1;
  std::vector<int64_t> dimensions;  // of the parameters; SHARED for one that has a single value
  std::vector<float> initial;       // values of the parameters
  bool is_scaled = false;           // whether f(c*x, b/c) = c^degree*f(x, b) for its only parameter
  int degree = 0;
  std::atomic<bool> measured[ROUTINES] = {};  // whether the next three are known
  void* single[ROUTINES] = {};                // null where only float64 is accurate
  double bound[ROUTINES] = {};                // |x| up to which `single` holds
  double least[ROUTINES] = {};                // from which on, but for 0 itself
  std::atomic<void*> wide[ROUTINES] = {};     // null until it is built
  mutable std::atomic<const void*> tables[ROUTINES][2] = {};  // of float16 and bfloat16
  mutable std::atomic<const Piecewise*> checked[ROUTINES][2] = {};  // polynomials instead of those
  mutable Fits fits[ROUTINES];
};

std::shared_mutex lock;
std::unordered_map<int64_t, std::unique_ptr<Kernel>> kernels;

// Builds a routine of kernels, for float64 or not, and registers it; 0 where it failed.
int (*builder)(const int64_t* ids, int64_t count, int routine, int is_wide) = nullptr;

// Instructions an element of a routine's float32 code; 0 where polynomials could miss some of its
// features, -1 where it failed.
double (*coster)(int64_t id, int routine, int is_wide) = nullptr;

Kernel& find(int64_t id) {
  std::shared_lock<std::shared_mutex> guard(lock);
  auto place = kernels.find(id);
  TORCH_CHECK(place != kernels.end(), "no activation kernel ", id, " is loaded in this process");
  return *place->second;
}

// What is not there yet is built in one go.
void require(c10::ArrayRef<const Kernel*> kernels, Routine routine, bool is_wide) {
  std::vector<int64_t> missing;
  for (const Kernel* kernel : kernels)
    if (is_wide ? !kernel->wide[routine] : !kernel->measured[routine])
      missing.push_back(kernel->id);
  TORCH_CHECK(
      missing.empty() || (builder && builder(missing.data(), missing.size(), routine, is_wide)),
      "the C code of an activation could not be built");
}

Function<float> single_function(const Kernel& kernel, Routine routine) {
  require(&kernel, routine, false);
  return (Function<float>)kernel.single[routine];
}

Function<double> wide_function(const Kernel& kernel, Routine routine) {
  require(&kernel, routine, true);
  return (Function<double>)kernel.wide[routine].load();
}

}  // namespace
