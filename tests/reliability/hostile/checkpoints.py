"""30 damaged checkpoints: by accident (cut, flipped, mixed up) and by someone who knows how the manifest's checksum is made."""
import json
import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
import sound
from folders import nested, outside, special, steps
from program import DAMAGED, Case
from xxh3 import xxh3_128

STEP = 200
FOLDER = f"step-{STEP:06}"
MANIFEST = f"{FOLDER}/manifest.json"
INSPECT = ["inspect", FOLDER]


def sealed(value):
    """A manifest's text with the checksum that fits it."""
    text = json.dumps({**value, "checksum": "0" * 32}, indent=2, ensure_ascii=False) + "\n"
    at = text.rindex('"checksum": "') + len('"checksum": "')
    return text[:at] + xxh3_128(text.encode()) + text[at + 32:]


def describe(folder):
    files = {path.name: {"bytes": path.stat().st_size, "xxh3_128": xxh3_128(path.read_bytes())}
             for path in sorted((folder / FOLDER).iterdir()) if path.name != "manifest.json"}
    return {"format": 1, "program": "phi3-tune", "kind": "checkpoint", "facts": {"step": STEP, "record": {}}, "files": files}


def seal(folder, change=lambda value: value):
    value = describe(folder)
    value = change(value) or value
    value["files"] = dict(sorted(value["files"].items()))  # as the program writes them
    (folder / MANIFEST).write_text(sealed(value))


def write(folder):
    """A sound checkpoint, as far as a look without its base can see."""
    target = folder / FOLDER
    target.mkdir()
    (target / "adapter_config.json").write_text(json.dumps(sound.ADAPTER, indent=2))
    tensors = sound.adapter_tensors()
    sound.write_tensors(target / "adapter_model.safetensors", tensors)
    count = sum(shape[0] * shape[1] for _, shape, _ in tensors.values())
    sound.write_tensors(target / "optimizer.safetensors", {name: ("F32", [count], bytes(4 * count)) for name in ("moment1", "moment2")})
    (target / "training_state.json").write_text(json.dumps({"loop": {"result": {"epoch": 1.0}, "best": None}, "optimizer_step": STEP}))
    seal(folder)


def flip(name, at):
    def make(folder):
        path = folder / FOLDER / name
        contents = bytearray(path.read_bytes())
        contents[at] ^= 1
        path.write_bytes(contents)
    return make


def cut(name, size):
    return lambda folder: os.truncate(folder / FOLDER / name, size)


def text(contents):
    return lambda folder: (folder / MANIFEST).write_bytes(contents)


def resealed(change):
    """The manifest says something else, and its checksum fits."""
    return lambda folder: seal(folder, change)


def listed(name, entry=None):
    return resealed(lambda value: value["files"].update({name: entry or {"bytes": 2, "xxh3_128": "0" * 32}}))


def replaced(name, contents):
    """Another file, which the manifest vouches for."""
    return steps(lambda folder: (folder / FOLDER / name).write_bytes(contents), seal)


def swapped(one, other):
    def make(folder):
        first, second = folder / FOLDER / one, folder / FOLDER / other
        contents = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(contents)
    return make


def linked(name):
    """The right bytes, but by a link to a place outside."""
    def make(folder):
        (outside(folder) / name).write_bytes((folder / FOLDER / name).read_bytes())
        (folder / FOLDER / name).unlink()
        (folder / FOLDER / name).symlink_to(outside(folder) / name)
    return make


def not_finite(folder):
    path = folder / FOLDER / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", float("nan")))
    seal(folder)


def rows():
    yield "no manifest", lambda folder: (folder / MANIFEST).unlink(), "manifest.json", False
    yield "an empty manifest", text(b""), "manifest.json:1:1", False
    yield "a manifest cut", cut("manifest.json", 100), "manifest.json:", False
    yield "a manifest with a digit changed", flip("manifest.json", -5), "manifest.json", False
    yield "a manifest with other blanks", lambda folder: (folder / MANIFEST).write_text(
        (folder / MANIFEST).read_text().replace("\n", "\r\n")), "manifest.json: damaged", False
    yield "a manifest of another program", resealed(lambda value: value.update(program="phi3")), "not a manifest that phi3-tune wrote", False
    yield "a manifest of another format", resealed(lambda value: value.update(format=2)), "of format 2", False
    yield "a manifest of another kind", resealed(lambda value: value.update(kind="adapter")), "of kind", False
    yield "a manifest of another step", resealed(lambda value: value["facts"].update(step=100)), "of step 100", False
    yield "a manifest without a step", resealed(lambda value: value["facts"].pop("step") and None), "no step", False
    yield "a manifest of brackets", text(nested(1_000_000)), "nested deeper", False
    yield "a manifest of 10 GB", special(MANIFEST, "sparse"), "more than a manifest has", False
    yield "a manifest that is a pipe", special(MANIFEST, "fifo"), "wanted a regular file", False
    yield "a manifest that links out", linked("manifest.json"), "a link, wanted a regular file", True
    yield "a part that is not listed", resealed(lambda value: value["files"].pop("optimizer.safetensors") and None), "does not list optimizer.safetensors", False
    yield "a file too many", listed("more.bin"), "more.bin, which is no part", False
    yield "a name with ../", listed("../outside/model.safetensors"), "no plain name", True
    yield "an absolute name", listed("/etc/passwd"), "no plain name", False
    yield "a name that is ..", listed(".."), "names no file", False
    yield "a name with a NUL", listed("a\0b"), "manifest.json", False
    yield "a length of 10^19", listed("optimizer.safetensors", {"bytes": 10**19, "xxh3_128": "0" * 32}), "the manifest says 10000000000000000000", False
    yield "a length below 0", listed("optimizer.safetensors", {"bytes": -1, "xxh3_128": "0" * 32}), "wanted a length in bytes", False
    yield "a hash of 31 digits", listed("optimizer.safetensors", {"bytes": 1, "xxh3_128": "0" * 31}), "a hash of 32 digits", False
    for name in ("adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "training_state.json"):
        yield f"a bit of {name}", flip(name, 5), f"{name}: damaged", False
    yield "optimizer cut", cut("optimizer.safetensors", 1000), "optimizer.safetensors: 1000 bytes, the manifest says", False
    yield "the adapter missing", lambda folder: (folder / FOLDER / "adapter_model.safetensors").unlink(), "adapter_model.safetensors", False
    yield "two files swapped", swapped("adapter_model.safetensors", "optimizer.safetensors"), "adapter_model.safetensors", False
    yield "the optimizer by a link out", linked("optimizer.safetensors"), "a link, wanted a regular file", True
    yield "a state that is a pipe", special(f"{FOLDER}/training_state.json", "fifo"), "wanted a regular file", False
    yield "a state that is no JSON, vouched for", replaced("training_state.json", b"\x80\x04."), "training_state.json", False
    yield "an adapter that is a pickle, vouched for", replaced("adapter_model.safetensors", b"\x80\x02." + bytes(50)), "adapter_model.safetensors", False
    yield "an adapter that is not finite, vouched for", not_finite, "not finite", False


def checkpoint_cases():
    return [Case(f"checkpoint: {name}", steps(write, make), INSPECT, DAMAGED, FOLDER, says, around=around, speaks=True)
            for name, make, says, around in rows()]
