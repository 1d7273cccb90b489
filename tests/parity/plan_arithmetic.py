"""FLOPs, bytes and memory of Phi-3 LoRA training from closed formulas: tests/references/plan/arithmetic.json.

Independent of the program, which adds up layers and buffers. Standard library only.

    python3 tests/parity/plan_arithmetic.py > tests/references/plan/arithmetic.json
"""
import json

MODELS = {
    "mini": dict(h=3072, L=32, nh=32, nkv=32, hd=96, i=8192),
    "medium": dict(h=5120, L=40, nh=40, nkv=10, hd=128, i=17920),
}
CASES = [("mini", 2048, None), ("mini", 4096, None), ("mini", 4096, 2047), ("mini", 300, 100), ("medium", 2048, None),
         ("medium", 4096, None)]


def phi(h, L, nh, nkv, hd, i, V=32064, r=16, S=2048, W=None):
    """Per token. qkv: width of the fused projection; P, E: weights of the blocks, of the head; Q: adapter parameters."""
    qkv = (nh + 2 * nkv) * hd
    lin = {"qkv": (h, qkv), "o": (nh * hd, h), "gate_up": (h, 2 * i), "down": (i, h)}
    P = L * sum(a * b for a, b in lin.values())
    E = V * h
    Q = L * r * sum(a + b for a, b in lin.values())
    keys = sum(min(q + 1, W or S) for q in range(S)) / S
    a = 4 * nh * hd * L * keys
    size = {name: x * y for name, (x, y) in lin.items()}
    out = {name: y for name, (_, y) in lin.items()}
    # The last layer is still in memory when the backward begins, so L - 1 layers are computed again; x A^T is kept.
    again = L - 1
    return {
        "keys": keys,
        "forward": {"linear": 2 * P, "head": 2 * E, "lora": 2 * Q, "attention": a},
        # Nothing is trained below layer 0's qkv: neither its weights nor its adapter give an input gradient.
        "backward": {"linear": 2 * P - 2 * size["qkv"], "head": 2 * E, "lora": 4 * Q - 2 * r * h, "attention": 2.5 * a},
        "recompute": {
            "none": 0,
            "gate_up": 2 * again * (size["gate_up"] + r * out["gate_up"]),
            "attention": 2 * again * (size["qkv"] + size["gate_up"] + r * (out["qkv"] + out["gate_up"])),
            "block": 2 * again * (P / L - size["down"] + r * (out["qkv"] + out["o"] + out["gate_up"])) + a * again / L,
        },
        "parameters": Q,
        "nf4_bytes": P * (0.5 + 1 / 64 + 4 / (64 * 256)),
        "dequantise_pass_bytes": P * (2.5 + 1 / 64 + 4 / (64 * 256)),
        # bf16: block input, qkv, attention's output, residual after attention, gate_up; fp32 log-sum-exp.
        "checkpoint_bytes": 2 * h * L,
        "saved_bytes": L * (2 * (2 * h + qkv + nh * hd + 2 * i) + 4 * nh),
    }


if __name__ == "__main__":
    cases = [{"model": model, "length": length, "window": window, **phi(**MODELS[model], S=length, W=window)}
             for model, length, window in CASES]
    print(json.dumps({"cases": cases}, indent=1))
