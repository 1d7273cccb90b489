// The one machine: the block that runs, its threads, and whose turn it is.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "cuda_on_host/execution.h"
#include "fiber.h"
#include "region.h"

namespace cuda_on_host {

enum class State : uint8_t { kReady, kBarrier, kMeeting, kDone };

// A cp.async on its way.
struct Copy {
  void* to;
  const void* from;
  size_t size, zfill;
  uint64_t group;
};

struct Thread {
  Fiber fiber;
  State state = State::kDone;
  uint3 index{};
  uint32_t number = 0;
  uint16_t barriers = 0, warp_syncs = 0;
  Site site{};
  // the warp meeting it waits for
  Meeting kind{};
  unsigned mask = 0, source = 0;
  uint64_t value = 0, result = 0;
  // cp.async
  std::vector<Copy> copies;
  uint64_t group = 0;
};

struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;  // fibers are kept for the next block
  std::vector<uint32_t> ready;
  size_t head = 0;
  Fiber host;
  Thread* current = nullptr;
  uint32_t count = 0, done = 0, at_barrier = 0, votes = 0, vote_result = 0;
  uint32_t block = 0, launches = 0;
  bool running = false, failed = false;
  uint64_t seed = 0, random = 0;
  const void* kernel = nullptr;
  void (*body)(void*) = nullptr;
  void* arguments = nullptr;
  std::string text;  // what take_report() will give
  int reports = 0;   // of this launch

  void wake(Thread& thread);
  void leave() { Fiber::go(current->fiber, host); }
  Moment now() const;
};

extern Machine machine;

const char* name_of(Meeting kind);

}  // namespace cuda_on_host
