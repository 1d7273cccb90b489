#include <algorithm>

#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/core/error.h"

namespace phi3tune::checkpoint {

std::vector<int64_t> to_rotate(std::vector<int64_t> steps, int64_t limit, std::optional<int64_t> best) {
  require(limit >= 0, "the number of checkpoints to keep is negative");
  std::sort(steps.begin(), steps.end());
  if (limit == 0 || steps.empty()) {
    return {};
  }
  const int64_t newest = steps.back();
  int64_t too_many = static_cast<int64_t>(steps.size()) - limit;
  std::vector<int64_t> gone;
  for (const int64_t step : steps) {
    if (too_many > 0 && step != newest && step != best) {
      gone.push_back(step);
      --too_many;
    }
  }
  return gone;
}

}  // namespace phi3tune::checkpoint
