// The check of an adapter against its base: a matter of files, so it lies in phi3.
#pragma once

#include "phi3tune/phi3/adapter_origin.h"

namespace phi3tune::checkpoint {

// void require_base(const std::string& adapter_folder, const phi3::ModelFolder& base, bool any_base)
using phi3::require_base;

}  // namespace phi3tune::checkpoint
