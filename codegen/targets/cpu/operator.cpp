// The operators of the target `cpu`, built once for a machine: `actsearch::activation`,
// `actsearch::population` and their two derivatives, for every kernel that is registered with them.
//
// A kernel is a C function over arrays of at most BLOCK elements, a multiple of LANES. The operator
// brings every argument into such arrays, whatever its layout and type: tensors are read in the
// memory order of the result, a parameter is read like a tensor that does not advance, half types
// are computed in float32. Where float32 is not accurate enough, which the kernel or its bound says,
// a block is computed again in float64, by code that is built when it is first needed. What a
// parameter gets is summed in float64 over chunks of a fixed size, in order, so that the result does
// not depend on the number of threads.
//
// A population applies K kernels to the K slices of its tensors; its variables are the inputs, then
// the parameters of each kernel.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "routines.h"

namespace {

// An activation is called by a kernel's number, a population by several.
template <typename Number>
Tensor forward(TensorList variables, Number number) {
  const Kernels kernels(number);
  check(kernels, variables);
  return Calculation(kernels, FORWARD, variables[0])({}, nullptr, variables)[0];
}

template <typename Number>
std::vector<Tensor> backward(const Tensor& dy, TensorList variables, Number number) {
  const Kernels kernels(number);
  check(kernels, variables);
  return Calculation(kernels, BACKWARD, variables[0])({}, &dy, variables);
}

template <typename Number>
std::vector<Tensor> double_backward(
    TensorList weights, const Tensor& dy, TensorList variables, Number number) {
  const Kernels kernels(number);
  check(kernels, variables);
  return Calculation(kernels, DOUBLE_BACKWARD, variables[0])(weights, &dy, variables);
}

// ---- derivatives

template <typename Signature>
auto found(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

template <typename Number>
constexpr bool is_population = std::is_same_v<Number, IntArrayRef>;

template <typename Number>
Tensor call_forward(TensorList variables, Number number) {
  static auto op = found<Tensor(TensorList, Number)>(
      is_population<Number> ? "actsearch::population" : "actsearch::activation");
  return op.call(variables, number);
}

template <typename Number>
std::vector<Tensor> call_backward(const Tensor& dy, TensorList variables, Number number) {
  static auto op = found<std::vector<Tensor>(const Tensor&, TensorList, Number)>(
      is_population<Number> ? "actsearch::population_backward" : "actsearch::activation_backward");
  return op.call(dy, variables, number);
}

template <typename Number>
std::vector<Tensor> call_double_backward(
    TensorList weights, const Tensor& dy, TensorList variables, Number number) {
  static auto op = found<std::vector<Tensor>(TensorList, const Tensor&, TensorList, Number)>(
      is_population<Number> ? "actsearch::population_double_backward"
                            : "actsearch::activation_double_backward");
  return op.call(weights, dy, variables, number);
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a number is while it is saved.
template <typename Number>
auto saved_number(AutogradContext* ctx) {
  const c10::IValue& saved = ctx->saved_data["number"];
  if constexpr (is_population<Number>)
    return saved.toIntVector();
  else
    return saved.toInt();
}

template <typename Number>
struct Gradient : torch::autograd::Function<Gradient<Number>> {
  static variable_list forward(
      AutogradContext* ctx, const Tensor& dy, TensorList variables, Number number) {
    at::AutoDispatchBelowADInplaceOrView guard;
    variable_list saved{dy};
    saved.insert(saved.end(), variables.begin(), variables.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["number"] = number;
    return call_backward(dy, variables, number);
  }
  static variable_list backward(AutogradContext* ctx, variable_list weights) {
    const auto saved = ctx->get_saved_variables();
    const auto number = saved_number<Number>(ctx);
    auto found = call_double_backward<Number>(weights, saved[0], TensorList(saved).slice(1), number);
    found.emplace_back();
    return found;
  }
};

template <typename Number>
struct Activation : torch::autograd::Function<Activation<Number>> {
  static Tensor forward(AutogradContext* ctx, TensorList variables, Number number) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward(variables.vec());
    ctx->saved_data["number"] = number;
    return call_forward(variables, number);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    const auto number = saved_number<Number>(ctx);
    auto found = call_backward<Number>(dy[0], ctx->get_saved_variables(), number);
    found.emplace_back();
    return found;
  }
};

bool is_recorded(TensorList tensors) {
  return at::GradMode::is_enabled() &&
      std::any_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return t.requires_grad(); });
}

template <typename Number>
Tensor recorded_forward(TensorList variables, Number number) {
  if (is_recorded(variables)) return Activation<Number>::apply(variables, number);
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_forward(variables, number);
}

template <typename Number>
std::vector<Tensor> recorded_backward(const Tensor& dy, TensorList variables, Number number) {
  if (is_recorded(variables) || is_recorded(dy))
    return Gradient<Number>::apply(dy, variables, number);
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_backward(dy, variables, number);
}

template <typename Number>
std::vector<Tensor> recorded_double_backward(
    TensorList weights, const Tensor& dy, TensorList variables, Number number) {
  TORCH_CHECK(
      !is_recorded(weights) && !is_recorded(dy) && !is_recorded(variables),
      "the target cpu has no third derivatives; the target torch has");
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_double_backward(weights, dy, variables, number);
}

TORCH_LIBRARY(actsearch, m) {
  m.def("activation(Tensor[] variables, int kernel) -> Tensor");
  m.def("activation_backward(Tensor dy, Tensor[] variables, int kernel) -> Tensor[]");
  m.def(
      "activation_double_backward(Tensor[] weights, Tensor dy, Tensor[] variables, int kernel) "
      "-> Tensor[]");
  m.def("population(Tensor[] variables, int[] kernels) -> Tensor");
  m.def("population_backward(Tensor dy, Tensor[] variables, int[] kernels) -> Tensor[]");
  m.def(
      "population_double_backward(Tensor[] weights, Tensor dy, Tensor[] variables, int[] kernels) "
      "-> Tensor[]");
}
TORCH_LIBRARY_IMPL(actsearch, CPU, m) {
  m.impl("activation", forward<int64_t>);
  m.impl("activation_backward", backward<int64_t>);
  m.impl("activation_double_backward", double_backward<int64_t>);
  m.impl("population", forward<IntArrayRef>);
  m.impl("population_backward", backward<IntArrayRef>);
  m.impl("population_double_backward", double_backward<IntArrayRef>);
}
TORCH_LIBRARY_IMPL(actsearch, Autograd, m) {
  m.impl("activation", recorded_forward<int64_t>);
  m.impl("activation_backward", recorded_backward<int64_t>);
  m.impl("activation_double_backward", recorded_double_backward<int64_t>);
  m.impl("population", recorded_forward<IntArrayRef>);
  m.impl("population_backward", recorded_backward<IntArrayRef>);
  m.impl("population_double_backward", recorded_double_backward<IntArrayRef>);
}

}  // namespace

