"""Holds our safetensors reader and writer to the reference library, both ways.

    scripts/parity_python tests/parity/live_safetensors.py --program build/bin/safetensors_dump

200 files that we write are read by the library and 200 of its files by us: names, dtypes, shapes, metadata and bytes are equal, and
our files are its own byte for byte. Every damaged file that it refuses, we refuse; where we refuse more is listed, and that list is
held to.
"""
import argparse
import ctypes
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import safetensors
import xxhash

FILES = 200
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4,
         "F64": 8, "I64": 8, "U64": 8}
# The reference library's names for its writer.
WRITER = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "I16": "int16", "U16": "uint16",
          "F16": "float16", "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32", "F64": "float64", "I64": "int64", "U64": "uint64"}
# What the library takes and we refuse, by the name of the damage; the reason is in the reader's header.
STRICTER = {"a control character in a name", "an empty name", "a name of 5000 bytes", "a key that is not part of the format", "a dtype we do not know",
            "a name twice", "a space first"}


def contents(seed, size):
    return bytes((seed + 131 * i) % 256 for i in range(size))


def random_spec(generator, path):
    tensors = []
    for number in range(generator.randrange(0, 12)):
        name = generator.choice(["model.layers.{}.weight", "é{}", "a b {}", "\U0001f600{}", '"{}\\', "{}"]).format(number)
        shape = [generator.choice([0, 1, 1, 2, 3, 7, 16]) for _ in range(generator.randrange(0, 4))]
        tensors.append({"name": name, "dtype": generator.choice(list(SIZES)), "shape": shape, "seed": generator.randrange(256)})
    metadata = {generator.choice(["format", "k", "é", '"']): generator.choice(["pt", "", "\n", "\U0001f600"]) for _ in range(generator.randrange(0, 3))}
    return {"path": path, "metadata": metadata, "tensors": tensors}


def bytes_of(tensor):
    size = SIZES[tensor["dtype"]]
    for one in tensor["shape"]:
        size *= one
    return contents(tensor["seed"], size)


def theirs(spec):
    """The file as the reference library writes it."""
    buffers = {t["name"]: ctypes.create_string_buffer(bytes_of(t), max(1, len(bytes_of(t)))) for t in spec["tensors"]}
    tensors = {t["name"]: safetensors.TensorSpec(dtype=WRITER[t["dtype"]], shape=t["shape"], data_ptr=ctypes.addressof(buffers[t["name"]]),
                                                 data_len=len(bytes_of(t))) for t in spec["tensors"]}
    return bytes(safetensors.serialize(tensors, spec["metadata"] or None))


