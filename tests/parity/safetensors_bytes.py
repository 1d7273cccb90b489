"""Prints, in hex, the file that the reference safetensors writer makes of a few small tensors.

The expected bytes of tests/unit/io/safetensors_test.cpp (BytesAreThoseOfTheReferenceWriter) are this program's output.
"""

import ctypes
import struct

from safetensors import TensorSpec, serialize

F32 = struct.pack("<2f", 1.0, -2.0)
TENSORS = {
    "layers.2": ("float32", [1, 2], F32),
    "layers.10": ("float32", [2], F32),
    "u": ("uint8", [3], bytes([1, 2, 3])),
    '"q"é': ("bfloat16", [2, 1], struct.pack("<2H", 0x3F80, 0xC000)),
    "i": ("int64", [], struct.pack("<q", -7)),
    "e": ("float16", [0, 4], b""),
}

if __name__ == "__main__":
    buffers = {name: ctypes.create_string_buffer(data, max(len(data), 1)) for name, (_, _, data) in TENSORS.items()}
    specs = {
        name: TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffers[name]), data_len=len(data))
        for name, (dtype, shape, data) in TENSORS.items()
    }
    print(serialize(specs, {"format": "pt"}).hex())
