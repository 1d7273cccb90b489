// One product of row-major matrices as cuBLASLt sees it: it thinks in columns, so c^T = b^T a^T is what is asked of it.
#pragma once

#include <ATen/core/Tensor.h>
#include <cublasLt.h>

#include <array>
#include <cstdint>

namespace phi3tune::cuda {

// What an algorithm is chosen by: sizes, layouts, dtypes, alignments.
using ProductKey = std::array<int64_t, 12>;

class Product {
 public:
  // As platform::gemm. Throws ResourceError for what cuBLASLt says.
  Product(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha, double beta);

  const ProductKey& key() const noexcept { return key_; }
  // The best by the library's own model: none that sums in less than float32.
  cublasLtMatmulAlgo_t first_candidate() const;
  cublasStatus_t run(const cublasLtMatmulAlgo_t& algorithm, cudaStream_t stream) const;
  // ResourceError naming op and shapes, unless it went well.
  void check(cublasStatus_t status) const;

 private:
  const char* op_;
  const at::Tensor &c_, &a_, &b_;
  float alpha_, beta_;
  ProductKey key_;
  mutable cublasLtMatmulDescOpaque_t operation_{};
  mutable cublasLtMatrixLayoutOpaque_t left_{}, right_{}, result_{};  // of b, a and c
};

// The library's handle, and 64 MiB for it to work in; taken by the first call.
void open_products();
size_t workspace_bytes() noexcept;

}  // namespace phi3tune::cuda
