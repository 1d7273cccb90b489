// The disk of the folder as one of PHI3TUNE_FAULTS_ROOM bytes: what files take in pages of 4096, as tmpfs counts.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace faults {

bool room_is_limited();
// How many bytes of a write at `offset` fit; they are taken. 0: none do.
size_t take_room(int descriptor, off_t offset, size_t size);
// Whether there is a page for a new name.
bool has_page();
// Before a file goes (its last name) or is cut to `size`.
void give_room(const std::string& path, off_t size = 0);
void give_room(int descriptor, off_t size);
int64_t said_room();  // what statvfs answers
int64_t whole_room();

}  // namespace faults
