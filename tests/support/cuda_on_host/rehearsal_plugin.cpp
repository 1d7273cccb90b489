// A plug-in without a GPU: the CUDA back end over kernels that the host executes, so that the program itself runs with
// `device: cuda`. PHI3TUNE_CUDA_PLUGIN names it to the program.
#include "cuda/backend.h"
#include "cuda_on_host/testing.h"
#include "phi3tune/core/error.h"
#include "phi3tune/cuda/plugin.h"

using namespace phi3tune;

extern "C" {

const ops::Backend& phi3tune_cuda_open(int device_index) {
  if (device_index != 0) {
    throw ResourceError("there is no GPU {}: a rehearsal shows 1 (device_index counts from 0)", device_index);
  }
  return cuda::open_backend(0);
}

void phi3tune_cuda_describe(cuda::Facts& facts) {
  facts.emplace_back("GPU 0", "none: a rehearsal, kernels are executed on the host");
}

const cuda::Counters& phi3tune_cuda_counters() { return cuda::counters(); }

}  // extern "C"
