// The buffers of one forward and backward, declared in one walk: the arena is cut by it, and memory is planned from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/phi3/model_config.h"

namespace phi3tune::plan {

enum class Purpose {
  kTrainSaving,       // every layer keeps what its backward needs
  kTrainRecomputing,  // every layer keeps its input and the ranks' products; the rest is computed again
  kEvaluate           // forward only
};

struct StepShape {
  int64_t tokens = 0;        // M
  int64_t trained_rows = 0;  // R
  int64_t head_chunk = 0;    // rows of logits at once
  size_t element_size = 4;   // bytes of the compute dtype
  size_t wide_size = 4;      // bytes of the wide dtype
  bool dropout = false;
  // Rank beside each linear of each layer; 0: not adapted.
  std::vector<std::array<int64_t, phi3::kLinearKinds>> ranks;
};

// Byte ranges inside the arena. `rows` x `cols` elements, row-major.
struct Buffer {
  size_t offset = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  bool wide = false;  // element type: the wide dtype instead of the compute dtype
};

struct LayerBuffers {
  Buffer rstd_attention;                                // [M, 1] wide
  Buffer qkv;                                           // [M, (N + 2G) H], rotated
  Buffer attention;                                     // [M, N H]
  Buffer lse;                                           // [N, M] wide
  Buffer middle;                                        // [M, D] residual after attention
  Buffer rstd_mlp;                                      // [M, 1] wide
  Buffer gate_up;                                       // [M, 2F]
  std::array<Buffer, phi3::kLinearKinds> lora_product;  // u = x A^T, [M, rank]; always kept
};

struct StepBuffers {
  size_t bytes = 0;
  std::vector<Buffer> residuals;     // [L + 1] of [M, D]; in evaluation two that alternate
  std::vector<LayerBuffers> layers;  // [L]; those that are not kept share their place
  Buffer cosine, sine;               // [M, rotary_dim / 2] wide
  Buffer normed;                     // [M, D]
  Buffer delta;                      // [M, D] a linear's output on its way into the residual
  Buffer hidden;                     // [M, F]
  Buffer dropped;                    // [M, max(D, F, N H)] with dropout
  // Backward.
  Buffer d_residual;   // [M, D]
  Buffer d_normed;     // [M, D]
  Buffer d_hidden;     // [M, F]
  Buffer d_attention;  // [M, N H]
  Buffer d_qkv;        // [M, (N + 2G) H]
  Buffer d_lora;       // [M, largest rank]
  // Head.
  Buffer head_input;   // [R, D] rows of the last residual
  Buffer head_normed;  // [R, D]
  Buffer head_rstd;    // [R, 1] wide
  Buffer d_head;       // [R, D]
  Buffer logits;       // [chunk, V]
};

StepBuffers declare_step_buffers(const phi3::ModelConfig& config, const StepShape& shape, Purpose purpose);

}  // namespace phi3tune::plan
