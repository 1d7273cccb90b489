// Faults that only show when settings are seen together.
#pragma once

#include <string>
#include <vector>

#include "config/sources.h"

namespace phi3tune::config {

// Before reading: of settings that exclude each other the one of the higher source stays, with a note; within one
// source two are a fault.
void settle_rivals(GivenSettings& given, FaultList& faults, std::vector<std::string>& notes);

// After reading.
void check_together(const RunOptions& run, const GivenSettings& given, FaultList& faults);

}  // namespace phi3tune::config
