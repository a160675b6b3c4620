// The operator of the target `cpu`, built once for a machine: `actsearch::activation` and its two
// derivatives, for every kernel that is registered with it.
//
// A kernel is a C function over arrays of at most BLOCK elements, a multiple of LANES. The operator
// brings every argument into such arrays, whatever its layout and type: tensors are read in the
// memory order of the result, a parameter is read like a tensor that does not advance, half types
// are computed in float32. Where float32 is not accurate enough, which the kernel or its bound says,
// a block is computed again in float64, by code that is built when it is first needed. What a parameter gets is summed in float64 over chunks of a fixed size, in order, so
// that the result does not depend on the number of threads.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <torch/csrc/autograd/custom_function.h>
#include <c10/util/SmallVector.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace {

using at::Tensor;
using at::TensorList;

constexpr int64_t BLOCK = 1024;           // most elements that a kernel is called with
constexpr int64_t LANES = 16;             // their number is a multiple of this
constexpr int64_t CHUNK = 16 * BLOCK;     // elements that one thread computes at a time
constexpr int64_t STREAMED = 4 << 20;     // bytes from which on results bypass the caches
constexpr int MOST = 128;                 // arguments or results of a routine
constexpr int DEEP = 64;                  // dimensions of a tensor

enum Routine { FORWARD, BACKWARD, DOUBLE_BACKWARD, ROUTINES };

template <typename T>
using Function = int (*)(long, const T* const*, T* const*);

struct Kernel {
  int64_t id = 0;
  int64_t inputs = 1;
  std::vector<int64_t> dimensions;  // of the parameters
  std::atomic<bool> measured[ROUTINES] = {};  // whether the next two are known
  void* single[ROUTINES] = {};                // null where only float64 is accurate
  double bound[ROUTINES] = {};                // |x| up to which `single` holds
  std::atomic<void*> wide[ROUTINES] = {};     // null until it is built
};

std::shared_mutex lock;
std::unordered_map<int64_t, std::unique_ptr<Kernel>> kernels;

// Builds a routine of a kernel, for float64 or not, and registers it; 0 where it failed.
int (*builder)(int64_t, int, int) = nullptr;

Kernel& find(int64_t id) {
  std::shared_lock<std::shared_mutex> guard(lock);
  auto place = kernels.find(id);
  TORCH_CHECK(place != kernels.end(), "no activation kernel ", id, " is loaded in this process");
  return *place->second;
}

void build(const Kernel& kernel, Routine routine, bool is_wide) {
  TORCH_CHECK(
      builder && builder(kernel.id, routine, is_wide),
      "the C code of an activation could not be built");
}

Function<float> single_function(const Kernel& kernel, Routine routine) {
  if (!kernel.measured[routine]) build(kernel, routine, false);
  return (Function<float>)kernel.single[routine];
}

Function<double> wide_function(const Kernel& kernel, Routine routine) {
  if (!kernel.wide[routine]) build(kernel, routine, true);
  return (Function<double>)kernel.wide[routine].load();
}

// ---- conversion of blocks

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

// A copy that leaves the caches to others; `to` is aligned.
void stream(const void* from, void* to, int64_t bytes) {
  int64_t done = 0;
#ifdef __AVX512F__
  for (; done + 64 <= bytes; done += 64)
    _mm512_stream_si512((__m512i*)((char*)to + done), _mm512_loadu_si512((const char*)from + done));
#elif defined(__AVX__)
  for (; done + 32 <= bytes; done += 32)
    _mm256_stream_si256(
        (__m256i*)((char*)to + done), _mm256_loadu_si256((const __m256i*)((const char*)from + done)));
#endif
  std::memcpy((char*)to + done, (const char*)from + done, bytes - done);
}

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
        std::fill(to + place, to + place + length, static_cast<T>(from[offset]));
      else
        for (int64_t i = 0; i < length; ++i)
          to[place + i] = static_cast<T>(from[offset + i * stride]);
    });
  }

  template <typename T>
  void add(const T* contributions, int64_t begin, int64_t n, double* total) const {
    runs(begin, n, [&](int64_t offset, int64_t stride, int64_t place, int64_t length) {
      const T* from = contributions + place;
      if (stride == 0) {
        double lanes[16] = {}, sum = 0;
        int64_t i = 0;
        for (; i + 16 <= length; i += 16)
          for (int lane = 0; lane < 16; ++lane) lanes[lane] += from[i + lane];
        for (; i < length; ++i) sum += from[i];
        for (double lane : lanes) sum += lane;
        total[offset] += sum;
      } else {
        for (int64_t i = 0; i < length; ++i) total[offset + i] += from[i];
      }
    });
  }
};

