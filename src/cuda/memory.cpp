// The device's memory, and the ways into it and out of it.
#include <ATen/ATen.h>

#include <array>
#include <memory>
#include <optional>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"
#include "cuda/platform.h"
#include "cuda/staging.h"
#include "cuda/streams.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
namespace {

constexpr size_t kStagingBytes = size_t{32} << 20;
constexpr size_t kSlots = 4;

struct Slot {
  cudaEvent_t before = nullptr;  // what the copy waits for
  cudaEvent_t copied = nullptr;  // what await() waits for
};

// Never destroyed: the runtime may be gone when static objects go.
struct Device {
  int index = 0;
  cudaStream_t compute = nullptr;
  cudaStream_t copies = nullptr;
  std::array<Slot, kSlots> slots;
  std::optional<StagingRing> staging;
  at::Tensor word;
};
Device* opened = nullptr;

Device& device() {
  require(opened != nullptr, "the CUDA back end is used before it is opened");
  return *opened;
}

cudaEvent_t new_event() {
  cudaEvent_t event = nullptr;
  succeeded("open", cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

Slot& slot_of(int slot) {
  require(slot >= 0 && static_cast<size_t>(slot) < kSlots, "no such slot of a copy");
  return device().slots[static_cast<size_t>(slot)];
}

// On the second stream, after all that the first has been given.
void copy_beside(const char* op, void* to, const void* from, size_t bytes, cudaMemcpyKind kind, int slot) {
  const Slot& events = slot_of(slot);
  succeeded(op, cudaEventRecord(events.before, stream()));
  succeeded(op, cudaStreamWaitEvent(copy_stream(), events.before, 0));
  if (bytes > 0) {
    succeeded(op, cudaMemcpyAsync(to, from, bytes, kind, copy_stream()));
    ++counters().copies;
  }
  succeeded(op, cudaEventRecord(events.copied, copy_stream()));
}

}  // namespace

void open_device(int index) {
  if (opened != nullptr) {
    require(opened->index == index, "one process computes on one GPU");
    return;
  }
  succeeded("open", cudaSetDevice(index));
  auto fresh = std::make_unique<Device>();
  fresh->index = index;
  succeeded("open", cudaStreamCreateWithFlags(&fresh->compute, cudaStreamNonBlocking));
  succeeded("open", cudaStreamCreateWithFlags(&fresh->copies, cudaStreamNonBlocking));
  for (Slot& slot : fresh->slots) {
    slot = {new_event(), new_event()};
  }
  fresh->staging.emplace(kStagingBytes);
  platform::open(index, fresh->compute);
  opened = fresh.release();
  opened->word = allocate(sizeof(int64_t)).view(at::kLong);
}

cudaStream_t stream() {
  platform::bind_thread();
  return device().compute;
}
cudaStream_t copy_stream() { return device().copies; }
const Tensor& device_word() { return device().word; }

Tensor allocate(size_t bytes) {
  stream();  // binds the thread
  const auto options = at::TensorOptions().dtype(at::kByte).device(platform::device());
  if (bytes == 0) {
    return at::empty({0}, options);
  }
  void* memory = nullptr;
  ++counters().allocations;
  if (cudaMalloc(&memory, bytes) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // or the next call would report it
    const auto [total, free, multiprocessors] = room();
    static_cast<void>(multiprocessors);
    throw ResourceError(
        "the GPU has {} of {} free, not the {} asked for: shorter micro-batches, quantization: nf4, or "
        "gradient_checkpointing: block take less; nvidia-smi shows who else uses it",
        format_bytes(free), format_bytes(total), format_bytes(bytes));
  }
  return at::from_blob(
      memory, {static_cast<int64_t>(bytes)}, [](void* taken) { static_cast<void>(cudaFree(taken)); }, options,
      platform::device());
}

void upload(const Tensor& to, const void* from) {
  if (to.is_contiguous()) {
    device().staging->copy(to.data_ptr(), from, to.nbytes(), stream());
    return;
  }
  require(to.dim() == 2 && to.stride(1) == 1 && to.stride(0) >= to.size(1),
          "upload wants a tensor whose rows are whole");
  const auto size = static_cast<size_t>(to.element_size());
  device().staging->copy_rows(to.data_ptr(), static_cast<size_t>(to.stride(0)) * size, from,
                              static_cast<size_t>(to.size(1)) * size, static_cast<size_t>(to.size(0)), stream());
}

void download(void* to, const Tensor& from) {
  require(from.is_contiguous(), "download wants a contiguous tensor");
  if (from.nbytes() > 0) {
    succeeded("download", cudaMemcpyAsync(to, from.data_ptr(), from.nbytes(), cudaMemcpyDeviceToHost, stream()),
              {&from});
    ++counters().copies;
  }
  succeeded("download", cudaStreamSynchronize(stream()), {&from});
  ++counters().synchronisations;
}

Tensor allocate_host(size_t bytes) {
  if (bytes == 0) {
    return at::empty({0}, at::kByte);
  }
  stream();  // binds the thread
  void* memory = nullptr;
  ++counters().allocations;
  if (cudaHostAlloc(&memory, bytes, cudaHostAllocDefault) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw ResourceError(
        "the host has no {} of memory to pin for offloaded activations: shorter micro-batches, or "
        "gradient_checkpointing: block, take none",
        format_bytes(bytes));
  }
  return at::from_blob(
      memory, {static_cast<int64_t>(bytes)}, [](void* taken) { static_cast<void>(cudaFreeHost(taken)); }, at::kByte);
}

void offload(const Tensor& host, const Tensor& from, int slot) {
  require(from.is_contiguous() && host.nbytes() >= from.nbytes(), "offload wants contiguous tensors of one size");
  copy_beside("offload", host.data_ptr(), from.data_ptr(), from.nbytes(), cudaMemcpyDeviceToHost, slot);
}

void fetch(const Tensor& to, const Tensor& host, int slot) {
  require(to.is_contiguous() && host.nbytes() >= to.nbytes(), "fetch wants contiguous tensors of one size");
  copy_beside("fetch", to.data_ptr(), host.data_ptr(), to.nbytes(), cudaMemcpyHostToDevice, slot);
}

void await(int slot) { succeeded("await", cudaStreamWaitEvent(stream(), slot_of(slot).copied, 0)); }

size_t library_bytes() { return platform::library_bytes(); }

ops::Memory::Room room() {
  stream();  // binds the thread
  size_t free = 0, total = 0;
  succeeded("room", cudaMemGetInfo(&free, &total));
  int multiprocessors = 0;
  succeeded("room", cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device().index));
  return {total, free, multiprocessors};
}

}  // namespace phi3tune::cuda
