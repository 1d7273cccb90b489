// A file mapped read-only. Pages already used can be given back to the system.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace phi3tune::io {

class MappedFile {
 public:
  // Throws ModelError (path, the system's reason). Directories, devices and pipes are refused. An empty file maps to an
  // empty span.
  static MappedFile open(const std::string& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const std::string& path() const noexcept { return path_; }
  // Drops the resident pages that lie wholly inside [offset, offset + length) of this process (MADV_DONTNEED); the
  // contents stay readable.
  void release(size_t offset, size_t length) const noexcept;

 private:
  MappedFile() = default;
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace phi3tune::io
