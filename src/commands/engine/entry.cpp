#include "entry.h"

#include <c10/util/Exception.h>

#include <exception>
#include <string>

#include "memory_fault.h"
#include "phi3tune/core/error.h"

namespace phi3tune::commands {

int entered(const char* way_out, const std::function<int()>& command) {
  try {
    return command();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& fault) {
    if (const auto memory = memory_fault(fault)) {
      throw ResourceError("{}; {}", *memory, way_out);
    }
    const auto* from_torch = dynamic_cast<const c10::Error*>(&fault);
    if (from_torch == nullptr) {
      throw;
    }
    const std::string what = from_torch->what_without_backtrace();
    const std::string first_line = what.substr(0, what.find('\n'));
    const auto says = [&](const char* text) { return what.find(text) != std::string::npos; };
    if (says("CUDA error") || says("CUDA driver error")) {
      throw ResourceError(
          "the GPU reports a fault: {}; CUDA_LAUNCH_BLOCKING=1 shows the op that met it, `dmesg | grep -i xid` a fault "
          "of the hardware",
          first_line);
    }
    throw InternalError("internal error, please report it: {}", first_line);
  }
}

}  // namespace phi3tune::commands
