#include "memory_fault.h"

#include <c10/util/Exception.h>

#include <new>
#include <string_view>
#include <typeinfo>

#include "phi3tune/core/error.h"

namespace phi3tune::commands {

std::optional<std::string> memory_fault(const std::exception& fault) {
  if (dynamic_cast<const std::bad_alloc*>(&fault) != nullptr) {
    return "memory ran out";
  }
  if (dynamic_cast<const ResourceError*>(&fault) != nullptr) {
    return fault.what();
  }
  const auto* of_libtorch = dynamic_cast<const c10::Error*>(&fault);
  const std::string what = of_libtorch != nullptr ? of_libtorch->what_without_backtrace() : fault.what();
  const auto says = [&](const char* text) { return what.find(text) != std::string::npos; };
  // oneDNN's own type is not declared in libtorch's headers.
  const bool of_onednn = std::string_view(typeid(fault).name()).find("dnnl") != std::string_view::npos;
  const bool memory = of_libtorch != nullptr &&
                      (says("allocate memory") || says("out of memory") || says("ALLOC_FAILED") || says("OutOfMemory"));
  if (!memory && !of_onednn) {
    return std::nullopt;
  }
  return "memory ran out (" + what.substr(0, what.find('\n')) + ")";
}

}  // namespace phi3tune::commands
