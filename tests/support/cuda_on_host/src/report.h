// Tells what went wrong, where, and under which schedule.
#pragma once

#include <cstdint>
#include <string>

#include "cuda_on_host/execution.h"

namespace cuda_on_host {

std::string print(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string describe_thread(uint32_t block, uint32_t thread);
std::string describe_code(const void* address);  // function at file:line
std::string describe(Site site);

// The launch will fail. What comes after the first eight is not kept.
void report(const std::string& text);

// Ends the block. The fiber is never entered again, so nothing that owns memory may live on it.
[[noreturn]] void stop(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cuda_on_host
