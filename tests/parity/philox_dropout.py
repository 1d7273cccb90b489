"""The dropout masks of our program, so that PEFT can be run under them: an independent Philox4x32-10 (Salmon et al. 2011).

An element's bits are a function of seed, step, layer, linear (0 qkv, 1 o, 2 gate_up, 3 down), sample id, position in its
document, and column; it is dropped where they are below p * 2^32.
"""
import numpy as np
import torch

KINDS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
LOW = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    c = [np.asarray(x, dtype=np.uint64) for x in counter]
    k = [np.uint64(x) for x in key]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & LOW, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & LOW]
        k = [(k[0] + np.uint64(0x9E3779B9)) & LOW, (k[1] + np.uint64(0xBB67AE85)) & LOW]
    return c


def factors(p, seed, step, layer, kind, documents, columns):
    """[tokens, columns] of 0 or 1 / (1 - p); documents: (sample id, length) one after the other."""
    words = lambda value: (value & 0xFFFFFFFF, value >> 32)
    stream = philox([*words(step), layer, kind], words(seed))
    rows = []
    for sample_id, length in documents:
        s = philox([*words(sample_id), stream[2], stream[3]], (stream[0], stream[1]))
        blocks = (columns + 3) // 4
        block, position = np.meshgrid(np.arange(blocks), np.arange(length))
        full = np.broadcast_to
        bits = philox([block, position, full(s[2], block.shape), full(s[3], block.shape)], (s[0], s[1]))
        rows.append(np.stack(bits, -1).reshape(length, 4 * blocks)[:, :columns])
    kept = np.concatenate(rows) >= int(p * 2**32)
    return torch.from_numpy(kept / (1 - p))


class Masked(torch.nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return x * self.mask.to(x.dtype)


def install(model, p, seed, step, documents):
    """Every adapted linear of a PEFT model drops its input by these masks; one packed row."""
    for path, module in model.named_modules():
        if hasattr(module, "lora_dropout") and path.split(".")[-1] in KINDS:
            parts = path.split(".")
            layer, kind = int(parts[parts.index("layers") + 1]), KINDS.index(parts[-1])
            module.lora_dropout["default"] = Masked(factors(p, seed, step, layer, kind, documents, module.in_features))
    return model
