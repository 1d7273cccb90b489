// The tensors of a merged model, one after the other, by blocks of rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/adapter_tensors.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::checkpoint {

class MergedTensors {
 public:
  // All must outlive it. `held`: linears are taken as NF4 holds them.
  MergedTensors(const phi3::ModelFolder& base, const phi3::AdapterFolder& adapter, const phi3::FusedAdapter& fused,
                std::optional<phi3::HeldInNf4> held, io::DType dtype);

  using Sink = std::function<void(std::span<const std::byte>)>;
  // Gives the bytes of the tensor in order. Polls the stop flag between blocks (Interrupted). Throws NumericsError.
  void write(const phi3::TensorSpec& spec, const Sink& sink) const;

 private:
  const phi3::ModelFolder& base_;
  const phi3::AdapterFolder& adapter_;
  std::map<std::string, const phi3::FusedModule*> modules_;  // by the name of the weight
  std::optional<phi3::HeldInNf4> held_;
  io::DType dtype_;
};

}  // namespace phi3tune::checkpoint
