// The operator of the target `cpu`, built once for a machine: `actsearch::activation` and its two
// derivatives, for every kernel that is registered with it.
//
// A kernel is a C function over arrays of at most BLOCK elements, a multiple of LANES. The operator
// brings every argument into such arrays, whatever its layout and type: tensors are read in the
// memory order of the result, a parameter is read like a tensor that does not advance, half types
// are computed in float32. Where float32 is not accurate enough, which the kernel or its bound says,
// a block is computed again in float64, by code that is built when it is first needed. What a parameter gets is summed in float64 over chunks of a fixed size, in order, so
// that the result does not depend on the number of threads.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "half_tables.h"

namespace {

using at::Tensor;
using at::TensorList;

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

template <typename S, typename T>
void compute(
    const Kernel& kernel, Routine routine, const std::vector<Argument>& arguments,
    std::vector<Result>& results, int64_t elements) {
  if (elements == 0) return;
  if constexpr (!std::is_same_v<S, T>)
    if (is_tabulated(kernel, routine))
      return look_up<S>(kernel, routine, arguments, results[0], elements);
  Call<S, T>(kernel, routine, arguments, results, elements).run();
}

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
  if (type == at::kDouble)
    compute<double, double>(kernel, routine, arguments, results, x.numel());
  else if (type == at::kFloat)
    compute<float, float>(kernel, routine, arguments, results, x.numel());
  else if (type == at::kHalf)
    compute<at::Half, float>(kernel, routine, arguments, results, x.numel());
  else
    compute<at::BFloat16, float>(kernel, routine, arguments, results, x.numel());
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
