// The buffers of one forward and backward, declared in one walk: the arena is cut by it, and memory is planned from it.
//
// Axes: M tokens of the micro-batch, R trained rows, C rows of a chunk of logits, D hidden, F intermediate, N heads, G
// key/value heads, H head width, V vocabulary, L layers. p: room for an adapter behind each row of a linear's input and
// of its output's gradient, for back ends that multiply base and adapter in one product; else 0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::plan {

using config::SavedActivations;

enum class Purpose { kTrain, kEvaluate };

struct StepShape {
  int64_t tokens = 0;        // M
  int64_t trained_rows = 0;  // R
  int64_t documents = 0;     // at most M
  int64_t head_chunk = 0;    // C, at most R
  size_t element_size = 4;   // bytes of the compute dtype
  size_t wide_size = 4;      // bytes of the wide dtype
  bool dropout = false;
  bool extended = false;  // rows have room for adapters
  // Rank beside each linear of each layer; 0: not adapted. Empty: no adapter.
  std::vector<std::array<int64_t, phi3::kLinearKinds>> ranks;
  int64_t magnitudes = 0;  // outputs of all adapted linears together, with DoRA; 0: no DoRA
  // What each layer keeps for its backward, [L]; never kAuto; kOffload in all layers or none. Unused in evaluation.
  std::vector<SavedActivations> saved;
};

enum class Element { kCompute, kWide, kInt64, kInt32 };

// Byte ranges inside the arena. `rows` x `cols` elements, row-major, rows `ld` elements apart.
struct Buffer {
  size_t offset = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;
  Element element = Element::kCompute;
};

struct LayerBuffers {
  Buffer rstd_attention;                                // [M, 1] wide
  Buffer qkv;                                           // [M, (N + 2G) H], rotated
  Buffer attention;                                     // [M, N H + p]
  Buffer lse;                                           // [N, M] wide
  Buffer middle;                                        // [M, D] residual after attention
  Buffer rstd_mlp;                                      // [M, 1] wide
  Buffer gate_up;                                       // [M, 2F + p]
  std::array<Buffer, phi3::kLinearKinds> lora_product;  // u = x A^T, [M, rank]; always kept
};

struct StepBuffers {
  size_t bytes = 0;
  size_t host_bytes = 0;             // offloaded residuals, in the host's memory: [L - 2] of [M, D]
  std::vector<Buffer> residuals;     // [L + 1] of [M, D]; in evaluation and when offloading, slots that take turns
  std::vector<LayerBuffers> layers;  // [L]; what a layer does not keep has one place that all layers share
  // Inputs.
  Buffer input_ids;             // [M, 1] int64
  Buffer target_rows, targets;  // [R, 1] int64
  Buffer weights;               // [R, 1] wide
  Buffer cu_seqlens;            // [documents + 1, 1] int32
  Buffer sample_ids;            // [documents, 1] int64
  Buffer cosine, sine;          // [M, rotary_dim / 2] wide
  Buffer normed;                // [M, D + p]
  Buffer delta;                 // [M, D] a linear's output on its way into the residual
  Buffer hidden;                // [M, F + p]
  Buffer dropped;               // [M, max(D, F, N H)] with dropout
  Buffer scaled;                // [M, most outputs of an adapted linear] with DoRA: a product before, or a gradient
                                // after, its columns are scaled
  // Backward.
  Buffer d_residual;   // [M, D + p]
  Buffer d_normed;     // [M, D]
  Buffer d_hidden;     // [M, F]; becomes hidden again
  Buffer d_attention;  // [M, N H]
  Buffer d_qkv;        // [M, (N + 2G) H + p]
  Buffer d_lora;       // [M, largest rank], without room in the rows
  // Head.
  Buffer head_input;   // [R, D] rows of the last residual
  Buffer head_normed;  // [R, D]
  Buffer head_rstd;    // [R, 1] wide
  Buffer d_head;       // [R, D]
  Buffer logits;       // [C, V]
  Buffer row_losses;   // [2, C] wide
};

// What a policy keeps beside each layer's input and the ranks' products; the rest is computed again.
struct Kept {
  bool qkv = true, attention = true, gate_up = true;  // attention: with lse and the residual after it
};
Kept kept_by(SavedActivations saved);

size_t element_size(const StepShape& shape, Element element) noexcept;  // bytes
// Room for an adapter: the largest rank beside this kind of linear in any layer, rounded up to a multiple of 8.
int64_t extension(const StepShape& shape, phi3::LinearKind kind);

StepBuffers declare_step_buffers(const phi3::ModelConfig& config, const StepShape& shape, Purpose purpose);

}  // namespace phi3tune::plan
