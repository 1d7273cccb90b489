// phi3-tune train: everything cheap is checked here, then the engine is loaded and trains.
#pragma once

#include "phi3tune/config/settings.h"

namespace phi3tune::commands {

struct TrainOptions {
  config::SettingsSources sources;
  bool json = false;
};

int run_train(const TrainOptions& options);

}  // namespace phi3tune::commands