#include "binding.h"

// ---- what Python calls to register kernels

extern "C" {

void actsearch_builder(int (*callback)(const int64_t*, int64_t, int, int)) { builder = callback; }

void actsearch_coster(double (*callback)(int64_t, int, int)) { coster = callback; }

void actsearch_declare(
    int64_t id, int64_t inputs, int64_t parameters, const int64_t* dimensions,
    const float* initial, int is_scaled, int degree) {
  auto kernel = std::make_unique<Kernel>();
  kernel->id = id;
  kernel->inputs = inputs;
  kernel->dimensions.assign(dimensions, dimensions + parameters);
  kernel->initial.assign(initial, initial + parameters);
  kernel->is_scaled = is_scaled;
  kernel->degree = degree;
  std::unique_lock<std::shared_mutex> guard(lock);
  kernels.emplace(id, std::move(kernel));
}

int64_t actsearch_inputs(int64_t id) { return find(id).inputs; }

void actsearch_register_single(
    int64_t id, int routine, void* function, double bound, double least) {
  Kernel& kernel = find(id);
  kernel.single[routine] = function;
  kernel.bound[routine] = bound;
  kernel.least[routine] = least;
  kernel.measured[routine] = true;
}

void actsearch_register_wide(int64_t id, int routine, void* function) {
  find(id).wide[routine] = function;
}

// The share of a logistic distribution that a routine's polynomials are accurate for; 0 where the
// code computes all of so many elements.
double actsearch_covered(int64_t id, int routine, int64_t elements, const float* parameters) {
  const Kernel& kernel = find(id);
  std::vector<float> given;
  if (!kernel.is_scaled) given.assign(parameters, parameters + kernel.dimensions.size());
  const auto pieces = polynomials(kernel, Routine(routine), given, elements);
  return pieces ? pieces->share : 0;
}
}
