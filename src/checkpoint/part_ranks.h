// Which rows of a fused A each part of its linear uses.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/exported_tensors.h"
#include "phi3tune/phi3/fused_adapter.h"

namespace phi3tune::checkpoint {

struct RankRange {
  int64_t first = 0;
  int64_t count = 0;
};

// The whole rank for each part, unless B is block-diagonal by the parts, as after an import of parts that were adapted
// apart: then the blocks' own ranks, and none for a part whose rows are zero (without DoRA, which gives these a
// length). Columns that are zero everywhere go by equal blocks where these fit, else to the block before them.
std::vector<RankRange> ranks_of_parts(const ExportedModule& module, const std::vector<phi3::SplitRows>& parts);

}  // namespace phi3tune::checkpoint
