// The pairs of an adapter file as they stand on the fused linears of a base.
//
// Engines that hold q, k and v (gate and up) apart train a pair for each. Where these share their A, [B_q; B_k; B_v] A
// is a pair of the same rank on the fused rows; where they do not, A stacks to the sum of the ranks and B becomes
// block-diagonal. Rows of a linear that has no pair are zero. Either is the same update, to the last bit of the
// weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/phi3/adapter_folder.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

// One pair of the file, and where it goes.
struct FusedPart {
  AdapterModule from;
  int64_t rank = 0;        // of the pair
  int64_t first_row = 0;   // of B, in the fused rows
  int64_t rows = 0;        // of B
  int64_t first_rank = 0;  // in the fused rank: 0 where all parts share their A
  double factor = 1.0;     // its B is multiplied by it, so that one scale serves the fused pair
};

struct FusedModule {
  int64_t layer = 0;
  LinearKind kind{};
  std::string path;  // of the fused linear
  int64_t rank = 0;
  double scale = 0.0;
  std::vector<FusedPart> parts;  // one where the file has the fused linear itself
};

struct FusedAdapter {
  AdapterConfig config;  // of the fused modules: the folder's own where nothing was split
  bool was_split = false;
  std::vector<FusedModule> modules;  // layer by layer: qkv, o, gate_up, down
  std::vector<std::string> notes;    // what became of split modules, a line each
};

// Throws CheckpointError, one line a fault: a module that the base does not have, a shape that is not the base's, a
// pair that target_modules asks for and the file lacks, a linear that is there fused and split.
FusedAdapter fuse_adapter(const AdapterFolder& folder, const ModelConfig& model);

// The config alone, for a folder that may be split.
AdapterConfig read_fused_config(const std::string& folder, const ModelConfig& model);

// The linears that another layout has in the place of a fused one, in the order of its rows: "q_proj", first row, rows.
// One, the linear itself, for those that are not fused.
struct SplitRows {
  std::string name;
  int64_t first_row = 0;
  int64_t rows = 0;
};
std::vector<SplitRows> split_rows(const ModelConfig& model, LinearKind kind);

// Rank and alpha of each module, written as briefly as PEFT's config allows: the commonest as r and lora_alpha, the
// others in rank_pattern and alpha_pattern, by the module's name where all layers agree. `layers`: of the model; names
// that are adapted in all of them stand in target_modules, full paths otherwise.
struct ModuleShape {
  std::string path;
  int64_t rank = 0;
  double scale = 0.0;
};
void describe_modules(AdapterConfig& config, const std::vector<ModuleShape>& modules, int64_t layers);

}  // namespace phi3tune::phi3
