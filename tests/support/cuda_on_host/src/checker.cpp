// Byte by byte: who wrote and who read last, and was anything between that orders the two?
#include "checker.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <set>
#include <utility>

#include "cuda_on_host/testing.h"
#include "machine.h"
#include "memory.h"
#include "report.h"
#include "traffic.h"

namespace cuda_on_host {

#if defined(CUDA_ON_HOST_CHECK)

namespace {

std::set<std::pair<const void*, const char*>> told;  // one report a place and fault
uint32_t told_in = 0;                                // launch
Region* last = nullptr;                              // found last

bool ordered(const Moment& before, const Moment& after) {
  if (before.block != after.block) return false;
  if (before.thread == after.thread || before.barrier != after.barrier) return true;
  return before.thread / 32 == after.thread / 32 && before.warp_sync < after.warp_sync;
}

void tell(const void* code, const char* fault, const std::string& text) {
  if (told.emplace(code, fault).second) report(text + ", at " + describe_code(static_cast<const char*>(code) - 1));
}

Region* find(uintptr_t address, size_t size, const void* code, bool write) {
  if (last && last->holds(address, size)) return last;
  for (Region* region : regions())
    if (region->holds(address, size)) {
      region->cells.resize(region->size());
      return last = region;
    }
  for (const Region* region : regions()) {
    if (address + size > region->begin - region->guard && address < region->end + region->guard) {
      const auto offset = static_cast<int64_t>(address - region->begin);
      tell(code, "bounds",
           print("%s %zu bytes at byte %ld of %s (%zu bytes)", write ? "writes" : "reads", size, offset,
                 region->name.c_str(), region->size()));
      return nullptr;
    }
  }
  return nullptr;
}

void race(const Region& region, size_t offset, const Moment& other, const char* kind, const void* code) {
  tell(code, kind,
       print("race, %s with %s on byte %zu of %s", kind, describe_thread(other.block, other.thread).c_str(), offset,
             region.name.c_str()));
}

void forget_other_launches(Cell& cell) {
  if (cell.launch == machine.launches) return;
  cell.launch = machine.launches;
  cell.has_write = cell.read_before = cell.written_before = false;
  cell.readers = 0;
}

// Bytes that go to or come from global memory.
void count_traffic(Region& region, size_t first, size_t size, bool write) {
  if (region.shared) return;
  uint64_t touched = 0;
  for (size_t offset = first; offset < first + size; ++offset) {
    Cell& cell = region.cells[offset];
    forget_other_launches(cell);
    touched += !std::exchange(write ? cell.written_before : cell.read_before, true);
  }
  add_traffic(size, touched);
}

void remember_write(Cell& cell, const Moment& moment, bool atomic) {
  cell.write = moment;
  cell.has_write = cell.written = true;
  cell.atomic_write = atomic;
  cell.readers = 0;
}

void remember_read(Cell& cell, const Moment& moment) {
  const bool same = cell.read[0].thread == moment.thread && cell.read[0].block == moment.block;
  if (cell.readers == 0 || same || ordered(cell.read[0], moment)) {
    cell.read[0] = moment;
    cell.readers = std::max<uint8_t>(cell.readers, 1);
  } else {
    cell.read[1] = moment;
    cell.readers = 2;
  }
}

}  // namespace

bool checks_memory() { return true; }

void check_access(uintptr_t address, size_t size, bool write, bool atomic, const void* code) {
  if (!machine.running || size == 0 || machine.current->fiber.holds(address)) return;
  Region* region = find(address, size, code, write);
  if (!region) return;
  const size_t first = address - region->begin;
  const Moment moment = machine.now();
  if (counts_traffic()) count_traffic(*region, first, size, write);
  bool unwritten = false;
  for (size_t offset = first; offset < first + size; ++offset) {
    Cell& cell = region->cells[offset];
    forget_other_launches(cell);
    if ((!write || atomic) && !cell.written && !std::exchange(unwritten, true))
      tell(code, "unwritten", print("reads byte %zu of %s, which nobody wrote", offset, region->name.c_str()));
    if (cell.has_write && !(atomic && cell.atomic_write) && !ordered(cell.write, moment))
      return race(*region, offset, cell.write, write ? "write after write" : "read after write", code);
    if (!write) {
      remember_read(cell, moment);
      continue;
    }
    for (int reader = 0; reader < cell.readers; ++reader)
      if (!ordered(cell.read[reader], moment))
        return race(*region, offset, cell.read[reader], "write after read", code);
    remember_write(cell, moment, atomic);
  }
}

void mark_written(uintptr_t address, size_t size) {
  for (Region* region : regions()) {
    if (!region->holds(address, size)) continue;
    region->cells.resize(region->size());
    for (size_t i = 0; i < size; ++i) region->cells[address - region->begin + i].written = true;
  }
}

void regions_change() { last = nullptr; }

void begin_block() {
  if (std::exchange(told_in, machine.launches) != machine.launches) told.clear();
  for (Region* region : regions())
    if (region->shared) std::fill(region->cells.begin(), region->cells.end(), Cell{});
}

void note_atomic(const void* address, size_t size) {
  check_access(reinterpret_cast<uintptr_t>(address), size, true, true, __builtin_return_address(0));
}

#else

bool checks_memory() { return false; }
void check_access(uintptr_t, size_t, bool, bool, const void*) {}
void mark_written(uintptr_t, size_t) {}
void regions_change() {}
void begin_block() {}
void note_atomic(const void*, size_t) {}

#endif

}  // namespace cuda_on_host
