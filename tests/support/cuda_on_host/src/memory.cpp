#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>

#include "checker.h"
#include "report.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

namespace cuda_on_host {
namespace {

constexpr size_t kGuard = 256;  // keeps cudaMalloc's alignment
constexpr unsigned char kGuardByte = 0xA5;
constexpr unsigned char kPoison = 0xFF;  // NaN in fp32, bf16, fp16; -1 in integers

struct Memory {
  std::vector<Region*> regions;
  std::map<uintptr_t, std::unique_ptr<Region>> allocations;
  std::vector<Region*> variables;
  Region dynamic{0, 0, kGuard, "dynamic shared memory", true};
} memory;

// Written by hand, since memset and memcmp would be looked at by the address sanitizer.
__attribute__((no_sanitize("address", "undefined"))) void fill(uintptr_t from, uintptr_t to, unsigned char byte) {
  const uint64_t word = 0x0101010101010101u * byte;
  while (from < to && from % 8 != 0) *reinterpret_cast<volatile unsigned char*>(from++) = byte;
  for (; from + 8 <= to; from += 8) *reinterpret_cast<volatile uint64_t*>(from) = word;
  while (from < to) *reinterpret_cast<volatile unsigned char*>(from++) = byte;
}
__attribute__((no_sanitize("address", "undefined"))) bool intact(uintptr_t from, uintptr_t to) {
  for (; from < to; ++from)
    if (*reinterpret_cast<volatile unsigned char*>(from) != kGuardByte) return false;
  return true;
}

size_t with_guards(size_t size) { return (size + 2 * kGuard + kGuard - 1) / kGuard * kGuard; }

// `size` bytes with a guard on both sides.
uintptr_t allocate(size_t size) {
  const size_t whole = with_guards(size);
  const auto base = reinterpret_cast<uintptr_t>(std::aligned_alloc(kGuard, whole));
  if (base == 0) return 0;
  fill(base, base + kGuard, kGuardByte);
  fill(base + kGuard, base + kGuard + size, kPoison);
  fill(base + kGuard + size, base + whole, kGuardByte);
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(base), kGuard);
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(base + kGuard + size), whole - kGuard - size);
  return base + kGuard;
}

void release(const Region& region) {
  ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(region.begin - kGuard), with_guards(region.size()));
  std::free(reinterpret_cast<void*>(region.begin - kGuard));
}

void resize_dynamic(size_t bytes) {
  Region& dynamic = memory.dynamic;
  if (dynamic.begin != 0 && dynamic.size() == bytes) return;
  if (dynamic.begin != 0) {
    std::erase(memory.regions, &dynamic);
    release(dynamic);
  }
  dynamic.cells.clear();
  dynamic.begin = allocate(bytes);
  dynamic.end = dynamic.begin + bytes;
  memory.regions.push_back(&dynamic);
}

}  // namespace

const std::vector<Region*>& regions() { return memory.regions; }

void* allocate_global(size_t size) {
  const uintptr_t begin = allocate(size);
  if (begin == 0) return nullptr;
  auto region = std::make_unique<Region>(
      Region{begin, begin + size, kGuard, "a buffer of " + std::to_string(size) + " bytes", false});
  memory.regions.push_back(region.get());
  memory.allocations.emplace(begin, std::move(region));
  return reinterpret_cast<void*>(begin);
}

bool free_global(void* pointer) {
  const auto found = memory.allocations.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == memory.allocations.end()) return false;
  regions_change();
  std::erase(memory.regions, found->second.get());
  release(*found->second);
  memory.allocations.erase(found);
  return true;
}

void use_shared(const std::vector<Region*>& variables, size_t dynamic_bytes) {
  regions_change();
  std::erase_if(memory.regions, [](const Region* region) { return region->shared && region->guard == 0; });
  memory.variables = variables;
  memory.regions.insert(memory.regions.begin(), variables.begin(), variables.end());
  resize_dynamic(dynamic_bytes);
}

void poison_shared() {
  for (const Region* region : memory.variables) fill(region->begin, region->end, kPoison);
  fill(memory.dynamic.begin, memory.dynamic.end, kPoison);
}

void* dynamic_shared() { return reinterpret_cast<void*>(memory.dynamic.begin); }

bool is_shared(uintptr_t address, size_t size) {
  return std::ranges::any_of(memory.regions, [&](const Region* r) { return r->shared && r->holds(address, size); });
}

void check_guards() {
  for (const Region* region : memory.regions) {
    if (region->guard == 0) continue;
    if (intact(region->begin - kGuard, region->begin) && intact(region->end, region->end + kGuard)) continue;
    report("wrote outside " + region->name);
    fill(region->begin - kGuard, region->begin, kGuardByte);
    fill(region->end, region->end + kGuard, kGuardByte);
  }
}

}  // namespace cuda_on_host
