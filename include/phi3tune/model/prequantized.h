// A weight that a bitsandbytes checkpoint holds as NF4.
#pragma once

#include <cstdint>
#include <string>

#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::model {

// `name`: "....weight"; its group is name, name.absmax, name.quant_map, name.quant_state.bitsandbytes__nf4 and, nested,
// name.nested_absmax and name.nested_quant_map. Throws ModelError naming the file and the tensor.
quant::Nf4Tensor read_prequantized(const phi3::ModelFolder& folder, const std::string& name, int64_t out, int64_t in);

}  // namespace phi3tune::model
