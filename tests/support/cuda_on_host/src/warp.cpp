// Shuffles, votes, reductions and __syncwarp: lanes wait until all that the mask names are there.
#include <algorithm>

#include "machine.h"
#include "report.h"

namespace cuda_on_host {
namespace {

bool has_lane(unsigned mask, unsigned lane) { return (mask >> lane & 1) != 0; }

void refuse_bad_mask(Meeting kind, unsigned mask, unsigned source, uint32_t lane, uint32_t width, Site site) {
  const char* name = name_of(kind);
  if (!has_lane(mask, lane))
    stop("calls %s with mask %08x, which leaves its own lane %u out, %s:%d", name, mask, lane, site.file, site.line);
  if (width < 32 && mask >> width)
    stop("calls %s with mask %08x in a warp of %u threads, %s:%d", name, mask, width, site.file, site.line);
  if (kind == Meeting::kShuffle && !has_lane(mask, source))
    stop("reads lane %u in a shuffle with mask %08x, %s:%d", source, mask, site.file, site.line);
}

// What a vote or a reduction answers to every lane.
uint64_t combine(Thread* const* lanes, unsigned mask, Meeting kind) {
  uint64_t all = 0;
  bool first = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!has_lane(mask, lane)) continue;
    const uint64_t bits = lanes[lane]->value;
    const auto value = static_cast<int64_t>(bits), so_far = static_cast<int64_t>(all);
    if (kind == Meeting::kBallot) all |= bits << lane;
    if (kind == Meeting::kAdd) all += bits;
    if (kind == Meeting::kMin && (first || value < so_far)) all = bits;
    if (kind == Meeting::kMax && (first || value > so_far)) all = bits;
    first = false;
  }
  return all;
}

uint64_t matches(Thread* const* lanes, unsigned mask, uint64_t value) {
  uint64_t found = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (has_lane(mask, lane) && lanes[lane]->value == value) found |= uint64_t{1} << lane;
  return found;
}

// The lanes of `mask` are all here: gives each its answer.
void resolve(Thread* const* lanes, unsigned mask, Meeting kind) {
  const uint64_t all = combine(lanes, mask, kind);
  uint16_t latest = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (has_lane(mask, lane)) latest = std::max(latest, lanes[lane]->warp_syncs);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!has_lane(mask, lane)) continue;
    Thread& thread = *lanes[lane];
    thread.result = all;
    if (kind == Meeting::kSyncWarp) thread.warp_syncs = static_cast<uint16_t>(latest + 1);
    if (kind == Meeting::kShuffle) thread.result = lanes[thread.source]->value;
    if (kind == Meeting::kMatch) thread.result = matches(lanes, mask, thread.value);
  }
}

}  // namespace

const char* name_of(Meeting kind) {
  switch (kind) {
    case Meeting::kShuffle:
      return "a warp shuffle";
    case Meeting::kBallot:
      return "a warp vote";
    case Meeting::kMatch:
      return "__match_any_sync";
    case Meeting::kSyncWarp:
      return "__syncwarp";
    default:
      return "a warp reduction";
  }
}

uint64_t warp_meeting(Meeting kind, unsigned mask, uint64_t value, unsigned source, Site site) {
  Thread& self = *machine.current;
  const uint32_t base = self.number & ~31u, lane = self.number & 31u;
  const uint32_t width = std::min(32u, machine.count - base);
  self.site = site;
  refuse_bad_mask(kind, mask, source, lane, width, site);
  self.kind = kind;
  self.mask = mask;
  self.value = value;
  self.source = source;
  self.state = State::kMeeting;
  Thread* lanes[32];
  for (unsigned i = 0; i < width; ++i) {
    lanes[i] = machine.threads[base + i].get();
    const Thread& other = *lanes[i];
    const bool here =
        other.state == State::kMeeting && other.kind == kind && other.mask == mask && other.site.line == site.line;
    if (has_lane(mask, i) && !here) {
      machine.leave();  // whoever comes last settles it for all
      return self.result;
    }
  }
  resolve(lanes, mask, kind);
  for (unsigned i = 0; i < width; ++i)
    if (has_lane(mask, i) && i != lane) machine.wake(*lanes[i]);
  self.state = State::kReady;
  return self.result;
}

}  // namespace cuda_on_host
