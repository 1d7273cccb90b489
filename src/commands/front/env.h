// phi3-tune env: what a bug report needs to know about the program and the machine.
#pragma once

namespace phi3tune::commands {

struct EnvOptions {
  bool json = false;
};

int run_env(const EnvOptions& options);

}  // namespace phi3tune::commands