// ---- one call of a routine

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
    if (chunks > 2)
      at::parallel_for(0, chunks, 1, work);
    else
      work(0, chunks);
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
#ifdef __x86_64__
    if (streams) _mm_sfence();
#endif
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

// ---- tensors

std::vector<int64_t> memory_order(const Tensor& y) {
  std::vector<int64_t> order(y.dim());
  for (int64_t d = 0; d < y.dim(); ++d) order[d] = d;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return y.stride(a) > y.stride(b);
  });
  return order;
}

void check_parameter(const Tensor& parameter, int64_t dimension, const Tensor& x) {
  if (parameter.numel() == 1) return;
  const bool inside = -x.dim() <= dimension && dimension < x.dim();
  TORCH_CHECK_VALUE(
      parameter.dim() == 1 && inside && x.size(dimension) == parameter.numel(),
      "a parameter of shape ", parameter.sizes(), " does not fit dimension ", dimension,
      " of an input of shape ", x.sizes());
}

void check(const Kernel& kernel, TensorList variables) {
  TORCH_CHECK_VALUE(
      int64_t(variables.size()) == kernel.inputs + int64_t(kernel.dimensions.size()),
      "expected ", kernel.inputs + kernel.dimensions.size(), " tensors, got ", variables.size());
  const Tensor& x = variables[0];
  const auto type = x.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16,
      "expected a floating-point tensor, got ", type, " of shape ", x.sizes());
  if (kernel.inputs == 2) {
    const Tensor& gate = variables[1];
    TORCH_CHECK_VALUE(
        gate.sizes() == x.sizes() && gate.scalar_type() == type, "x and gate must be alike, got ",
        type, " of shape ", x.sizes(), " and ", gate.scalar_type(), " of shape ", gate.sizes());
  }
  for (size_t k = 0; k < kernel.dimensions.size(); ++k)
    check_parameter(variables[kernel.inputs + k], kernel.dimensions[k], x);
}

// A parameter's strides when it is spread over x.
std::vector<int64_t> spread(const Tensor& parameter, int64_t dimension, const Tensor& x) {
  std::vector<int64_t> strides(x.dim(), 0);
  if (parameter.numel() > 1) strides[(dimension + x.dim()) % x.dim()] = 1;
  return strides;
}

struct Slot {  // one argument or result of a routine
  Tensor tensor;
  int64_t parameter;      // its number, or -1 for one of x's shape
  bool is_input = false;  // x or gate
};

