// A tensor of a model folder's file, as it lies there.
#pragma once

#include <ATen/core/Tensor.h>

#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::model {

// In the file's dtype. Over the mapping itself where its address allows, so nothing may write to it and the folder must
// outlive it; else a copy.
at::Tensor mapped_tensor(const phi3::LocatedTensor& located);

}  // namespace phi3tune::model
