// Files that are whole or absent: written beside their place, fsynced, renamed, and the folder fsynced.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace phi3tune::io {

// A file being written under a temporary dot-name in the same folder. Without commit() the destructor removes it.
// Every member throws ResourceError naming the final path and the system's reason (open, write, fsync, close, rename).
class AtomicFile {
 public:
  // kReplace: takes the place of what is there. kFresh: for a folder that is itself staged, renamed and synced as a
  // whole: written under its own name, which must be free, and fsynced; the folder is left to its owner.
  enum class Mode { kReplace, kFresh };
  explicit AtomicFile(std::string path, Mode mode = Mode::kReplace);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::string path_;
  Mode mode_;
  std::string temporary_;  // to be removed if it is not committed
  int descriptor_ = -1;
};

void write_file_atomically(const std::string& path, std::string_view contents);
void write_fresh_file(const std::string& path, std::string_view contents);

// Creates a folder and its parents; fine if it exists. Throws ResourceError.
void make_directories(const std::string& path);
// fsync of a folder, so that names in it survive a power cut. Throws ResourceError.
void sync_directory(const std::string& path);

// Cuts a file to `bytes`; shorter ones are left as they are. Returns the length before; nothing if there is no such
// file. Throws ResourceError.
std::optional<uint64_t> cut_file(const std::string& path, uint64_t bytes);

// A file that grows line by line; each line reaches the kernel whole. Throws ResourceError.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path);
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;
  void write_line(std::string_view line);  // adds the newline
  uint64_t size() const;                   // bytes of the file
  void sync();

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace phi3tune::io
