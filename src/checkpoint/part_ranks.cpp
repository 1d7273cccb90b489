#include "checkpoint/part_ranks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

namespace phi3tune::checkpoint {
namespace {

// First and last column that is not zero.
struct UsedColumns {
  int64_t first, last;
};

std::optional<UsedColumns> used_columns(const at::Tensor& rows) {
  const auto columns = rows.ne(0).any(0).nonzero();
  if (columns.numel() == 0) {
    return std::nullopt;
  }
  return UsedColumns{columns.min().item<int64_t>(), columns.max().item<int64_t>()};
}

}  // namespace

std::vector<RankRange> ranks_of_parts(const ExportedModule& module, const std::vector<phi3::SplitRows>& parts) {
  const std::vector<RankRange> whole(parts.size(), {0, module.rank});
  std::vector<std::optional<UsedColumns>> used;
  for (const auto& part : parts) {
    used.push_back(used_columns(module.b.narrow(0, part.first_row, part.rows)));
  }
  const auto count = static_cast<int64_t>(parts.size());
  if (count == 1 || std::none_of(used.begin(), used.end(), [](const auto& columns) { return columns.has_value(); })) {
    return whole;
  }

  const int64_t equal = module.rank / count;
  bool equal_fits = module.rank % count == 0;
  std::vector<RankRange> blocks(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    blocks[i] = {static_cast<int64_t>(i) * equal, equal};
    equal_fits = equal_fits &&
                 (!used[i] || (used[i]->first >= blocks[i].first && used[i]->last < blocks[i].first + blocks[i].count));
  }
  if (equal_fits) {
    return blocks;
  }

  std::fill(blocks.begin(), blocks.end(), RankRange{});
  RankRange* open = nullptr;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!used[i]) {
      if (module.magnitude.defined()) {
        return whole;
      }
      continue;
    }
    const int64_t first = open == nullptr ? 0 : used[i]->first;
    if (open != nullptr) {
      if (first < open->first + open->count) {
        return whole;  // in order, and over none before it
      }
      open->count = first - open->first;
    }
    open = &blocks[i];
    *open = {first, used[i]->last + 1 - first};
  }
  open->count = module.rank - open->first;
  return blocks;
}

}  // namespace phi3tune::checkpoint
