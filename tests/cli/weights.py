"""Model and adapter folders made by hand, standard library only."""
import json
import math
import random
import struct

WIDTH = {"F32": 4, "BF16": 2, "F16": 2, "U8": 1}


def write_safetensors(path, tensors, metadata=None, zeros=False):
    """`tensors`: name -> (dtype, shape, bytes). zeros: no bytes are written, the file is a hole of the right length."""
    header, at = {"__metadata__": metadata or {"format": "pt"}}, 0
    for name, (dtype, shape, _) in tensors.items():
        size = math.prod(shape) * WIDTH[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        if zeros:
            out.truncate(8 + len(text) + at)
        else:
            for _, _, data in tensors.values():
                out.write(data)


def read_safetensors(path):
    """Header and data."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), data[8 + length:]


def linears(config):
    """Path without the layer -> (out, in)."""
    hidden, half = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    return {"self_attn.qkv_proj": (hidden + 2 * kv, hidden), "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_up_proj": (2 * half, hidden), "mlp.down_proj": (hidden, half)}


def split_linears(config):
    """The same in Llama's layout."""
    hidden, half = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    return {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (half, hidden), "mlp.up_proj": (half, hidden),
            "mlp.down_proj": (hidden, half)}


def write_adapter(folder, model, modules=linears, rank=4, metadata=None, scale=0.1, **config):
    """An adapter with random A and B over every layer of a model folder; returns its folder."""
    base = json.loads((model / "config.json").read_text())
    draw = random.Random(3)
    tensors = {}
    for layer in range(base["num_hidden_layers"]):
        for path, (out, size) in modules(base).items():
            for half, shape in (("A", [rank, size]), ("B", [out, rank])):
                values = [draw.uniform(-scale, scale) for _ in range(math.prod(shape))]
                tensors[f"base_model.model.model.layers.{layer}.{path}.lora_{half}.weight"] = (
                    "F32", shape, struct.pack(f"<{len(values)}f", *values))
    folder.mkdir(parents=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors, metadata)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": str(model),
                "target_modules": sorted({path.split(".")[-1] for path in modules(base)}), **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def write_zero_model(folder, hidden, intermediate, layers, vocabulary, heads=8):
    """A bf16 model of zeros, whose weights take no room on the disk; returns its folder."""
    config = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": vocabulary, "hidden_size": hidden,
              "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": heads, "hidden_act": "silu", "max_position_embeddings": 4096,
              "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": None,
              "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
              "pad_token_id": 2}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"lm_head.weight": [vocabulary, hidden], "model.embed_tokens.weight": [vocabulary, hidden],
               "model.norm.weight": [hidden]}
    for layer in range(layers):
        for path, shape in linears(config).items():
            tensors[f"model.layers.{layer}.{path}.weight"] = list(shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = [hidden]
    write_safetensors(folder / "model.safetensors", {name: ("BF16", shape, b"") for name, shape in tensors.items()}, zeros=True)
    return folder
