// Routines on tensors: checks, arguments and results as blocks of one kernel or of several.
//
// Several kernels make a population: each has its own slice along the first dimension of x, and sees
// that slice only.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <ATen/core/Tensor.h>

#include "half_tables.h"

namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

// The kernels of a call: one for whole tensors, or one for each slice.
struct Kernels {
  c10::SmallVector<const Kernel*, 1> each;
  bool is_stacked;

  explicit Kernels(int64_t id) : each{&find(id)}, is_stacked(false) {}
  explicit Kernels(IntArrayRef ids) : is_stacked(true) {
    TORCH_CHECK_VALUE(!ids.empty(), "a population has at least one activation");
    for (int64_t id : ids) each.push_back(&find(id));
    for (const Kernel* kernel : each)
      TORCH_CHECK_VALUE(
          kernel->inputs == inputs(), "a population is gated as a whole or not at all");
  }
  int64_t inputs() const { return each[0]->inputs; }
  IntArrayRef sizes(const Tensor& x) const { return is_stacked ? x.sizes().slice(1) : x.sizes(); }
  IntArrayRef strides(const Tensor& x) const {
    return is_stacked ? x.strides().slice(1) : x.strides();
  }
};

void check_parameter(const Tensor& parameter, int64_t dimension, IntArrayRef sizes) {
  if (parameter.numel() == 1) return;
  TORCH_CHECK_VALUE(
      dimension != SHARED, "a shared parameter has one value, not those of a tensor of shape ",
      parameter.sizes());
  const int64_t dimensions = sizes.size();
  const bool inside = -dimensions <= dimension && dimension < dimensions;
  TORCH_CHECK_VALUE(
      parameter.dim() == 1 && inside &&
          sizes[(dimension + dimensions) % dimensions] == parameter.numel(),
      "a parameter of shape ", parameter.sizes(), " does not fit dimension ", dimension,
      " of an input of shape ", sizes);
}

// Variables are the inputs, then the parameters of each kernel.
void check(const Kernels& kernels, TensorList variables) {
  int64_t expected = kernels.inputs();
  for (const Kernel* kernel : kernels.each) expected += kernel->dimensions.size();
  TORCH_CHECK_VALUE(
      int64_t(variables.size()) == expected, "expected ", expected, " tensors, got ",
      variables.size());
  const Tensor& x = variables[0];
  const auto type = x.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16,
      "expected a floating-point tensor, got ", type, " of shape ", x.sizes());
  const int64_t slices = kernels.each.size();
  TORCH_CHECK_VALUE(
      !kernels.is_stacked || (x.dim() > 0 && x.size(0) == slices), "a population of ", slices,
      " takes a tensor of shape [", slices, ", ...], got ", x.sizes());
  if (kernels.inputs() == 2) {
    const Tensor& gate = variables[1];
    TORCH_CHECK_VALUE(
        gate.sizes() == x.sizes() && gate.scalar_type() == type, "x and gate must be alike, got ",
        type, " of shape ", x.sizes(), " and ", gate.scalar_type(), " of shape ", gate.sizes());
  }
  const Tensor* parameter = &variables[0] + kernels.inputs();
  for (const Kernel* kernel : kernels.each)
    for (int64_t dimension : kernel->dimensions)
      check_parameter(*parameter++, dimension, kernels.sizes(x));
}

// How results lie: slice after slice, each like an empty copy of x's.
c10::DimVector strides_of_results(const Kernels& kernels, const Tensor& x) {
  const Tensor one = kernels.is_stacked ? x.select(0, 0) : x;
  c10::DimVector strides;
  if (one.is_non_overlapping_and_dense())
    strides.assign(one.strides().begin(), one.strides().end());
  else
    for (int64_t stride : at::infer_dense_strides(one.sizes(), one.strides()))
      strides.push_back(stride);
  if (kernels.is_stacked) strides.insert(strides.begin(), one.numel());
  return strides;
}

std::vector<int64_t> memory_order(IntArrayRef strides) {
  std::vector<int64_t> order(strides.size());
  for (size_t d = 0; d < strides.size(); ++d) order[d] = d;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return strides[a] > strides[b];
  });
  return order;
}

template <typename S, typename T>
std::unique_ptr<Work> work(
    const Kernel& kernel, Routine routine, std::vector<Argument> arguments,
    std::vector<Result> results, int64_t elements) {
  if constexpr (!std::is_same_v<S, T>)
    if (is_tabulated(kernel, routine))
      return std::make_unique<LookUp<S>>(
          kernel, routine, std::move(arguments), std::move(results), elements);
  return std::make_unique<Call<S, T>>(
      kernel, routine, std::move(arguments), std::move(results), elements);
}

// What is computed for one call.
class Calculation {
 public:
  Calculation(const Kernels& kernels, Routine routine, const Tensor& x)
      : kernels(kernels),
        routine(routine),
        x(x),
        type(x.scalar_type()),
        computed(type == at::kDouble ? at::kDouble : at::kFloat),
        sizes(kernels.sizes(x)),
        strides(strides_of_results(kernels, x)),
        order(memory_order(IntArrayRef(strides).slice(kernels.is_stacked))),
        slices(kernels.each.size()),
        elements(x.numel() / slices) {}

