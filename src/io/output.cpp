#include "phi3tune/io/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/folder.h"

namespace phi3tune::io {

namespace fs = std::filesystem;

void require_writable(const std::string& out) {
  std::error_code code;
  const auto place = nearest_there(parent_of(fs::absolute(without_trailing_slash(out), code).string()));
  const int fault = !fs::is_directory(place, code) ? ENOTDIR : access(place.c_str(), W_OK | X_OK) != 0 ? errno : 0;
  if (fault != 0) {
    throw ResourceError("{}: nothing can be written in {}: {}; name another path", out, place, std::strerror(fault));
  }
}

void require_free_output(const std::string& out, const std::vector<std::string>& inputs) {
  if (out.empty()) {
    throw ConfigError("--out: nothing, wanted a path to write");
  }
  std::error_code code;
  const auto target = fs::weakly_canonical(without_trailing_slash(out), code);
  for (const auto& input : inputs) {
    const auto source = fs::weakly_canonical(input, code);
    const auto relative = target.lexically_relative(source);
    if (relative == ".") {
      throw ConfigError("--out {}: is what is read; nothing is written over it: name another path", out);
    }
    if (!relative.empty() && *relative.begin() != "..") {
      throw ConfigError("--out {}: lies in {}, which is read; name a path outside of it", out, input);
    }
  }
  if (fs::exists(fs::symlink_status(without_trailing_slash(out), code))) {
    throw ConfigError("--out {}: exists already; nothing is written over it: name another path, or move it away", out);
  }
  require_writable(out);
}

void require_room(const std::string& out, uint64_t bytes) {
  std::error_code code;
  const uint64_t free = free_bytes(out, code);
  if (!code && free < bytes) {
    throw ResourceError("{}: {} are free there, and {} will be written; make room, or name a path on another disk", out,
                        format_bytes(free), format_bytes(bytes));
  }
}

}  // namespace phi3tune::io
