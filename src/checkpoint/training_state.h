// training_state.json: what the loop must remember, as strict JSON.
#pragma once

#include <string>

#include "phi3tune/checkpoint/checkpoint.h"

namespace phi3tune::checkpoint {

// Every number reads back as the same bits. Throws NumericsError when one of them is not finite.
std::string training_state_text(const SavedState& state);

// Throws CheckpointError: not JSON, a member missing, unknown or of another type.
SavedState read_training_state(const std::string& path);

}  // namespace phi3tune::checkpoint
