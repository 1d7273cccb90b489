// From the LoRA settings of a run to the adapter that PEFT will read: a matter of shapes, so it lies in phi3.
#pragma once

#include "phi3tune/phi3/adapter_options.h"

namespace phi3tune::model {

using phi3::adapter_config_for;

}  // namespace phi3tune::model
