// What PyTorch calls. Built by
//
//     activation = torch.utils.cpp_extension.load(
//         "activation", ["activation.cu"], extra_cuda_cflags=["--fmad=false"])
//     y = activation.activation([x, …parameters])  # differentiable once
//
// Parameters have shape (1,) or (C,). A gated activation takes [x, gate, …parameters].

#ifndef DEVICE_TYPE
#define DEVICE_TYPE at::kCUDA
#endif

namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// Length and distance of rows of contiguous elements in the order of y; {0, 0} if not so.
std::pair<int64_t, int64_t> rows_of(const Tensor& tensor, const Tensor& y) {
  if (tensor.strides() == y.strides()) return {y.numel(), y.numel()};
  if (!y.is_contiguous()) return {0, 0};
  int64_t columns = 1, k = tensor.dim();
  while (k && (tensor.size(k - 1) == 1 || tensor.stride(k - 1) == columns)) {
    --k;
    columns *= tensor.size(k);
  }
  if (!k) return {columns, columns};
  const int64_t pitch = tensor.stride(k - 1);
  int64_t distance = pitch;
  for (int64_t d = k - 1; d >= 0; --d) {
    if (tensor.size(d) != 1 && tensor.stride(d) != distance) return {0, 0};
    distance *= tensor.size(d);
  }
  return {columns, pitch};
}

int64_t blocks_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

template <typename T, int WIDTH>
const void* kernel_of(bool is_backward, bool wide, bool by_row) {
  if (is_backward) {
    if (wide)
      return by_row ? (const void*)&backward_kernel<T, WIDTH, true>
                    : (const void*)&backward_kernel<T, WIDTH, false>;
    return by_row ? (const void*)&backward_kernel<T, 1, true>
                  : (const void*)&backward_kernel<T, 1, false>;
  }
  if (wide)
    return by_row ? (const void*)&forward_kernel<T, WIDTH, true>
                  : (const void*)&forward_kernel<T, WIDTH, false>;
  return by_row ? (const void*)&forward_kernel<T, 1, true>
                : (const void*)&forward_kernel<T, 1, false>;
}

void check(const Tensors& variables) {
  TORCH_CHECK_VALUE(
      int64_t(variables.size()) == INPUTS + PARAMETERS, "expected ", INPUTS + PARAMETERS,
      " tensors, got ", variables.size());
  const Tensor& x = variables[0];
  const auto type = x.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16,
      "expected a floating-point tensor, got ", type, " of shape ", x.sizes());
  for (const Tensor& tensor : variables)
    TORCH_CHECK_VALUE(
        tensor.device().type() == DEVICE_TYPE && tensor.device() == x.device(),
        "expected tensors of one GPU, got one of shape ", tensor.sizes(), " on ", tensor.device());
  for (int64_t k = 1; k < INPUTS; ++k)
    TORCH_CHECK_VALUE(
        variables[k].sizes() == x.sizes() && variables[k].scalar_type() == type,
        "x and gate must be alike, got ", type, " of shape ", x.sizes(), " and ",
        variables[k].scalar_type(), " of shape ", variables[k].sizes());
  for (int64_t k = 0; k < PARAMETERS; ++k) {
    const Tensor& parameter = variables[INPUTS + k];
    const int64_t d = DIMENSIONS[k];
    TORCH_CHECK_VALUE(
        parameter.numel() == 1 ||
            (parameter.dim() == 1 && -x.dim() <= d && d < x.dim() &&
             x.size(d) == parameter.numel()),
        "a parameter of shape ", parameter.sizes(), " does not fit dimension ", d,
        " of an input of shape ", x.sizes());
  }
}