  // From weights and dy, where the routine reads them, and the variables. There is a result for dy
  // in the double backward routine, and for each variable in both backward routines.
  std::vector<Tensor> operator()(TensorList weights, const Tensor* dy, TensorList variables) {
    const auto given_weights = readable(weights), given = readable(variables);
    const Tensor given_dy = dy ? in_type(*dy) : Tensor();
    const bool doubly = routine == DOUBLE_BACKWARD;
    std::vector<Tensor> found;
    if (routine == FORWARD || doubly) found.push_back(values());
    if (routine != FORWARD)
      for (int64_t k = 0; k < int64_t(variables.size()); ++k)
        found.push_back(k < kernels.inputs() ? values() : at::empty_like(variables[k]));
    if (!elements) {
      for (Tensor& tensor : found) tensor.zero_();
      return found;
    }
    build();
    Works works;
    works.reserve(slices);
    int64_t parameter = kernels.inputs();
    for (int64_t slice = 0; slice < slices; ++slice) {
      const Kernel& kernel = *kernels.each[slice];
      std::vector<Argument> arguments;
      std::vector<Result> results;
      auto read = [&](const std::vector<Tensor>& tensors, bool are_variables) {
        for (int64_t k = 0; k < kernel.inputs; ++k)
          arguments.push_back(argument(tensors[k], slice, are_variables));
        for (size_t k = 0; k < kernel.dimensions.size(); ++k)
          arguments.push_back(spread(tensors[parameter + k], kernel.dimensions[k]));
      };
      if (doubly) read(given_weights, false);
      if (dy) arguments.push_back(argument(given_dy, slice, false));
      read(given, true);
      const int64_t values = routine == FORWARD ? 1 : kernel.inputs + doubly;
      for (int64_t k = 0; k < values; ++k) results.push_back(result(found[k], slice));
      if (routine != FORWARD)
        for (size_t k = 0; k < kernel.dimensions.size(); ++k)
          results.push_back(sums(variables[parameter + k], kernel.dimensions[k]));
      works.push_back(made(kernel, std::move(arguments), std::move(results)));
      parameter += kernel.dimensions.size();
    }
    run(works);
    auto next = found.begin() + (routine == FORWARD ? 1 : kernels.inputs() + doubly);
    for (const auto& work : works)
      for (const auto& result : work->results)
        if (result.sums) total(result, *next++);
    return found;
  }

 private:
  const Kernels& kernels;
  const Routine routine;
  const Tensor& x;
  const at::ScalarType type, computed;
  const IntArrayRef sizes;
  const c10::DimVector strides;
  const std::vector<int64_t> order;
  const int64_t slices, elements;  // elements of a slice

  Tensor in_type(const Tensor& tensor) const {
    return tensor.scalar_type() == type ? tensor : tensor.to(type);
  }

  // Tensors of x's shape in its type, parameters in what is computed with.
  std::vector<Tensor> readable(TensorList tensors) const {
    std::vector<Tensor> found;
    found.reserve(tensors.size());
    for (const Tensor& tensor : tensors) {
      if (int64_t(found.size()) < kernels.inputs())
        found.push_back(in_type(tensor));
      else if (tensor.scalar_type() == computed)
        found.push_back(tensor.contiguous());
      else
        found.push_back(tensor.to(computed).contiguous());
    }
    return found;
  }

  Tensor values() const {
    return Tensor(at::detail::empty_strided_cpu(x.sizes(), strides, type));
  }

  int64_t distance(const Tensor& tensor, int64_t slice) const {  // in bytes
    return kernels.is_stacked ? slice * tensor.stride(0) * tensor.element_size() : 0;
  }

  Argument argument(const Tensor& tensor, int64_t slice, bool is_input) const {
    return {View(sizes, kernels.strides(tensor), order),
            static_cast<const char*>(tensor.const_data_ptr()) + distance(tensor, slice), false,
            is_input};
  }

  // A parameter, as if it were spread over x.
  View view_of(const Tensor& parameter, int64_t dimension) const {
    c10::DimVector spread(sizes.size(), 0);
    if (parameter.numel() > 1) spread[(dimension + sizes.size()) % sizes.size()] = 1;
    return View(sizes, spread, order);
  }

  Argument spread(const Tensor& parameter, int64_t dimension) const {
    return {view_of(parameter, dimension), parameter.const_data_ptr(), true, false};
  }

  Result result(const Tensor& values, int64_t slice) const {
    return {View(sizes, kernels.strides(values), order),
            static_cast<char*>(values.mutable_data_ptr()) + distance(values, slice)};
  }

  Result sums(const Tensor& parameter, int64_t dimension) const {
    return {view_of(parameter, dimension), nullptr, parameter.numel()};
  }

  // The code of all kernels, if it is new; in half types look-up tables take the place of some.
  void build() const {
    c10::SmallVector<const Kernel*, 1> single, wide;
    for (const Kernel* kernel : kernels.each) {
      const bool in_half = type != at::kDouble && type != at::kFloat;
      const bool is_wide = type == at::kDouble || (in_half && is_tabulated(*kernel, routine));
      (is_wide ? wide : single).push_back(kernel);
    }
    require(single, routine, false);
    require(wide, routine, true);
  }

  std::unique_ptr<Work> made(
      const Kernel& kernel, std::vector<Argument> arguments, std::vector<Result> results) const {
    auto with = [&](auto make) {
      return make(kernel, routine, std::move(arguments), std::move(results), elements);
    };
    switch (type) {
      case at::kDouble: return with(work<double, double>);
      case at::kFloat: return with(work<float, float>);
      case at::kHalf: return with(work<at::Half, float>);
      default: return with(work<at::BFloat16, float>);
    }
  }

  // Chunks are added up in order.
  static void total(const Result& result, Tensor& to) {
    std::vector<double> total(result.sums, 0.0);
    for (size_t i = 0; i < result.partial.size(); ++i) total[i % result.sums] += result.partial[i];
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, to.scalar_type(), "activation", [&] {
      scalar_t* data = to.mutable_data_ptr<scalar_t>();
      for (int64_t i = 0; i < result.sums; ++i) data[i] = static_cast<scalar_t>(total[i]);
    });
  }
};

}  // namespace
