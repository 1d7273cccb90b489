"""NF4 with double quantisation in plain numpy, written from the formulas: a reference independent of bitsandbytes.

quantise(values, rule) returns the codes, block maxima and nested state of a tensor. `rule` chooses how a nested code is
found, which is where bitsandbytes' CPU and CUDA programs differ:
    "lookup"  the CPU library: a table of 65536 entries, the nearest map value of each grid point
    "search"  the CUDA kernels: a binary search in the map, then the nearer neighbour
and how a block of zeros is coded: "lookup" takes the code of zero (byte 0x77), "search" code 0 (byte 0x00).
All arithmetic is fp32. `offset` may be given: the mean of the block maxima is a parallel sum in bitsandbytes, whose last
bits depend on the machine; without it the mean is taken in fp64, in order, and rounded once.
"""
import numpy as np

BLOCK, NESTED_BLOCK = 64, 256
CODE = np.array([0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000, 0x3da2faff,
                 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000], np.uint32).view(np.float32)
THRESHOLDS = (CODE[1:] + CODE[:-1]) / np.float32(2)


def linspace(start, end, count):
    """torch.linspace in fp32: forward from the start in the first half, backward from the end in the second."""
    start, end = np.float32(start), np.float32(end)
    step = np.float32((end - start) / np.float32(count - 1))
    index = np.arange(count)
    forward = (start.astype(np.float64) + step.astype(np.float64) * index).astype(np.float32)  # fused multiply-add
    backward = (end.astype(np.float64) - step.astype(np.float64) * (count - 1 - index)).astype(np.float32)
    return np.where(index < count // 2, forward, backward).astype(np.float32)


def signed_dynamic_map():
    values = [np.float32(0), np.float32(1)]
    for i in range(7):
        edges = linspace(0.1, 1, 2**i + 1)
        middles = (edges[:-1] + edges[1:]) / np.float32(2)
        scaled = np.float32(10.0 ** (i - 6)) * middles
        values += list(scaled) + list(-scaled)
    return np.sort(np.array(values, np.float32))


MAP = signed_dynamic_map()
MIDPOINTS = (MAP[1:] + MAP[:-1]) * np.float32(0.5)


def nested_search(x):
    """The CUDA kernel's rule for one value in [-1, 1]: seven steps from the middle, then a test against a neighbour."""
    pivot, lower, upper = 127, 0, 255
    low, high = np.float32(-1), np.float32(1)
    value, step = MAP[pivot], 64
    while step > 0:
        if x > value:
            lower, low = pivot, value
            pivot += step
        else:
            upper, high = pivot, value
            pivot -= step
        value = MAP[pivot]
        step >>= 1
    if upper == 255:
        high = MAP[255]
    if lower == 0:
        low = MAP[0]
    if x > value:
        return upper if x > np.float32((high + value) * np.float32(0.5)) else pivot
    return lower if x < np.float32((low + value) * np.float32(0.5)) else pivot


def lookup_table():
    grid = (np.float32(-1) + np.float32(2) * np.arange(65536, dtype=np.float32) / np.float32(65535)).astype(np.float32)
    right = np.clip(np.searchsorted(MAP, grid), 1, 255)
    nearer_left = np.abs(grid - MAP[right - 1]) <= np.abs(MAP[right] - grid)
    return np.where(nearer_left, right - 1, right).astype(np.uint8)


LOOKUP = lookup_table()


def reciprocal(largest):
    with np.errstate(divide="ignore"):
        return np.float32(1) / largest


def nested_codes(delta, largest, rule):
    """The codes of one block of (block maximum - offset), whose largest size is `largest`."""
    if largest == 0:  # every block maximum is the offset: 0 / 0 and 0 * inf are NaN, which both rules code as 0
        return np.zeros(delta.size, np.uint8)
    if rule == "search":
        return np.array([nested_search(x) for x in delta * reciprocal(largest)], np.uint8)
    x = delta / largest
    index = np.floor((x + np.float32(1)) * np.float32(0.5) * np.float32(65535) + np.float32(0.5)).astype(np.int64)
    return LOOKUP[np.clip(index, 0, 65535)]


def block_codes(block, largest, rule):
    if rule == "search":
        with np.errstate(invalid="ignore"):  # a block of zeros: 0 * inf is above no threshold
            x = block * reciprocal(largest)
    else:
        largest = max(largest, np.float32(1e-38))
        x = block * reciprocal(largest) if block.size == BLOCK else block / largest
    return (x[:, None] > THRESHOLDS).sum(1)


def quantise(values, rule="search", offset=None):
    """values: fp32 (16-bit ones widened), any shape, taken as one row."""
    flat = np.asarray(values, np.float32).reshape(-1)
    absmax, codes = [], []
    for start in range(0, flat.size, BLOCK):
        block = flat[start:start + BLOCK]
        absmax.append(np.abs(block).max())
        padded = np.append(block, np.zeros(block.size % 2, np.float32))
        codes.append(block_codes(padded if rule == "search" else block, absmax[-1], rule))
    absmax, codes = np.array(absmax, np.float32), np.concatenate(codes)
    codes = np.append(codes, [7] * (codes.size % 2)).astype(np.uint8)
    if rule == "lookup" and flat.size % BLOCK:
        absmax[-1] = max(absmax[-1], np.float32(1e-38))
    if offset is None:
        offset = sum(float(x) for x in absmax) / absmax.size
    offset = np.float32(offset)
    delta = absmax - offset
    parts = [delta[k:k + NESTED_BLOCK] for k in range(0, delta.size, NESTED_BLOCK)]
    nested_absmax = np.array([np.abs(d).max() for d in parts], np.float32)
    state = np.concatenate([nested_codes(d, m, rule) for d, m in zip(parts, nested_absmax)])
    return dict(packed=(codes[0::2] << 4 | codes[1::2]).reshape(-1, 1), absmax=state, quant_map=CODE, block_absmax=absmax,
                nested_absmax=nested_absmax, nested_quant_map=MAP, nested_offset=offset.reshape(1))


def restored_absmax(state):
    scale = np.repeat(state["nested_absmax"], NESTED_BLOCK)[:state["absmax"].size]
    return state["nested_quant_map"][state["absmax"]] * scale + state["nested_offset"]


def dequantise(state, count):
    """fp32, before the rounding to the recorded dtype."""
    codes = np.stack((state["packed"] >> 4, state["packed"] & 15), -1).reshape(-1)[:count]
    return CODE[codes] * np.repeat(restored_absmax(state), BLOCK)[:count]