// Runs a routine; writes `results`, returns the parameters' gradients if it computes any.
Tensors launch(
    bool is_backward, const Tensors& inputs, const Tensors& parameters, const Tensors& results) {
  const Tensor& y = results[0];
  const auto type = y.scalar_type();
  const auto computed = type == at::kDouble ? at::kDouble : at::kFloat;
  int64_t channels = 1, dimension = 0;
  for (int64_t k = 0; k < PARAMETERS; ++k)
    if (parameters[k].numel() > 1) {
      const int64_t d = (DIMENSIONS[k] + y.dim()) % y.dim();
      TORCH_CHECK_VALUE(
          channels == 1 || dimension == d, "per-channel parameters along dimensions ", dimension,
          " and ", d, ": these kernels take one dimension");
      channels = parameters[k].numel();
      dimension = d;
    }

  // the matrix
  int64_t rows = 1, columns = y.numel(), inner = 0;
  if (channels > 1) {
    columns = y.stride(dimension);
    rows = y.numel() / columns;
    if (columns < 32) {
      inner = columns;
      columns = channels * inner;
      rows = y.numel() / columns;
    }
  } else {
    for (const Tensor& tensor : inputs)
      if (const int64_t length = rows_of(tensor, y).first) columns = std::min(columns, length);
    rows = y.numel() / columns;
  }
  Tensors kept;
  std::vector<int64_t> pitches;
  const int64_t width = 16 / y.element_size();
  bool wide = columns % width == 0;
  for (const Tensor& tensor : inputs) {
    auto [length, pitch] = rows_of(tensor, y);
    kept.push_back(tensor);
    if (length == y.numel()) {
      pitch = columns;
    } else if (length != columns) {
      kept.back() = at::empty_like(y).copy_(tensor);
      pitch = columns;
    }
    pitches.push_back(pitch);
    wide = wide && pitch % width == 0;
  }
  for (const Tensors& tensors : {kept, results})
    for (const Tensor& tensor : tensors) wide = wide && uintptr_t(tensor.data_ptr()) % 16 == 0;

  // the blocks
  const int64_t wanted = blocks_of(columns, wide ? width : 1);
  int shift = 0;
  while ((1 << shift) < std::min<int64_t>(wanted, inner ? std::min(32, THREADS) : THREADS)) ++shift;
  const int64_t lanes = 1 << shift;
  int64_t row_blocks = blocks_of(rows, THREADS / lanes);
  int64_t column_blocks = blocks_of(wanted, lanes);
  const int64_t steps = std::max<int64_t>(1, row_blocks * column_blocks / 2048);
  const int64_t row_steps = inner ? std::min(steps, row_blocks) : 1;
  const int64_t column_steps = inner ? 1 : std::min({steps, int64_t(16), column_blocks});
  row_blocks = blocks_of(row_blocks, row_steps);
  column_blocks = blocks_of(column_blocks, column_steps);
  Sizes sizes{rows, columns, column_blocks, channels, inner, int(row_steps), int(column_steps), shift};

  // the arguments, in the order of the kernel's
  Tensors given, partial;
  for (const Tensor& parameter : parameters) {
    given.push_back(parameter.to(computed).contiguous());
    if (!is_backward) continue;
    std::vector<int64_t> shape{row_blocks * column_blocks};
    if (parameter.numel() > 1)
      shape = inner ? std::vector<int64_t>{row_blocks, channels, inner}
                    : std::vector<int64_t>{rows / channels, channels, column_blocks};
    partial.push_back(at::empty(shape, y.options().dtype(computed)));
  }
  std::vector<void*> pointers;
  for (const Tensors& tensors : {kept, given, results, partial})
    for (const Tensor& tensor : tensors) pointers.push_back(tensor.data_ptr());
  std::vector<int> flags;
  for (const Tensor& parameter : parameters) flags.push_back(parameter.numel() > 1);
  std::vector<void*> arguments;
  for (auto& pointer : pointers) arguments.push_back(&pointer);
  for (auto& pitch : pitches) arguments.push_back(&pitch);
  for (auto& flag : flags) arguments.push_back(&flag);
  arguments.push_back(&sizes);

  const void* kernel = type == at::kDouble ? kernel_of<double, 2>(is_backward, wide, !inner)
      : type == at::kFloat                 ? kernel_of<float, 4>(is_backward, wide, !inner)
      : type == at::kHalf                  ? kernel_of<half16, 8>(is_backward, wide, !inner)
                                           : kernel_of<brain16, 8>(is_backward, wide, !inner);
  const auto error = cudaLaunchKernel(
      kernel, dim3(unsigned(row_blocks * column_blocks)), dim3(THREADS), arguments.data(), 0,
      c10::cuda::getCurrentCUDAStream());
  TORCH_CHECK(error == cudaSuccess, "a generated kernel: ", cudaGetErrorString(error));

  Tensors totals;
  for (size_t k = 0; k < partial.size(); ++k) {
    auto total = partial[k].dim() == 3 ? partial[k].sum({0, 2}, false, at::kDouble)
                                       : partial[k].sum({0}, false, at::kDouble);
    totals.push_back(total.to(parameters[k].scalar_type()).reshape(parameters[k].sizes()));
  }
  return totals;
}

Tensors part(const Tensors& tensors, int64_t first, int64_t last) {
  return Tensors(tensors.begin() + first, tensors.begin() + last);
}

Tensor run_forward(const Tensors& variables) {
  check(variables);
  const c10::OptionalDeviceGuard guard(variables[0].device());
  Tensor y = at::empty_like(variables[0]);
  if (y.numel())
    launch(false, part(variables, 0, INPUTS), part(variables, INPUTS, variables.size()), {y});
  return y;
}

Tensors run_backward(const Tensor& dy, const Tensors& variables) {
  check(variables);
  const c10::OptionalDeviceGuard guard(variables[0].device());
  Tensors slopes;
  for (int64_t k = 0; k < INPUTS; ++k) slopes.push_back(at::empty_like(variables[0]));
  const auto parameters = part(variables, INPUTS, variables.size());
  Tensors totals;
  if (dy.numel()) {
    Tensors inputs = part(variables, 0, INPUTS);
    inputs.insert(inputs.begin(), dy.to(variables[0].scalar_type()));
    totals = launch(true, inputs, parameters, slopes);
  } else {
    for (const Tensor& parameter : parameters) totals.push_back(at::zeros_like(parameter));
  }
  slopes.insert(slopes.end(), totals.begin(), totals.end());
  return slopes;
}

struct Activation : torch::autograd::Function<Activation> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, at::TensorList variables) {
    ctx->save_for_backward(variables.vec());
    return run_forward(variables.vec());
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* ctx, torch::autograd::variable_list dy) {
    return run_backward(dy[0], ctx->get_saved_variables());
  }
};

Tensor run(const Tensors& variables) { return Activation::apply(at::TensorList(variables)); }

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = FORMULA;
  m.def("activation", &run, "y, differentiable once", pybind11::arg("variables"));
  m.def("forward", &run_forward, "y", pybind11::arg("variables"));
  m.def("backward", &run_backward, "the gradient for every variable", pybind11::arg("dy"),
        pybind11::arg("variables"));
}
