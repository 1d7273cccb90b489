// Kernels with one fault each.
#pragma once

#include <cuda_runtime_api.h>

enum class Fault {
  kNone,
  kExitBeforeBarrier,
  kDivergentBarrier,
  kMaskWithoutCaller,
  kLaneNeverComes,
  kCopyNeverAwaited,
  kMissingBarrier,
  kMissingSyncwarp,
  kBlocksWriteTheSame,
  kUnwrittenShared,
  kReadBehind,
  kWriteBehind,
  kTrap,
};

// `out` holds 256 zeros.
cudaError_t run_faulty(Fault fault, int* out);
