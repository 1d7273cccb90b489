// Which records are held out for validation: decided by content, so that adding rows moves none of the others.
#pragma once

#include <vector>

#include "phi3tune/core/hash.h"

namespace phi3tune::data {

// size < 1: the records whose hash, read as a fraction of its range, is below it. size >= 1: those with the `size`
// smallest hashes; records of the same content stay together, so there may be more. True: validation.
std::vector<bool> held_out(const std::vector<Hash128>& records, double size);

}  // namespace phi3tune::data
