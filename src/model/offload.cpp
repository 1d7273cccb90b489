// Inputs of layers that wait in the host's memory between forward and backward.
//
// Three places take turns: the input of layer i lies in place i % 3. The inputs of the last two layers never leave; the
// input of layer i - 2 comes back, beside the computing, while layer i goes backward.
#include <ATen/ATen.h>

#include <algorithm>

#include "network.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::model {

at::Tensor Network::host_residual(const Pass& pass, int64_t layer) {
  const auto like = pass.tensors.residual(layer);
  const size_t stride = (like.nbytes() + 255) / 256 * 256;
  const auto block = arena_->host(stride * static_cast<size_t>(std::max<int64_t>(0, config_.num_layers - 2)));
  return view(block, stride * static_cast<size_t>(layer), like.scalar_type(), like.size(0), like.size(1), like.size(1));
}

void Network::send_out(Pass& pass, int64_t layer) {
  if (offloads(pass) && leaves(layer)) {
    ops::backend().memory.offload(host_residual(pass, layer), pass.tensors.residual(layer),
                                  static_cast<int>(layer % 3));
  }
}

void Network::bring_in(Pass& pass, int64_t layer) {
  if (!offloads(pass)) {
    return;
  }
  if (leaves(layer)) {
    ops::backend().memory.await(static_cast<int>(layer % 3));
  }
  if (layer >= 2) {
    ops::backend().memory.fetch(pass.tensors.residual(layer - 2), host_residual(pass, layer - 2),
                                static_cast<int>((layer - 2) % 3));
  }
}

}  // namespace phi3tune::model
