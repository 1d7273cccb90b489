#include "traffic.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "report.h"

namespace cuda_on_host {
namespace {

uint64_t moved_bytes = 0, touched_bytes = 0;

}  // namespace

bool counts_traffic() {
  static const bool wanted = std::getenv("CUDA_ON_HOST_TRAFFIC") != nullptr;
  return wanted;
}

void add_traffic(uint64_t moved, uint64_t touched) {
  moved_bytes += moved;
  touched_bytes += touched;
}

void end_launch(const void* kernel) {
  if (!counts_traffic() || moved_bytes == 0) return;
  static std::ofstream log(std::getenv("CUDA_ON_HOST_TRAFFIC"), std::ios::app);
  static std::map<const void*, std::string> names;
  std::string& name = names[kernel];
  if (name.empty()) name = describe_code(kernel);
  log << std::exchange(moved_bytes, 0) << ' ' << std::exchange(touched_bytes, 0) << ' '
      << name.substr(0, name.rfind(" at ")) << '\n'
      << std::flush;
}

}  // namespace cuda_on_host
