// What libraries throw when memory runs out.
#pragma once

#include <exception>
#include <optional>
#include <string>

namespace phi3tune::commands {

// One line of what was found, when the exception says that memory ran out: std::bad_alloc, a ResourceError, libtorch's
// allocators, cuBLAS and cuDNN ("ALLOC_FAILED"), oneDNN (which says no more than that a primitive failed). Nullopt for
// anything else.
std::optional<std::string> memory_fault(const std::exception& fault);

}  // namespace phi3tune::commands
