"""Checkpoints made by hand for the tests of inspect: manifests whose hashes come from libxxhash itself."""
import json
import shutil
import struct
import sys

import front

sys.path.insert(0, str(front.SOURCE / "tests/support"))
from xxh3 import xxh3_128  # noqa: E402  (after its place is known)

ADAPTER = front.SOURCE / "tests/references/adapters/mha"
ZEROS = "0" * 32


def measured(path):
    data = path.read_bytes()
    return {"bytes": len(data), "xxh3_128": xxh3_128(data)}


def write_manifest(folder, step, kind="checkpoint"):
    files = {p.name: measured(p) for p in sorted(folder.iterdir()) if p.name != "manifest.json"}
    value = {"format": 1, "program": "phi3-tune", "kind": kind, "facts": {"step": step, "record": {"run_name": "tickets"}},
             "files": files, "checksum": ZEROS}
    text = json.dumps(value, indent=2) + "\n"
    checksum = xxh3_128(text.encode())
    (folder / "manifest.json").write_text(text.replace(f'"checksum": "{ZEROS}"', f'"checksum": "{checksum}"'))


def safetensors(**tensors):
    """Named lists of floats as F32."""
    header, data = {}, b""
    for name, values in tensors.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make(parent, step, **loop):
    """A sound checkpoint of the reference adapter; returns its folder."""
    folder = parent / f"step-{step:06}"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(ADAPTER / name, folder / name)
    (folder / "optimizer.safetensors").write_bytes(safetensors(moment1=[0.0] * 8, moment2=[0.0] * 8))
    result = {"steps": step, "epoch": 1.5, "last_loss": 2.25, "trained_tokens": 99, "tokens": 120, "training_seconds": 3.5}
    state = {"format": 1, "loop": {"result": result, "best": None, **loop}}
    (folder / "training_state.json").write_text(json.dumps(state))
    write_manifest(folder, step)
    return folder


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
