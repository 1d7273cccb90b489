#include "phi3tune/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/io/folder.h"

namespace phi3tune::io {
namespace {

[[noreturn]] void fail(const std::string& path, const char* step, int code) {
  throw ResourceError("{}: cannot {}: {}", path, step, std::strerror(code));
}

// Writes all of it, however often the system takes only a part. Returns 0 or the error.
int write_all(int descriptor, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor, data, size);
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno;
    }
    data += written;
    size -= static_cast<size_t>(written);
  }
  return 0;
}

}  // namespace

AtomicFile::AtomicFile(std::string path, Mode mode) : path_(std::move(path)), mode_(mode) {
  static std::atomic<unsigned> counter{0};
  const std::filesystem::path final_path(path_);
  if (final_path.filename().empty()) {
    fail(path_, "write", EISDIR);
  }
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  if (mode_ == Mode::kFresh) {
    descriptor_ = ::open(path_.c_str(), kFlags, 0666);
    temporary_ = descriptor_ < 0 ? "" : path_;
  } else {
    do {
      const std::string name = fmt::format(".{}.{}-{}.part", final_path.filename().string(), ::getpid(), counter++);
      temporary_ = (final_path.parent_path() / name).string();
      descriptor_ = ::open(temporary_.c_str(), kFlags, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
  }
  if (descriptor_ < 0) {
    fail(path_, "write", errno);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) {
    throw InternalError("internal error: {} is written after its commit", path_);
  }
  if (const int code = write_all(descriptor_, reinterpret_cast<const char*>(bytes.data()), bytes.size()); code != 0) {
    fail(path_, "write", code);
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::commit() {
  if (descriptor_ < 0) {
    throw InternalError("internal error: {} is committed twice", path_);
  }
  if (::fsync(descriptor_) != 0) {
    fail(path_, "flush to disk", errno);
  }
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0) {
    fail(path_, "close", errno);
  }
  if (mode_ == Mode::kFresh) {
    temporary_.clear();
    return;
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail(path_, "put in place", errno);
  }
  temporary_.clear();
  sync_directory(parent_of(path_));
}

void write_file_atomically(const std::string& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

void write_fresh_file(const std::string& path, std::string_view contents) {
  AtomicFile file(path, AtomicFile::Mode::kFresh);
  file.write(contents);
  file.commit();
}

void make_directories(const std::string& path) {
  std::error_code code;
  std::filesystem::create_directories(path, code);
  if (code) {
    throw ResourceError("{}: cannot create the folder: {}", path, code.message());
  }
}

void sync_directory(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    fail(path, "open the folder", errno);
  }
  const int code = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some network file systems cannot sync a folder and say so.
  if (code != 0 && code != EINVAL && code != ENOTSUP) {
    fail(path, "flush the folder to disk", code);
  }
}

std::optional<uint64_t> cut_file(const std::string& path, uint64_t bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return std::nullopt;
    }
    fail(path, "look at its length", errno);
  }
  const auto before = static_cast<uint64_t>(status.st_size);
  if (before > bytes && ::truncate(path.c_str(), static_cast<off_t>(bytes)) != 0) {
    fail(path, "cut", errno);
  }
  return before;
}

LineWriter::LineWriter(const std::string& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    fail(path_, "write", errno);
  }
}

LineWriter::~LineWriter() { ::close(descriptor_); }

void LineWriter::write_line(std::string_view line) {
  std::string text(line);
  text += '\n';
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  if (const int code = write_all(descriptor_, text.data(), text.size()); code != 0) {
    // Half a line would be read as damage: take it back (pipes and devices have no length to restore).
    if (before >= 0 && ::ftruncate(descriptor_, before) != 0) {
      fail(path_, "write a whole line", code);
    }
    fail(path_, "write", code);
  }
}

uint64_t LineWriter::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    fail(path_, "look at its length", errno);
  }
  return static_cast<uint64_t>(status.st_size);
}

void LineWriter::sync() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) {
    fail(path_, "flush to disk", errno);
  }
}

}  // namespace phi3tune::io
