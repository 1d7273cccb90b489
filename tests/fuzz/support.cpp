#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "fuzz.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"

namespace phi3tune::fuzz {
namespace {

void check(bool fine, const char* what) {
  if (!fine) {
    std::perror(what);
    std::abort();
  }
}

void write_whole(int descriptor, std::string_view contents) {
  for (size_t done = 0; done < contents.size();) {
    const ssize_t written =
        ::pwrite(descriptor, contents.data() + done, contents.size() - done, static_cast<off_t>(done));
    check(written > 0, "write");
    done += static_cast<size_t>(written);
  }
}

// Notes are no faults, and a million of them on a terminal cost more than the readers.
const bool kQuiet = (set_log_level(static_cast<LogLevel>(static_cast<int>(LogLevel::kWarning) + 1)), true);

}  // namespace

MemoryFile::MemoryFile() : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
  check(descriptor_ >= 0, "memfd_create");
  path_ = fmt::format("/proc/self/fd/{}", descriptor_);
}

MemoryFile::~MemoryFile() { ::close(descriptor_); }

void MemoryFile::fill(std::string_view contents) {
  check(::ftruncate(descriptor_, 0) == 0, "ftruncate");
  write_whole(descriptor_, contents);
}

MemoryFolder::MemoryFolder() {
  std::string name = "/dev/shm/phi3tune-fuzz-XXXXXX";
  check(::mkdtemp(name.data()) != nullptr, "mkdtemp");
  path_ = name;
}

MemoryFolder::~MemoryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void MemoryFolder::put(const std::string& name, std::string_view contents) const {
  const int descriptor = ::open((path_ + "/" + name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  check(descriptor >= 0, "open");
  write_whole(descriptor, contents);
  ::close(descriptor);
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), path.c_str());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

bool reads_or_refuses(std::string_view place, const std::function<void()>& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    const auto code = error.exit_code();
    promise(code == ExitCode::kUsage || code == ExitCode::kInput || code == ExitCode::kCheckpoint,
            fmt::format("a refusal is the user's to act on: {}", message));
    promise(plain_lines(message) == message, fmt::format("a message is fit for a terminal: {}", message));
    for (size_t begin = 0; begin <= message.size();) {
      const size_t end = std::min(message.find('\n', begin), message.size());
      const auto line = message.substr(begin, end - begin);
      promise(!line.empty() && line.starts_with(place), fmt::format("every line begins with {}: {}", place, message));
      begin = end + 1;
    }
    return false;
  }
}

void broken(std::string_view promise) {
  std::fprintf(stderr, "broken promise: %.*s\n", static_cast<int>(promise.size()), promise.data());
  std::abort();
}

}  // namespace phi3tune::fuzz
