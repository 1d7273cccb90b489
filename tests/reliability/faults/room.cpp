#include "room.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "plan.h"

namespace faults {
namespace {

constexpr int64_t kPage = 4096;
int64_t counted = 0;

int64_t pages(off_t size) { return (static_cast<int64_t>(size) + kPage - 1) / kPage * kPage; }

int count(const char*, const struct stat* status, int type, struct FTW*) {
  counted += type == FTW_F ? pages(status->st_size) : 0;
  return 0;
}

struct Room {
  int64_t whole = 0;
  std::atomic<int64_t> free{0};
  Room() {
    const char* text = std::getenv("PHI3TUNE_FAULTS_ROOM");
    const char* under = std::getenv("PHI3TUNE_FAULTS_UNDER");
    if (text == nullptr || under == nullptr) {
      return;
    }
    whole = std::atoll(text);
    ::nftw(under, count, 16, FTW_PHYS);
    free = whole - counted;
  }
};

Room& room() {
  static Room* const the = new Room;
  return *the;
}

void give(const struct stat& status, off_t size) {
  if (S_ISREG(status.st_mode) && status.st_size > size) {
    room().free += pages(status.st_size) - pages(size);
  }
}

}  // namespace

bool room_is_limited() { return room().whole > 0; }

size_t take_room(int descriptor, off_t offset, size_t size) {
  struct stat status {};
  if (!room_is_limited() || ::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    return size;
  }
  const int64_t held = pages(status.st_size);
  const int64_t most = held + std::max<int64_t>(room().free / kPage * kPage, 0) - offset;
  const auto fits = std::min<int64_t>(static_cast<int64_t>(size), std::max<int64_t>(most, 0));
  const int64_t wanted = pages(std::max<off_t>(status.st_size, offset + fits));
  room().free -= wanted - held;
  return static_cast<size_t>(fits);
}

bool has_page() {
  if (!room_is_limited()) {
    return true;
  }
  return room().free >= kPage;  // names are free of charge, as on tmpfs, but not on a full disk
}

void give_room(const std::string& path, off_t size) {
  struct stat status {};
  if (room_is_limited() && ::lstat(path.c_str(), &status) == 0 && status.st_nlink == 1) {
    give(status, size);
  }
}

void give_room(int descriptor, off_t size) {
  struct stat status {};
  if (room_is_limited() && ::fstat(descriptor, &status) == 0) {
    give(status, size);
  }
}

int64_t said_room() {
  static const bool unsaid = std::getenv("PHI3TUNE_FAULTS_ROOM_UNSAID") != nullptr;
  return unsaid ? int64_t{1} << 40 : std::max<int64_t>(room().free, 0);
}
int64_t whole_room() { return room().whole; }

}  // namespace faults
