// A merged folder beside the base and adapter it was made of, as networks.
#pragma once

#include <optional>
#include <string>

#include "phi3tune/checkpoint/merge.h"
#include "phi3tune/phi3/adapter_origin.h"

namespace phi3tune::checkpoint {

// Both read the same tokens, one after the other, in float32 where `free_memory` allows. `held`: the base's linears in
// NF4. Throws what loading a model throws, and NumericsError when a logit is not finite.
MergeCheck check_merge(const phi3::ModelFolder& base, const std::string& adapter,
                       const std::optional<phi3::HeldInNf4>& held, const phi3::ModelFolder& merged,
                       uint64_t free_memory);

}  // namespace phi3tune::checkpoint