def run(program, mode, lines):
    done = subprocess.run([program, mode], input="".join(line + "\n" for line in lines), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout.splitlines()


def equal(spec, tensors):
    """tensors: name -> (dtype, shape, bytes or hash)"""
    if set(tensors) != {t["name"] for t in spec["tensors"]}:
        return f"names {sorted(tensors)}"
    for tensor in spec["tensors"]:
        dtype, shape, data = tensors[tensor["name"]]
        wanted = bytes_of(tensor)
        if dtype != tensor["dtype"] or list(shape) != tensor["shape"] or data not in (wanted, xxhash.xxh3_128_hexdigest(wanted)):
            return f"{tensor['name']}: {dtype} {shape}"
    return None


def ours_read_by_theirs(program, specs):
    run(program, "write", [json.dumps(spec) for spec in specs])
    faults = []
    for spec in specs:
        with open(spec["path"], "rb") as file:
            written = file.read()
        tensors = {name: (view["dtype"], view["shape"], bytes(view["data"])) for name, view in safetensors.deserialize(written)}
        fault = equal(spec, tensors)
        if fault is None and written != theirs(spec) and len(spec["metadata"]) < 2:  # the library orders its metadata at random
            fault = "other bytes than the library writes"
        with safetensors.safe_open(spec["path"], "np") as opened:
            if fault is None and (opened.metadata() or {}) != spec["metadata"]:
                fault = f"metadata {opened.metadata()}"
        faults += [f"{spec['path']}: {fault}"] if fault else []
    return faults


def theirs_read_by_ours(program, specs):
    for spec in specs:
        with open(spec["path"], "wb") as file:
            file.write(theirs(spec))
    faults = []
    for spec, line in zip(specs, run(program, "read", [spec["path"] for spec in specs])):
        found = json.loads(line)
        fault = found.get("error") or equal(spec, {t["name"]: (t["dtype"], t["shape"], t["hash"]) for t in found["tensors"]})
        if fault is None and found["metadata"] != spec["metadata"]:
            fault = f"metadata {found['metadata']}"
        faults += [f"{spec['path']}: {fault}"] if fault else []
    return faults


def damages():
    """name -> file"""
    def file(header, data=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def one(dtype="F32", shape=(2,), offsets=(0, 8), **more):
        return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}
    data = bytes(8)
    sound = file({"a": one()}, data)
    yield "sound", sound
    for size in (0, 1, 7, 8, 9, len(sound) - 1):
        yield f"cut to {size} bytes", sound[:size]
    for length in (0, 1, len(sound) - 9, len(sound), 100_000_001, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1):
        yield f"a header of {length} bytes", struct.pack("<Q", length) + sound[8:]
    yield "a byte more", sound + b"\0"
    yield "a header that is a list", file(b"[]")
    yield "a header that is text", file(b'"a"')
    yield "a header that is a number", file(b"1")
    yield "no JSON", file(b"{a}")
    yield "a space first", file(b" {}")
    yield "a comma too much", file(b'{"a":' + json.dumps(one()).encode() + b",}", data)
    yield "text behind the header", file(b"{}x")
    yield "bytes that are not UTF-8", file(b'{"\xff":' + json.dumps(one()).encode() + b"}", data)
    yield "half a surrogate pair", file(b'{"\\ud800":' + json.dumps(one()).encode() + b"}", data)
    yield "a NUL in the header", file(b'{"a\0":' + json.dumps(one()).encode() + b"}", data)
    yield "a name twice", file(b'{"a":' + json.dumps(one()).encode() + b',"a":' + json.dumps(one()).encode() + b"}", data)
    yield "an unknown dtype", file({"a": one(dtype="F31")}, data)
    yield "a dtype in small letters", file({"a": one(dtype="f32")}, data)
    yield "a dtype as a number", file({"a": one(dtype=32)}, data)
    for key in ("dtype", "shape", "data_offsets"):
        yield f"no {key}", file({"a": {k: v for k, v in one().items() if k != key}}, data)
        yield f"{key} null", file({"a": {**one(), key: None}}, data)
    yield "a shape as a number", file({"a": {**one(), "shape": 2}}, data)
    yield "a size below 0", file({"a": one(shape=(-2,))}, data)
    yield "a size with a fraction", file({"a": one(shape=(2.0,))}, data)
    yield "a size as text", file({"a": one(shape=("2",))}, data)
    yield "a size of 2^64", file({"a": one(shape=(1 << 64,))}, data)
    yield "a product of 2^64", file({"a": one(shape=(1 << 32, 1 << 32), offsets=(0, 0))})
    yield "a product that wraps", file({"a": one(shape=((1 << 61) + 2, 8), offsets=(0, 8))}, data)
    yield "fewer bytes than the shape", file({"a": one(offsets=(0, 4))}, data[:4])
    yield "more bytes than the shape", file({"a": one(shape=(1,))}, data)
    yield "begin behind the end", file({"a": one(shape=(0,), offsets=(8, 0))}, data)
    yield "an end outside", file({"a": one(offsets=(8, 16))}, data)
    yield "an offset below 0", file({"a": one(offsets=(-8, 0))}, data)
    yield "one offset", file({"a": one(offsets=(8,))}, data)
    yield "three offsets", file({"a": one(offsets=(0, 8, 8))}, data)
    yield "an offset with a fraction", file({"a": one(offsets=(0.0, 8))}, data)
    yield "a hole at the start", file({"a": one(shape=(1,), offsets=(4, 8))}, data)
    yield "a hole", file({"a": one(dtype="U8", shape=(2,), offsets=(0, 2)), "b": one(dtype="U8", shape=(4,), offsets=(4, 8))}, data)
    yield "an overlap", file({"a": one(dtype="U8", shape=(6,), offsets=(0, 6)), "b": one(dtype="U8", shape=(4,), offsets=(4, 8))}, data)
    yield "one range twice", file({"a": one(), "b": one()}, data)
    yield "data that no tensor holds", file({}, data)
    yield "metadata of numbers", file({"__metadata__": {"a": 1}})
    yield "metadata that is text", file({"__metadata__": "a"})
    yield "metadata that is nested", file({"__metadata__": {"a": {}}})
    yield "a tensor that is a number", file({"a": 1})
    yield "100 brackets", file(b'{"a":' + b"[" * 100 + b"]" * 100 + b"}")
    yield "a control character in a name", file({"a\x1b": one()}, data)
    yield "an empty name", file({"": one()}, data)
    yield "a name of 5000 bytes", file({"a" * 5000: one()}, data)
    yield "a key that is not part of the format", file({"a": one(scale=1)}, data)
    yield "a dtype we do not know", file({"a": one(dtype="F4", shape=(16,))}, data)


def refused_by_both(program, folder):
    cases = []
    for number, (name, whole) in enumerate(damages()):
        path = os.path.join(folder, f"damaged-{number}.safetensors")
        with open(path, "wb") as file:
            file.write(whole)
        try:
            safetensors.deserialize(whole)
            takes = True
        except Exception:  # the library's error, and a Python one where a value does not convert
            takes = False
        cases.append((name, path, takes))
    faults, stricter = [], set()
    for (name, _, takes), line in zip(cases, run(program, "read", [path for _, path, _ in cases])):
        ours = "error" not in json.loads(line)
        if ours and not takes:
            faults.append(f"{name}: the library refuses it, we do not")
        elif takes and not ours:
            stricter.add(name)
    refused = sum(not takes for _, _, takes in cases)
    print(f"{len(cases)} damaged files, {refused} refused by the library; we refuse more: {', '.join(sorted(stricter))}")
    if stricter != STRICTER:
        faults.append(f"stricter by another list: {sorted(stricter ^ STRICTER)}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the program safetensors_dump")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    generator = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        specs = [random_spec(generator, os.path.join(folder, f"{i}.safetensors")) for i in range(FILES)]
        results = {"ours read by the library": ours_read_by_theirs(args.program, specs),
                   "the library's read by us": theirs_read_by_ours(args.program, specs),
                   "damaged files": refused_by_both(args.program, folder)}
    for name, faults in results.items():
        print(f"{name}: {len(faults)} faults", *faults[:10], sep="\n  ")
    failed = sum(bool(faults) for faults in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
