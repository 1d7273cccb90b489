"""Writes tiny Phi-3 folders with seeded random weights, in the shapes that differ in kind.

    mha       as Phi-3-mini-4k: one kv head per head, plain RoPE, sliding_window 2047
    gqa       as Phi-3-medium: 4 heads over 2, no sliding window
    longrope  as Phi-3.5-mini and the 128k models: short and long factors, 4 heads over 2, a window that bites
    partial   as Phi-4-mini: 3 of 4 dimensions of a head rotate, LongRoPE with short factors of one, tied embeddings
--original is the length at which LongRoPE changes its table, --window the window of `longrope`. Each folder holds
config.json, model.safetensors, and the tokenizer files when --tokenizer is given. --old-spelling writes config.json as
the published Phi-3 folders spell it (rope_theta, rope_scaling with three keys, torch_dtype).
"""
import argparse, json, os, shutil
import torch
from transformers import Phi3Config, Phi3ForCausalLM

KINDS = ["mha", "gqa", "longrope", "partial"]
HEADS = 4


def shape(kind, head_dim, original, window):
    if kind == "mha":
        return dict(num_key_value_heads=4, sliding_window=2047)
    if kind == "gqa":
        return dict(num_key_value_heads=2, sliding_window=None)
    long = dict(num_key_value_heads=2, max_position_embeddings=32 * original, original_max_position_embeddings=original)
    half = head_dim // 2 if kind == "longrope" else head_dim * 3 // 8
    rope = dict(rope_type="longrope", rope_theta=10000.0, long_factor=[round(1.1 + 1.7 * i, 4) for i in range(half)])
    if kind == "longrope":
        rope["short_factor"] = [round(1.0 + 0.05 * i, 4) for i in range(half)]
        return dict(**long, sliding_window=window, rope_parameters=rope)
    rope.update(short_factor=[1.0] * half, partial_rotary_factor=0.75)
    return dict(**long, sliding_window=262144, tie_word_embeddings=True, rope_parameters=rope)


def old_spelling(path):
    file = os.path.join(path, "config.json")
    config = json.load(open(file))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = None
    if rope["rope_type"] == "longrope":
        config["rope_scaling"] = {"type": "longrope", **{k: rope[k] for k in ("short_factor", "long_factor")}}
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        config["partial_rotary_factor"] = rope["partial_rotary_factor"]
    config["torch_dtype"] = config.pop("dtype")
    with open(file, "w") as out:
        json.dump(config, out, indent=2, sort_keys=True)
        out.write("\n")


def build(kind, seed=1234, hidden=64, intermediate=128, layers=2, vocab=32064, spread=4.0, original=64, window=48,
          round_to_bf16=False):
    stop = min(32000, vocab - 1)
    config = Phi3Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=HEADS, initializer_range=0.02, bos_token_id=1, eos_token_id=stop, pad_token_id=stop,
        **shape(kind, hidden // HEADS, original, window))
    torch.manual_seed(seed)
    model = Phi3ForCausalLM(config)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.mul_(spread)
            else:  # norms other than one, so that a forgotten weight shows
                p.copy_(1 + 0.1 * torch.randn(p.shape))
            if round_to_bf16:
                p.copy_(p.bfloat16())
    return model


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", help="folder that receives one folder a kind")
    ap.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    ap.add_argument("--tokenizer", help="folder with tokenizer.json, tokenizer.model, tokenizer_config.json")
    ap.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    ap.add_argument("--hidden", type=int, default=64)
    ap.add_argument("--intermediate", type=int, default=128)
    ap.add_argument("--layers", type=int, default=2)
    ap.add_argument("--vocab", type=int, default=32064)
    ap.add_argument("--original", type=int, default=64)
    ap.add_argument("--window", type=int, default=48)
    ap.add_argument("--spread", type=float, default=4.0, help="multiplies the initial weights, so logits are not flat")
    ap.add_argument("--seed", type=int, default=1234)
    ap.add_argument("--old-spelling", action="store_true")
    ap.add_argument("--shard", default="50GB", help="max_shard_size, e.g. 2MB to get several shards")
    args = ap.parse_args()
    for kind in args.kinds:
        model = build(kind, args.seed, args.hidden, args.intermediate, args.layers, args.vocab, args.spread,
                      args.original, args.window)
        path = os.path.join(args.out, kind)
        model.to(getattr(torch, args.dtype)).save_pretrained(path, max_shard_size=args.shard)
        if args.old_spelling:
            old_spelling(path)
        if args.tokenizer:
            for name in sorted(os.listdir(args.tokenizer)):
                if name.startswith(("tokenizer", "added_tokens", "special_tokens")):
                    shutil.copy(os.path.join(args.tokenizer, name), path)
        print(path, sum(p.numel() for p in model.parameters()), sorted(os.listdir(path)))


if __name__ == "__main__":
    main()
