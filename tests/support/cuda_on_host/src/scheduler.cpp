// Runs grids: one block after the other, each CUDA thread a fiber that goes on until it must wait.
#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>

#include "checker.h"
#include "cuda_on_host/testing.h"
#include "machine.h"
#include "memory.h"
#include "report.h"
#include "runtime.h"
#include "shared_variables.h"
#include "traffic.h"

namespace cuda_on_host {

Machine machine;

void Machine::wake(Thread& thread) {
  thread.state = State::kReady;
  ready.push_back(thread.number);
}

Moment Machine::now() const {
  return {block, static_cast<uint16_t>(current->number), current->barriers, current->warp_syncs};
}

namespace {

Machine& m = machine;

uint64_t next_random() {
  m.random ^= m.random << 13;
  m.random ^= m.random >> 7;
  m.random ^= m.random << 17;
  return m.random;
}

void thread_main() {
  Fiber::arrive(m.current->fiber, &m.host);
  for (;;) {
    m.body(m.arguments);
    Thread& self = *m.current;
    if (!self.copies.empty()) stop("exits with cp.async copies it never waited for");
    self.state = State::kDone;
    ++m.done;
    m.leave();
  }
}

uint32_t pick() {
  if (m.seed == 0) return m.ready[m.head++];
  auto last = m.ready.end() - 1;
  if (m.seed > 1) std::swap(m.ready[m.head + next_random() % (m.ready.size() - m.head)], *last);
  const auto chosen = *last;
  m.ready.pop_back();
  return chosen;
}

// Who waits where, in one line a place.
std::string explain() {
  std::map<std::string, std::pair<int, uint32_t>> places;
  for (uint32_t i = 0; i < m.count; ++i) {
    const Thread& t = *m.threads[i];
    std::string place = "exited";
    if (t.state == State::kBarrier) place = "wait at __syncthreads, " + describe(t.site);
    if (t.state == State::kMeeting)
      place = print("wait for %s with mask %08x, ", name_of(t.kind), t.mask) + describe(t.site);
    ++places.try_emplace(place, 0, i).first->second.first;
  }
  std::string text;
  for (const auto& [place, who] : places)
    text += print("\n    %d of %u threads %s; the first is %s", who.first, m.count, place.c_str(),
                  describe_thread(m.block, who.second).c_str());
  return text;
}

void fail_block(const std::string& text) {
  report(text + explain());
  m.failed = true;
}

void release_barrier() {
  const Site site = m.threads[0]->site;
  for (uint32_t i = 0; i < m.count; ++i) {
    const Site& other = m.threads[i]->site;
    if (other.line != site.line || other.file != site.file)
      return fail_block("threads of a block meet at different __syncthreads:");
  }
  m.at_barrier = 0;
  m.vote_result = std::exchange(m.votes, 0);
  for (uint32_t i = 0; i < m.count; ++i) m.wake(*m.threads[i]);
}

void place_threads(const dim3& shape) {
  m.count = shape.x * shape.y * shape.z;
  m.done = m.at_barrier = m.votes = 0;
  m.ready.clear();
  m.head = 0;
  while (m.threads.size() < m.count) {
    m.threads.push_back(std::make_unique<Thread>());
    m.threads.back()->fiber.start(thread_main);
  }
  for (uint32_t i = 0; i < m.count; ++i) {
    Thread& t = *m.threads[i];
    t.number = i;
    t.index = {i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y)};
    t.barriers = t.warp_syncs = 0;
    t.group = 0;
    m.wake(t);
  }
}

void run_ready_threads() {
  while (m.head < m.ready.size() && !m.failed) {
    m.current = m.threads[pick()].get();
    threadIdx = m.current->index;
    Fiber::go(m.host, m.current->fiber);
  }
  m.ready.clear();
  m.head = 0;
}

void run_block(const dim3& shape) {
  place_threads(shape);
  for (;;) {
    run_ready_threads();
    if (m.failed || m.done == m.count) break;
    if (m.at_barrier == m.count) {
      release_barrier();
    } else if (m.at_barrier + m.done == m.count) {
      fail_block("some threads exit without the __syncthreads others wait at:");
    } else {
      fail_block("the block cannot go on:");
    }
  }
  if (!m.failed) return;
  for (auto& t : m.threads) {  // fibers stand somewhere inside the kernel: begin them anew
    t->copies.clear();
    t->fiber.start(thread_main);
  }
}

bool legal(const dim3& grid, const dim3& block) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  return threads != 0 && threads <= 1024 && block.z <= 64 && blocks != 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
         grid.z <= 65535;
}

}  // namespace

unsigned block_barrier(bool vote, Site site) {
  Thread& self = *m.current;
  self.site = site;
  self.state = State::kBarrier;
  ++m.at_barrier;
  m.votes += vote;
  m.leave();
  ++self.barriers;
  return m.vote_result;
}

cudaError_t run_grid(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(void*), void* arguments) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (!legal(grid, block)) return cudaErrorInvalidConfiguration;
  if (config.dynamicSmemBytes > dynamic_shared_limit(kernel)) return cudaErrorInvalidValue;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  m.kernel = kernel;
  m.body = thread;
  m.arguments = arguments;
  m.random = (m.seed + 1) * 0x9e3779b97f4a7c15u;
  m.reports = 0;
  m.failed = false;
  ++m.launches;
  gridDim = grid;
  blockDim = block;
  use_shared(shared_variables_of(kernel), config.dynamicSmemBytes);
  uint64_t step = m.seed < 2 ? 1 : next_random() % blocks | 1;
  while (std::gcd(step, blocks) != 1) ++step;
  for (uint64_t i = 0; i < blocks && !m.failed; ++i) {
    const uint64_t id = m.seed == 1 ? blocks - 1 - i : i * step % blocks;
    m.block = static_cast<uint32_t>(id);
    blockIdx = {uint32_t(id % grid.x), uint32_t(id / grid.x % grid.y), uint32_t(id / (uint64_t{grid.x} * grid.y))};
    poison_shared();
    begin_block();
    m.running = true;
    run_block(block);
    m.running = false;
  }
  check_guards();
  end_launch(kernel);
  return m.reports ? cudaErrorLaunchFailure : cudaSuccess;
}

void set_schedule(uint64_t seed) { m.seed = seed; }

}  // namespace cuda_on_host
