#include "report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cuda_on_host/testing.h"
#include "machine.h"
#include "shared_variables.h"

namespace cuda_on_host {
namespace {

std::string print_list(const char* format, va_list list) {
  char line[1024];
  std::vsnprintf(line, sizeof line, format, list);
  return line;
}

}  // namespace

std::string print(const char* format, ...) {
  va_list list;
  va_start(list, format);
  std::string line = print_list(format, list);
  va_end(list);
  return line;
}

std::string describe(Site site) { return print("%s:%d", site.file, site.line); }

std::string describe_thread(uint32_t block, uint32_t thread) {
  const uint32_t bx = gridDim.x, by = gridDim.y, tx = blockDim.x, ty = blockDim.y;
  return print("block (%u,%u,%u) thread (%u,%u,%u)", block % bx, block / bx % by, block / (bx * by), thread % tx,
               thread / tx % ty, thread / (tx * ty));
}

std::string describe_code(const void* address) {
  const auto offset = static_cast<unsigned long>(reinterpret_cast<uintptr_t>(address) - load_address());
  const std::string command = print("addr2line -Cfspe /proc/%d/exe %lx 2>/dev/null", getpid(), offset);
  char line[512] = "";
  if (FILE* pipe = popen(command.c_str(), "r")) {
    if (!std::fgets(line, sizeof line, pipe)) line[0] = 0;
    pclose(pipe);
  }
  line[std::strcspn(line, "\n")] = 0;
  return line;
}

void report(const std::string& text) {
  if (++machine.reports > 8) return;  // the first ones tell the story
  std::string name = describe_code(machine.kernel);
  name.resize(std::min(name.size(), name.rfind(" at ")));
  const std::string who = machine.current ? describe_thread(machine.block, machine.current->number) : "";
  machine.text += name + ", " + who + ", schedule " + std::to_string(machine.seed) + ": " + text + "\n";
}

void stop(const char* format, ...) {
  {
    va_list list;
    va_start(list, format);
    report(print_list(format, list));
    va_end(list);
  }
  machine.failed = true;
  machine.leave();
  __builtin_unreachable();
}

void trap(Site site) { stop("calls __trap, %s:%d", site.file, site.line); }

std::string take_report() { return std::exchange(machine.text, {}); }

}  // namespace cuda_on_host
