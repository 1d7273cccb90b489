// What the fuzz targets share: files in memory, and what a refusal must look like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace phi3tune::fuzz {

// A file that has a path and no disk. Its name is the same in every run, so that messages are too.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  void fill(std::string_view contents);
  const std::string& path() const noexcept { return path_; }

 private:
  int descriptor_ = -1;
  std::string path_;
};

// A folder in memory (/dev/shm), removed when the process ends.
class MemoryFolder {
 public:
  MemoryFolder();
  ~MemoryFolder();
  MemoryFolder(const MemoryFolder&) = delete;
  MemoryFolder& operator=(const MemoryFolder&) = delete;
  void put(const std::string& name, std::string_view contents) const;
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A whole file; stops the process when it cannot be read.
std::string contents_of(const std::string& path);

// Runs `read`. What it throws must be an Error for the user (exit code 2, 3 or 6) whose message is whole lines of text
// that a terminal can show, each beginning with `place`; anything else stops the process. Returns whether nothing was
// thrown.
bool reads_or_refuses(std::string_view place, const std::function<void()>& read);

// Stops the process: a promise of the code under test does not hold.
[[noreturn]] void broken(std::string_view promise);
inline void promise(bool holds, std::string_view text) {
  if (!holds) {
    broken(text);
  }
}

}  // namespace phi3tune::fuzz
