// `activation` for Python without torch.ops, whose conversion of arguments takes longer than a small
// tensor does. Where Python's headers are missing there is none.

#pragma once

#if __has_include(<Python.h>)

#include <ATen/PythonTorchFunctionTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

namespace {

// (kernel, *variables) -> y; NotImplemented for tensors and modes that others look into.
PyObject* call_from_python(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  bool plain = !at::impl::torch_function_mode_enabled() &&
      !c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
  c10::SmallVector<Tensor, 4> variables;
  for (Py_ssize_t k = 1; plain && k < count; ++k) {
    plain = THPVariable_CheckExact(arguments[k]);
    if (plain) variables.push_back(THPVariable_Unpack(arguments[k]));
  }
  if (!plain) Py_RETURN_NOTIMPLEMENTED;
  const int64_t number = PyLong_AsLongLong(arguments[0]);
  Tensor y;
  {
    struct WithoutLock {
      PyThreadState* state = PyEval_SaveThread();
      ~WithoutLock() { PyEval_RestoreThread(state); }
    } released;
    y = call_forward(TensorList(variables), number);
    variables.clear();
  }
  return THPVariable_Wrap(std::move(y));
  END_HANDLE_TH_ERRORS
}

}  // namespace

extern "C" PyObject* actsearch_callable() {
  static PyMethodDef method{
      "activation", (PyCFunction)(void (*)())call_from_python, METH_FASTCALL, nullptr};
  return PyCFunction_New(&method, nullptr);
}

#endif
