// One product of row-major matrices as cuBLASLt sees it: it thinks in columns, so c^T = b^T a^T is what is asked of it.
#pragma once

#include <ATen/core/Tensor.h>
#include <cublasLt.h>

#include <array>
#include <cstdint>

namespace phi3tune::cuda {

// What an algorithm is chosen by. Sizes are rounded up to eight steps a doubling: rows of free length share a choice.
using ProductKey = std::array<int64_t, 12>;

class Product {
 public:
  // As platform::gemm. Throws ResourceError for what cuBLASLt says.
  Product(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha, double beta);

  const ProductKey& key() const noexcept { return key_; }
  bool adds() const noexcept { return beta_ != 0.0F; }
  size_t result_bytes() const noexcept { return result_bytes_; }  // of c with the room between its rows
  // At most 8, the best first, by the library's own model: none that sums in less than float32.
  int heuristics(std::array<cublasLtMatmulHeuristicResult_t, 8>& results) const;
  // Into c, or into `elsewhere` of result_bytes().
  cublasStatus_t run(const cublasLtMatmulAlgo_t& algorithm, cudaStream_t stream, void* elsewhere = nullptr) const;
  // ResourceError naming op and shapes, unless it went well.
  void check(cublasStatus_t status) const;

 private:
  const char* op_;
  const at::Tensor &c_, &a_, &b_;
  float alpha_, beta_;
  size_t result_bytes_;
  ProductKey key_;
  mutable cublasLtMatmulDescOpaque_t operation_{};
  mutable cublasLtMatrixLayoutOpaque_t left_{}, right_{}, result_{};  // of b, a and c
};

// The library's handle, and 64 MiB for it to work in; taken by the first call.
void open_products();
size_t workspace_bytes() noexcept;

}  // namespace phi3tune::cuda
