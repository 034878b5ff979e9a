// A device beside the CPU, for machines without a GPU.
//
// Its tensors lie in ordinary memory and the CPU computes on them, so that results are the CPU's. What makes it a
// device is that torch keeps it apart as it keeps a GPU apart: an operator that is given tensors of both raises.
// Registered under PrivateUse1, torch's place for devices that it does not know.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>

namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kType, 0);

struct Memory final : c10::Allocator {
  static void release(void* memory) { std::free(memory); }

  c10::DataPtr allocate(size_t size) override {
    void* memory = size ? std::malloc(size) : nullptr;
    return {memory, memory, &release, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t size) const override { default_copy_data(to, from, size); }
};

Memory memory;
REGISTER_ALLOCATOR(kType, &memory);

// Everything is done when a call returns: streams and events have nothing to wait for.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<kType> {
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }

  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};

const bool registered = (at::RegisterPrivateUse1HooksInterface(new Hooks), true);

// The same memory as a tensor of the CPU.
at::Tensor seen_by_cpu(const at::Tensor& tensor) {
  if (tensor.device().type() != kType) return tensor;
  auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  return at::from_blob(const_cast<void*>(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
}

at::Tensor moved_here(const at::Tensor& tensor) { return tensor.defined() ? tensor.to(kDevice) : tensor; }

// As Apple's GPUs.
at::ScalarType supported(std::optional<at::ScalarType> dtype) {
  TORCH_CHECK_TYPE(c10::dtype_or_default(dtype) != at::kDouble, kDevice, " has no float64");
  return c10::dtype_or_default(dtype);
}

at::Tensor empty(
    at::IntArrayRef size,
    std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>,
    std::optional<at::Device>,
    std::optional<bool>,
    std::optional<at::MemoryFormat> format) {
  const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(size, &memory, keys, supported(dtype), format);
}

at::Tensor empty_strided(
    at::IntArrayRef size,
    at::IntArrayRef stride,
    std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>,
    std::optional<at::Device>,
    std::optional<bool>) {
  const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &memory, keys, supported(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  seen_by_cpu(to).copy_(seen_by_cpu(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& tensor) { return seen_by_cpu(tensor).item(); }

at::Tensor& set_part_of_storage(
    at::Tensor& tensor, at::Storage storage, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return tensor;
}

at::Tensor& set_storage(at::Tensor& tensor, at::Storage storage) {
  const auto count = static_cast<int64_t>(storage.nbytes() / tensor.dtype().itemsize());
  return set_part_of_storage(tensor, std::move(storage), 0, {count}, {1});
}

void check_same_device(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(a.device() == b.device(), "tensors on ", a.device(), " and ", b.device(), " were given together");
}

std::optional<at::Tensor> seen_by_cpu(const at::Tensor& x, const std::optional<at::Tensor>& parameter) {
  if (!parameter || !parameter->defined()) return std::nullopt;
  check_same_device(x, *parameter);
  return seen_by_cpu(*parameter);
}

at::Tensor convolution(
    const at::Tensor& x,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    at::SymIntArrayRef stride,
    at::SymIntArrayRef padding,
    at::SymIntArrayRef dilation,
    bool transposed,
    at::SymIntArrayRef output_padding,
    c10::SymInt groups) {
  check_same_device(x, weight);
  return moved_here(at::convolution_symint(
      seen_by_cpu(x),
      seen_by_cpu(weight),
      seen_by_cpu(x, bias),
      stride,
      padding,
      dilation,
      transposed,
      output_padding,
      groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient,
    const at::Tensor& x,
    const at::Tensor& weight,
    at::SymIntArrayRef stride,
    at::SymIntArrayRef padding,
    at::SymIntArrayRef dilation,
    bool transposed,
    at::SymIntArrayRef output_padding,
    c10::SymInt groups,
    std::array<bool, 3> mask) {
  check_same_device(x, weight);
  check_same_device(x, gradient);
  c10::SymInt outputs = transposed ? weight.sym_size(1) * groups : weight.sym_size(0);
  auto [of_x, of_weight, of_bias] = at::convolution_backward_symint(
      seen_by_cpu(gradient),
      seen_by_cpu(x),
      seen_by_cpu(weight),
      c10::SymIntArrayRef(&outputs, 1),
      stride,
      padding,
      dilation,
      transposed,
      output_padding,
      groups,
      mask);
  return {moved_here(of_x), moved_here(of_weight), moved_here(of_bias)};
}

// What torch puts together for devices without group norms of their own takes contiguous tensors only.
std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm(
    const at::Tensor& x,
    const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias,
    c10::SymInt rows,
    c10::SymInt channels,
    c10::SymInt places,
    int64_t groups,
    double eps) {
  auto [y, mean, deviation] = at::native_group_norm_symint(
      seen_by_cpu(x), seen_by_cpu(x, weight), seen_by_cpu(x, bias), rows, channels, places, groups, eps);
  return {moved_here(y), moved_here(mean), moved_here(deviation)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm_backward(
    const at::Tensor& gradient,
    const at::Tensor& x,
    const at::Tensor& mean,
    const at::Tensor& deviation,
    const std::optional<at::Tensor>& weight,
    c10::SymInt rows,
    c10::SymInt channels,
    c10::SymInt places,
    int64_t groups,
    std::array<bool, 3> mask) {
  check_same_device(x, gradient);
  auto [of_x, of_weight, of_bias] = at::native_group_norm_backward_symint(
      seen_by_cpu(gradient),
      seen_by_cpu(x),
      seen_by_cpu(mean),
      seen_by_cpu(deviation),
      seen_by_cpu(x, weight),
      rows,
      channels,
      places,
      groups,
      mask);
  return {moved_here(of_x), moved_here(of_weight), moved_here(of_bias)};
}

// By the way of all other operators torch would warn of an output that it resizes.
at::Tensor mse_loss(const at::Tensor& a, const at::Tensor& b, int64_t reduction) {
  check_same_device(a, b);
  return moved_here(at::mse_loss(seen_by_cpu(a), seen_by_cpu(b), reduction));
}

// Any other operator: torch copies to the CPU, computes and copies back. It would do so for tensors of both devices
// too, which a GPU refuses except for single numbers, copies and indices.
void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  const bool may_mix = name.find("copy") != std::string::npos || name.find("index") != std::string::npos;
  auto check = [&](const at::Tensor& tensor) {
    const bool elsewhere = tensor.defined() && tensor.device().type() != kType && tensor.dim() > 0;
    TORCH_CHECK(may_mix || !elsewhere, name, " was given a tensor on ", tensor.device(), " besides those on ", kDevice);
  };
  for (const auto& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (value.isTensor()) check(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) check(tensor);
  }
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", [](const at::Tensor& tensor, at::IntArrayRef size) { return at::native::view(tensor, size); });
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("resize_", at::native::resize_);
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_part_of_storage);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("native_group_norm", group_norm);
  m.impl("native_group_norm_backward", group_norm_backward);
  m.impl("mse_loss", mse_loss);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

}  // namespace
