#include "cuda/device/product.h"

#include <algorithm>
#include <bit>

#include "cuda/calls.h"
#include "phi3tune/core/error.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{64} << 20;

// For the life of the process.
cublasLtHandle_t handle = nullptr;
void* workspace = nullptr;

// A matrix as it lies in memory, rows first.
struct Stored {
  explicit Stored(const at::Tensor& matrix)
      : transposed(matrix.stride(1) != 1),
        rows(matrix.size(transposed ? 1 : 0)),
        columns(matrix.size(transposed ? 0 : 1)),
        distance(std::max(matrix.stride(transposed ? 1 : 0), columns)) {
    require(matrix.stride(transposed ? 0 : 1) == 1, "a matrix of a product has no unit stride");
  }
  bool transposed;
  int64_t rows, columns, distance;
};

cudaDataType_t cuda_type(at::ScalarType dtype) { return dtype == at::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F; }

int64_t alignment(const at::Tensor& matrix) {
  const auto address = reinterpret_cast<uintptr_t>(matrix.data_ptr());
  return std::min<int64_t>(256, int64_t{1} << std::countr_zero(address | 256));
}

}  // namespace

void open_products() {
  if (handle == nullptr) {
    if (cublasLtCreate(&handle) != CUBLAS_STATUS_SUCCESS) {
      throw ResourceError("cuBLASLt does not start on this GPU: driver and libcublasLt.so.13 may not belong together");
    }
    ++counters().allocations;
    succeeded("cuBLASLt's workspace", cudaMalloc(&workspace, kWorkspaceBytes));
  }
}
size_t workspace_bytes() noexcept { return workspace == nullptr ? 0 : kWorkspaceBytes; }

Product::Product(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha,
                 double beta)
    : op_(op), c_(c), a_(a), b_(b), alpha_(static_cast<float>(alpha)), beta_(static_cast<float>(beta)) {
  const Stored left(b), right(a), result(c);
  require(!result.transposed, "the result of a product is not row-major");
  const auto operation_of = [](const Stored& matrix) -> int32_t {
    return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  const int32_t left_operation = operation_of(left), right_operation = operation_of(right);
  // CUBLAS_COMPUTE_32F: never TF32.
  check(cublasLtMatmulDescInit(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  check(cublasLtMatmulDescSetAttribute(&operation_, CUBLASLT_MATMUL_DESC_TRANSA, &left_operation,
                                       sizeof(left_operation)));
  check(cublasLtMatmulDescSetAttribute(&operation_, CUBLASLT_MATMUL_DESC_TRANSB, &right_operation,
                                       sizeof(right_operation)));
  // A row in memory is a column of the library's.
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& into, const Stored& matrix, at::ScalarType dtype) {
    check(cublasLtMatrixLayoutInit(&into, cuda_type(dtype), static_cast<uint64_t>(matrix.columns),
                                   static_cast<uint64_t>(matrix.rows), matrix.distance));
  };
  layout(left_, left, b.scalar_type());
  layout(right_, right, a.scalar_type());
  layout(result_, result, c.scalar_type());
  key_ = {c.size(0),
          c.size(1),
          a.size(1),
          left.transposed ? 1 : 0,
          right.transposed ? 1 : 0,
          left.distance,
          right.distance,
          result.distance,
          static_cast<int64_t>(a.scalar_type()),
          static_cast<int64_t>(c.scalar_type()),
          beta_ != 0.0F ? 1 : 0,
          alignment(a) | alignment(b) << 16 | alignment(c) << 32};
}

cublasLtMatmulAlgo_t Product::first_candidate() const {
  cublasLtMatmulPreferenceOpaque_t preference{};
  check(cublasLtMatmulPreferenceInit(&preference));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  // Parts of a sum over split rows meet in float32 and in a fixed order.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(alignment(b_)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(alignment(a_)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(alignment(c_)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(alignment(c_)));
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle, &operation_, &left_, &right_, &result_, &result_, &preference, 1, &best,
                                       &count));
  if (count == 0) {
    check(CUBLAS_STATUS_NOT_SUPPORTED);
  }
  return best.algo;
}

cublasStatus_t Product::run(const cublasLtMatmulAlgo_t& algorithm, cudaStream_t stream) const {
  return cublasLtMatmul(handle, &operation_, &alpha_, b_.const_data_ptr(), &left_, a_.const_data_ptr(), &right_, &beta_,
                        c_.data_ptr(), &result_, c_.data_ptr(), &result_, &algorithm, workspace, kWorkspaceBytes,
                        stream);
}

void Product::check(cublasStatus_t status) const {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw ResourceError(
        "{} of {}: cuBLASLt reports {} ({}); CUDA_LAUNCH_BLOCKING=1 shows whether an earlier op is to "
        "blame, `dmesg | grep -i xid` a fault of the hardware",
        op_, shapes_text({&c_, &a_, &b_}), cublasLtGetStatusString(status), cublasLtGetStatusName(status));
  }
}

}  // namespace phi3tune::cuda
