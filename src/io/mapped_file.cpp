#include "phi3tune/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "phi3tune/core/error.h"

namespace phi3tune::io {
namespace {

const size_t kPageSize = static_cast<size_t>(::sysconf(_SC_PAGESIZE));

std::string reason() { return std::strerror(errno); }

}  // namespace

MappedFile MappedFile::open(const std::string& path) {
  // Non-blocking: a pipe nobody writes to must not hang the open.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw ModelError("{}: cannot be opened: {}", path, reason());
  }
  struct stat status {};
  std::string fault;
  MappedFile file;
  file.path_ = path;
  if (::fstat(descriptor, &status) != 0) {
    fault = "cannot be opened: " + reason();
  } else if (!S_ISREG(status.st_mode)) {
    fault = S_ISDIR(status.st_mode) ? "a folder, wanted a file" : "not a regular file";
  } else if (status.st_size > 0) {
    void* data = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) {
      fault = "cannot be mapped: " + reason();
    } else {
      file.data_ = static_cast<const std::byte*>(data);
      file.size_ = static_cast<size_t>(status.st_size);
    }
  }
  ::close(descriptor);
  if (!fault.empty()) {
    throw ModelError("{}: {}", path, fault);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

void MappedFile::release(size_t offset, size_t length) const noexcept {
  if (offset >= size_) {
    return;
  }
  const size_t end_byte = offset + std::min(length, size_ - offset);
  // The last page of the file belongs to it alone, however little of it is used.
  const size_t end = end_byte == size_ ? size_ : end_byte / kPageSize * kPageSize;
  const size_t begin = (offset + kPageSize - 1) / kPageSize * kPageSize;
  if (begin < end) {
    ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
  }
}

}  // namespace phi3tune::io
