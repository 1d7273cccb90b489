#include "config/table.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

// auto, cpu, cuda or cuda:N.
Setting<O> device() {
  auto type = choice_type({"auto", "cpu", "cuda"}, {});
  type.open = true;
  type.wanted = "auto, cpu, cuda or cuda:N";
  auto setting = row<O>("device", type, "Where to compute; auto: the first GPU that can be used, else the CPU.");
  setting.read = [type](const io::YamlNode& node, Reader& reader, O& run) {
    auto& compute = run.compute;
    compute.device_index = 0;
    if (node.scalar == "auto") {
      compute.device = DeviceKind::kAuto;
    } else if (node.scalar == "cpu") {
      compute.device = DeviceKind::kCpu;
    } else if (node.scalar == "cuda") {
      compute.device = DeviceKind::kCuda;
    } else if (const auto index = node.scalar.starts_with("cuda:") ? parse_int(node.scalar.substr(5)) : std::nullopt;
               index && *index >= 0 && *index < 1024) {
      compute.device = DeviceKind::kCuda;
      compute.device_index = static_cast<int>(*index);
    } else {
      reader.wrong(node, type.wanted);
    }
  };
  setting.show = [](const O& run) {
    switch (run.compute.device) {
      case DeviceKind::kAuto:
        return io::Json("auto");
      case DeviceKind::kCpu:
        return io::Json("cpu");
      case DeviceKind::kCuda:
        break;
    }
    return io::Json("cuda:" + std::to_string(run.compute.device_index));
  };
  return setting;
}

}  // namespace

void add_compute_settings(SettingList<O>& list) {
  using C = ComputeOptions;
  using S = ScheduleOptions;
  list.section("Compute");
  list.add(device());
  list.add(choice<O>(
      "bf16", at(&O::compute, &C::dtype),
      {{ComputeDType::kAuto, {"auto"}}, {ComputeDType::kBFloat16, {"true"}}, {ComputeDType::kFloat32, {"false"}}},
      {"full"}, "Compute in bfloat16; false: in float32; auto: as the machine does it best."));
  list.add(later<O>("fp16", "Compute in float16."));
  list.add(later<O>("tf32", "Products in TF32."));
  list.add(choice<O>("gradient_checkpointing", at(&O::compute, &C::saved_activations),
                     {{SavedActivations::kAuto, {"auto"}},
                      {SavedActivations::kNone, {"none", "false"}},
                      {SavedActivations::kBlock, {"block", "true"}}},
                     {"gate_up", "attention", "selective", "offload", "unsloth"},
                     "What the backward pass computes again: nothing, or each block; results are the same to the bit.")
               .also("grad_checkpoint", "mlx-lm")
               .also("enable_activation_checkpointing", "torchtune")
               .also("disable_gradient_checkpointing", "LLaMA-Factory", Translation::kInverse));
  list.add(later<O>("attn_implementation", "Which attention to use.")
               .also("attn_impl", "ms-swift")
               .also("flash_attn", "LLaMA-Factory"));
  list.add(later<O>("chunked_cross_entropy", "Compute the loss in chunks; it always is."));
  list.add(later<O>("gpu_memory_limit", "Memory of the GPU that the run may take."));
  list.add(integer<O>("threads", at(&O::compute, &C::threads), between(0, 4096),
                      "CPU threads; 0: all cores this process may use."));
  list.add(integer<O>("seed", at(&O::schedule, &S::seed), between(0, kMostSeed),
                      "Names the run's random choices: same seed, same adapter.")
               .also("random_seed", "Unsloth")
               .also("train_seed", "surogate"));
  list.add(integer<O>("data_seed", at(&O::schedule, &S::data_seed), between(0, kMostSeed), "Seed of the data's order.")
               .unset("seed")
               .when("shuffle is true", {"shuffle"}, [](const O& run) { return run.data.shuffle; }));
  list.add(fixed<O>("deterministic", {"true"}, {"false"}, "Repeat to the bit: the only way this program runs.")
               .also("full_determinism", "Hugging Face"));
}

}  // namespace phi3tune::config
