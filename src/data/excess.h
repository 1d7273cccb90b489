// Rows longer than sequence_len: cut, split or refused.
#pragma once

#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/encoding.h"

namespace phi3tune::data {

// Tokens of one document: input_ids and, for each, its weight (0: not trained; the first is always 0).
struct Piece {
  std::vector<int32_t> input_ids;
  std::vector<float> weights;
};

struct FittedRow {
  std::vector<Piece> pieces;  // none: too long, and the strategy did not help
  bool truncated = false;
};

// truncate_prompt: takes away prompt text from its start on, system text last, never the template's own tokens nor
// trained ones. truncate_end keeps the start (as TRL's max_length). split: consecutive pieces.
FittedRow fit_row(EncodedRecord&& row, int64_t sequence_len, config::ExcessLength strategy);

}  // namespace phi3tune::data
