#include "cuda/backend.h"

#include "cuda/cuda_ops.h"
#include "cuda/platform.h"
#include "cuda/streams.h"

namespace phi3tune::cuda {

const ops::Backend& open_backend(int device_index) {
  open_device(device_index);
  static const ops::Backend table{.name = "cuda",
                                  .extended = true,
                                  .asynchronous = true,
                                  .strided = true,
                                  .memory = {.device = platform::device(),
                                             .allocate = allocate,
                                             .upload = upload,
                                             .download = download,
                                             .allocate_host = allocate_host,
                                             .offload = offload,
                                             .fetch = fetch,
                                             .await = await,
                                             .library_bytes = library_bytes,
                                             .room = room},
                                  .gather_rows = gather_rows,
                                  .scatter_rows = scatter_rows,
                                  .rms_norm = rms_norm,
                                  .add_rms_norm = add_rms_norm,
                                  .rms_norm_backward = rms_norm_backward,
                                  .add = add,
                                  .rope = rope,
                                  .attention = attention,
                                  .attention_backward = attention_backward,
                                  .append_to_cache = nullptr,
                                  .cached_attention = nullptr,
                                  .swiglu = swiglu,
                                  .swiglu_backward = swiglu_backward,
                                  .dropout = dropout,
                                  .add_noise = add_noise,
                                  .linear = linear,
                                  .quantized_linear = nullptr,
                                  .linear_input_gradient = linear_input_gradient,
                                  .adapted_linear = adapted_linear,
                                  .add_low_rank = nullptr,
                                  .lora_output_gradient = lora_output_gradient,
                                  .adapted_input_gradient = adapted_input_gradient,
                                  .lora_input_weight_gradient = lora_input_weight_gradient,
                                  .write_extension = write_extension,
                                  .weight_gradient = nullptr,
                                  .embedding_gradient = nullptr,
                                  .cross_entropy = cross_entropy,
                                  .dequantize = dequantize,
                                  .quantize = quantize,
                                  .step_norm = step_norm,
                                  .adamw = adamw,
                                  .convert = convert};
  return table;
}

}  // namespace phi3tune::cuda
