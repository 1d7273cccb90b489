"""Prints weights that init-model writes, from the definition in src/phi3/random_weights.h and numpy's roundings.

The expected numbers of tests/unit/phi3/init_model_test.cpp are this program's output.
"""

import math

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def weight(seed, name, index):
    key = mix(mix((seed + GOLDEN) & MASK) ^ fnv1a64(name))
    total = 0
    for j in (2 * index, 2 * index + 1):
        word = mix((key + (j + 1) * GOLDEN) & MASK)
        total += sum((word >> (16 * part)) & 0xFFFF for part in range(4))
    scale = np.float32(0.02 / math.sqrt(8 * (2**32 - 1) / 12))
    return np.float32(total - 262140) * scale


def bf16_bits(value):
    bits = int(np.float32(value).view(np.uint32))
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


if __name__ == "__main__":
    for seed, name, index in [(0, "lm_head.weight", 0), (0, "lm_head.weight", 1), (0, "model.norm", 0),
                              (7, "lm_head.weight", 0), (2**64 - 1, "model.embed_tokens.weight", 10**9)]:
        value = weight(seed, name, index)
        print(f"{seed} {name} {index}: {float(value).hex()} f16 {int(np.float16(value).view(np.uint16)):#06x} "
              f"bf16 {bf16_bits(value):#06x}")
    for value in [0.0, -0.0, 1.0, 1e-8, 3e-8, -5.96e-8, 6.0e-5, 6.1e-5, 0.33333334, 65504.0, 65519.0, 65520.0, -1e30,
                  2.0**-25, 2.0**-25 * 1.0001, 1.5 * 2.0**-24, 2.0**-14 - 2.0**-26]:
        value = np.float32(value)
        with np.errstate(over="ignore"):
            print(f"{float(value).hex()}f, {int(np.float16(value).view(np.uint16)):#06x}")
