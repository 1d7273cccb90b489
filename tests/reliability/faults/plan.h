// Which call on files fails, and how: read once from the environment of the process under test.
//
// Only calls on paths below PHI3TUNE_FAULTS_UNDER are seen, each counted from 1.
//   PHI3TUNE_FAULTS_AT       the call that is hit; 0 or nothing: none is
//   PHI3TUNE_FAULTS_DO       kill | tear (half of a write, then kill) | short (half of a write, and said so) |
//                            term | usr1 | an error by its name: EIO, ENOSPC, EDQUOT, EINTR, ENOMEM
//   PHI3TUNE_FAULTS_PERSIST  1: every later call as well; a full disk then hits only calls that want room
//   PHI3TUNE_FAULTS_CALLS    names, with commas: only these are counted; nothing: all that change or sync
//   PHI3TUNE_FAULTS_TRACE    a file: one JSON line a counted call; the bytes written go to <file>.data
//   PHI3TUNE_FAULTS_ROOM     bytes that the disk of the folder has in all, in pages of 4096;
//                            ..._ROOM_UNSAID=1: statvfs does not tell, so that it fills up in the middle of a run
//   PHI3TUNE_FAULTS_ALLOCATE_AT, PHI3TUNE_FAULTS_ALLOCATE_FROM   see allocations.cpp
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace faults {

// The library's own calls and allocations are not seen.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  static bool now();
};

// Absolute and without ".", "..", doubled slashes; nothing if it is not below the folder.
std::string seen_path(int folder, const char* path);
std::string seen_path(int descriptor);

struct Call {
  const char* name;
  std::string path{};
  std::string to{};  // rename, link, symlink
  int64_t offset = -1;
  const void* data = nullptr;
  size_t size = 0;
  bool made = false;       // open: the file is new
  bool truncated = false;  // open
};

struct Verdict {
  int error = 0;       // to be returned
  bool half = false;   // of a write is done
  bool death = false;  // after that half
};

// Counts and records the call, before it is made. Kills and signals here.
Verdict judge(const Call& call);

// Whether a call on a path below the folder was made so far.
bool folder_in_use();

void die();

}  // namespace faults
