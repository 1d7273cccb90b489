// What a test asks of the emulator: a schedule, what went wrong, how often the runtime was called.
#pragma once

#include <cstdint>
#include <string>

namespace cuda_on_host {

// 0 in order, 1 reversed, above: random. Also decides the order of blocks and when cp.async copies.
void set_schedule(uint64_t seed);

// What was wrong since the last call; empty if nothing.
std::string take_report();

// What this build of the emulator sees beside wrong numbers and divergent barriers.
bool checks_memory();          // the checked build: races, unwritten memory, bounds
bool has_address_sanitizer();  // the sanitized build: a touched guard ends the program

// Calls of the runtime since the last call of take_call_counts.
struct CallCounts {
  uint64_t launches = 0, allocations = 0, copies = 0;
  uint64_t synchronisations = 0;  // of the device, a stream or an event, and copies that wait
};
CallCounts take_call_counts();

}  // namespace cuda_on_host
