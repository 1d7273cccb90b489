// libphi3tune_cuda.so, loaded where there is a driver, or the reason why it is not.
#pragma once

#include <string>

#include "phi3tune/cuda/plugin.h"

namespace phi3tune::commands {

class CudaPlugin {
 public:
  // Of this process: loaded by the first call, which comes before anything asks libtorch for a device.
  static const CudaPlugin& of_process();

  // `driver` is looked for first, if one is named: without it the plug-in and its gigabytes are left alone.
  CudaPlugin(const std::string& driver, const std::string& library);

  // Why there is no plug-in, as the end of a sentence; empty when there is one.
  const std::string& missing() const noexcept { return missing_; }

  // The machine has a driver, or a plug-in was named that needs none.
  bool found_driver() const noexcept { return found_driver_; }
  // A plug-in was named by PHI3TUNE_CUDA_PLUGIN.
  bool rehearses() const noexcept { return rehearses_; }

  // The rest wants a plug-in. Throws ResourceError: no GPU to be used, and why.
  const ops::Backend& open(int device_index) const { return open_(device_index); }
  void describe(cuda::Facts& facts) const { describe_(facts); }
  const cuda::Counters& counters() const { return counters_(); }

 private:
  std::string load(const std::string& driver, const std::string& library);

  cuda::PluginOpen* open_ = nullptr;
  cuda::PluginDescribe* describe_ = nullptr;
  cuda::PluginCounters* counters_ = nullptr;
  bool found_driver_ = false;
  bool rehearses_ = false;
  std::string missing_;
};

}  // namespace phi3tune::commands