// What a routine computes from its arguments; results are made like the tensors of `likes`.
std::vector<Tensor> apply(
    int64_t id, Routine routine, const Tensor& x, const std::vector<Slot>& reads,
    const std::vector<Slot>& likes) {
  const Kernel& kernel = find(id);
  const auto type = x.scalar_type();
  const auto computed = type == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor y = at::empty_like(x);
  const auto order = memory_order(y);
  std::vector<Tensor> kept, found;
  std::vector<Argument> arguments;
  std::vector<Result> results;
  kept.reserve(reads.size());
  arguments.reserve(reads.size());
  found.reserve(likes.size());
  results.reserve(likes.size());
  for (const auto& [tensor, parameter, is_input] : reads) {
    if (parameter < 0) {
      kept.push_back(tensor.scalar_type() == type ? tensor : tensor.to(type));
      arguments.push_back({View(x.sizes(), kept.back().strides(), order),
                           kept.back().const_data_ptr(), false, is_input});
    } else {
      kept.push_back(tensor.scalar_type() == computed ? tensor : tensor.to(computed));
      kept.back() = kept.back().contiguous();
      arguments.push_back({View(x.sizes(), spread(tensor, kernel.dimensions[parameter], x), order),
                           kept.back().const_data_ptr(), true, false});
    }
  }
  for (const auto& [tensor, parameter, unused] : likes) {
    if (parameter < 0) {
      found.push_back(found.empty() ? y : at::empty_strided(y.sizes(), y.strides(), y.options()));
      results.push_back({View(x.sizes(), y.strides(), order), found.back().mutable_data_ptr()});
    } else {
      found.push_back(at::empty_like(tensor));
      results.push_back({View(x.sizes(), spread(tensor, kernel.dimensions[parameter], x), order),
                         nullptr, tensor.numel()});
    }
  }
  if (x.numel() > 0) {
    if (type == at::kDouble)
      Call<double, double>(kernel, routine, arguments, results, x.numel()).run();
    else if (type == at::kFloat)
      Call<float, float>(kernel, routine, arguments, results, x.numel()).run();
    else if (type == at::kHalf)
      Call<at::Half, float>(kernel, routine, arguments, results, x.numel()).run();
    else
      Call<at::BFloat16, float>(kernel, routine, arguments, results, x.numel()).run();
  }
  for (size_t k = 0; k < results.size(); ++k) {
    const auto& result = results[k];
    if (!result.sums) continue;
    Tensor sums = at::empty(found[k].sizes(), found[k].options().dtype(at::kDouble));
    double* total = sums.mutable_data_ptr<double>();
    std::fill(total, total + result.sums, 0.0);
    for (size_t i = 0; i < result.partial.size(); ++i) total[i % result.sums] += result.partial[i];
    found[k].copy_(sums);
  }
  return found;
}

// One slot for each input and parameter.
std::vector<Slot> slots(const Kernel& kernel, TensorList tensors, bool are_variables = true) {
  std::vector<Slot> found;
  for (int64_t k = 0; k < int64_t(tensors.size()); ++k) {
    const bool is_input = k < kernel.inputs;
    found.push_back({tensors[k], is_input ? -1 : k - kernel.inputs, is_input && are_variables});
  }
  return found;
}

Tensor forward(TensorList variables, int64_t id) {
  const Kernel& kernel = find(id);
  check(kernel, variables);
  const Tensor& x = variables[0];
  return apply(id, FORWARD, x, slots(kernel, variables), {{x, -1}})[0];
}

std::vector<Tensor> backward(const Tensor& dy, TensorList variables, int64_t id) {
  const Kernel& kernel = find(id);
  check(kernel, variables);
  const auto likes = slots(kernel, variables);
  std::vector<Slot> reads{{dy, -1}};
  reads.insert(reads.end(), likes.begin(), likes.end());
  return apply(id, BACKWARD, variables[0], reads, likes);
}

std::vector<Tensor> double_backward(
    TensorList weights, const Tensor& dy, TensorList variables, int64_t id) {
  const Kernel& kernel = find(id);
  check(kernel, variables);
  std::vector<Slot> likes{{dy, -1}}, reads = slots(kernel, weights, false);
  for (const Slot& slot : slots(kernel, variables)) likes.push_back(slot);
  reads.insert(reads.end(), likes.begin(), likes.end());
  return apply(id, DOUBLE_BACKWARD, variables[0], reads, likes);
}

// ---- derivatives

Tensor call_forward(TensorList variables, int64_t id) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("actsearch::activation", "")
                       .typed<Tensor(TensorList, int64_t)>();
  return op.call(variables, id);
}

std::vector<Tensor> call_backward(const Tensor& dy, TensorList variables, int64_t id) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("actsearch::activation_backward", "")
                       .typed<std::vector<Tensor>(const Tensor&, TensorList, int64_t)>();
  return op.call(dy, variables, id);
}

std::vector<Tensor> call_double_backward(
    TensorList weights, const Tensor& dy, TensorList variables, int64_t id) {
  static auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("actsearch::activation_double_backward", "")
          .typed<std::vector<Tensor>(TensorList, const Tensor&, TensorList, int64_t)>();
  return op.call(weights, dy, variables, id);
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Gradient : torch::autograd::Function<Gradient> {
  static variable_list forward(
      AutogradContext* ctx, const Tensor& dy, TensorList variables, int64_t id) {
    at::AutoDispatchBelowADInplaceOrView guard;
    variable_list saved{dy};
    saved.insert(saved.end(), variables.begin(), variables.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["kernel"] = id;
    return call_backward(dy, variables, id);
  }
  static variable_list backward(AutogradContext* ctx, variable_list weights) {
    const auto saved = ctx->get_saved_variables();
    const auto variables = TensorList(saved).slice(1);
    auto found =
        call_double_backward(weights, saved[0], variables, ctx->saved_data["kernel"].toInt());
    found.emplace_back();
    return found;
  }
};

struct Activation : torch::autograd::Function<Activation> {
  static Tensor forward(AutogradContext* ctx, TensorList variables, int64_t id) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward(variables.vec());
    ctx->saved_data["kernel"] = id;
    return call_forward(variables, id);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    auto found =
        call_backward(dy[0], ctx->get_saved_variables(), ctx->saved_data["kernel"].toInt());
    found.emplace_back();
    return found;
  }
};

bool is_recorded(TensorList tensors) {
  return at::GradMode::is_enabled() &&
      std::any_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return t.requires_grad(); });
}

Tensor recorded_forward(TensorList variables, int64_t id) {
  if (is_recorded(variables)) return Activation::apply(variables, id);
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_forward(variables, id);
}

std::vector<Tensor> recorded_backward(const Tensor& dy, TensorList variables, int64_t id) {
  if (is_recorded(variables) || is_recorded(dy)) return Gradient::apply(dy, variables, id);
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_backward(dy, variables, id);
}

std::vector<Tensor> recorded_double_backward(
    TensorList weights, const Tensor& dy, TensorList variables, int64_t id) {
  TORCH_CHECK(
      !is_recorded(weights) && !is_recorded(dy) && !is_recorded(variables),
      "the target cpu has no third derivatives; the target torch has");
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_double_backward(weights, dy, variables, id);
}

TORCH_LIBRARY(actsearch, m) {
  m.def("activation(Tensor[] variables, int kernel) -> Tensor");
  m.def("activation_backward(Tensor dy, Tensor[] variables, int kernel) -> Tensor[]");
  m.def(
      "activation_double_backward(Tensor[] weights, Tensor dy, Tensor[] variables, int kernel) "
      "-> Tensor[]");
}
TORCH_LIBRARY_IMPL(actsearch, CPU, m) {
  m.impl("activation", forward);
  m.impl("activation_backward", backward);
  m.impl("activation_double_backward", double_backward);
}
TORCH_LIBRARY_IMPL(actsearch, Autograd, m) {
  m.impl("activation", recorded_forward);
  m.impl("activation_backward", recorded_backward);
  m.impl("activation_double_backward", recorded_double_backward);
}

}  // namespace

// ---- what Python calls to register kernels

extern "C" {

void actsearch_builder(int (*callback)(int64_t, int, int)) { builder = callback; }

void actsearch_declare(
    int64_t id, int64_t inputs, int64_t parameters, const int64_t* dimensions) {
  auto kernel = std::make_unique<Kernel>();
  kernel->id = id;
  kernel->inputs = inputs;
  kernel->dimensions.assign(dimensions, dimensions + parameters);
  std::unique_lock<std::shared_mutex> guard(lock);
  kernels.emplace(id, std::move(kernel));
}

void actsearch_register_single(int64_t id, int routine, void* function, double bound) {
  Kernel& kernel = find(id);
  kernel.single[routine] = function;
  kernel.bound[routine] = bound;
  kernel.measured[routine] = true;
}

void actsearch_register_wide(int64_t id, int routine, void* function) {
  find(id).wide[routine] = function;
}
}
