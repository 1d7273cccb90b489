"""Hostile folders: made by someone who wants the program to crash, to hang, to fill the memory, to read files elsewhere or to run
code. Each damages one thing of a sound folder; `folders()` lists them all.
"""
import json
import os
import pickle
import struct
import zipfile

import sound
from program import DAMAGED, INPUT, Case

WEIGHTS = "model/model.safetensors"
INDEX = "model/model.safetensors.index.json"
ADAPTER = "adapter/adapter_model.safetensors"
ADAPTER_CONFIG = "adapter/adapter_config.json"
GIGABYTES = 10 * 10**9

INSPECT = ["inspect", "model"]
INSPECT_ADAPTER = ["inspect", "adapter"]
CHECK_ADAPTER = ["config", "check", "--config", "run.yaml", "--lora_model_dir", "adapter"]
TRAIN = ["--config", "run.yaml"]
PREVIEW = ["data", "preview", "--config", "run.yaml", "-n", "1"]


class Bomb:
    """What unpickling it would do: leave a mark. The tests look whether the mark is there."""

    MARK = "/tmp/phi3-tune-was-unpickled"

    def __reduce__(self):
        return os.system, (f"touch {self.MARK}",)


def replace(path, contents):
    def make(folder):
        target = folder / path
        target.unlink(missing_ok=True)
        target.write_bytes(contents() if callable(contents) else contents)
    return make


def link(path, target):
    def make(folder):
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(target(folder) if callable(target) else target)
    return make


def outside(folder):
    """A folder beside the case's own, with a sound copy of its model, which nobody may open."""
    return folder.parent / "outside"


def special(path, kind):
    def make(folder):
        (folder / path).unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(folder / path)
        elif kind == "folder":
            (folder / path).mkdir()
        elif kind == "loop":
            (folder / path).symlink_to((folder / path).name)
        elif kind == "nowhere":
            (folder / path).symlink_to("is-not-there")
        elif kind == "sparse":
            with open(folder / path, "wb") as file:
                file.truncate(GIGABYTES)
        else:
            (folder / path).symlink_to(kind)  # a device
    return make


def header(change, path=WEIGHTS):
    return lambda folder: sound.edit_header(folder / path, change)


def in_json(path, change):
    return lambda folder: sound.edit_json(folder / path, change)


def set_keys(path, **keys):
    return in_json(path, lambda value: value.update(keys))


def steps(*makes):
    def make(folder):
        for one in makes:
            one(folder)
    return make


def nested(depth, opening="[", closing="]"):
    return (opening * depth + closing * depth).encode()


def many_tensors(count):
    return b"{" + b",".join(b'"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(count)) + b"}"


def file_with(text, data=b""):
    """A whole safetensors file with this header."""
    return lambda: sound.header_bytes(text() if callable(text) else text) + data


def first(names):
    return next(name for name in names if name != "__metadata__")


def stretch(name, shape, begin, end, dtype="BF16"):
    return header(lambda h: h.__setitem__(name, sound.entry(dtype, shape, begin, end)))


def overlap(h):
    names = sorted((n for n in h if n != "__metadata__"), key=lambda n: h[n]["data_offsets"])
    size = h[names[0]]["data_offsets"][1]
    begin = h[names[1]]["data_offsets"][0]
    h[names[1]]["data_offsets"] = [begin - 2, h[names[1]]["data_offsets"][1] - 2]
    return None if size else h


def hole(h):
    names = sorted((n for n in h if n != "__metadata__"), key=lambda n: h[n]["data_offsets"])
    del h[names[len(names) // 2]]


def same_range(h):
    names = [n for n in h if n != "__metadata__" and h[n]["shape"] == [64]]
    h[names[0]]["data_offsets"] = h[names[1]]["data_offsets"]


def headers():
    """Headers of the base model's file."""
    claim = {"a": sound.entry("F32", [GIGABYTES // 4], 0, GIGABYTES)}
    yield "length 2^63", replace(WEIGHTS, struct.pack("<Q", 1 << 63) + b"{}" + bytes(90)), "9223372036854775808 bytes"
    yield "length 2^64 - 1", replace(WEIGHTS, b"\xff" * 8 + b"{}" + bytes(90)), "18446744073709551615 bytes"
    yield "length one above the limit", replace(WEIGHTS, struct.pack("<Q", 100_000_001) + b"{}" + bytes(90)), "100000001 bytes"
    yield "10 GB of header in 100 bytes", replace(WEIGHTS, struct.pack("<Q", GIGABYTES) + b"{" + bytes(91)), "header of 10000000000"
    yield "90 MB of header in 100 bytes", replace(WEIGHTS, struct.pack("<Q", 90_000_000) + b"{" + bytes(91)), "only 92 are left"
    yield "length one too long", replace(WEIGHTS, struct.pack("<Q", 93) + b"{}" + b" " * 90), "only 92 are left"
    yield "10 GB of tensor in 100 bytes", replace(WEIGHTS, file_with(claim)), "data bytes of the file"
    yield "10 GB of file, all zero", special(WEIGHTS, "sparse"), "0 bytes, wanted a JSON object"
    yield "90 MB of spaces", replace(WEIGHTS, file_with(lambda: b"{" + b" " * 90_000_000 + b"}")), ""
    yield "60 MB in one name", replace(WEIGHTS, file_with(lambda: b'{"' + b"n" * 60_000_000 + b'":1}')), "in one piece"
    yield "400,000 empty tensors", replace(WEIGHTS, file_with(lambda: many_tensors(400_000))), "more than 200000 tensors"
    yield "a million digits", replace(WEIGHTS, file_with(b'{"a":{"dtype":"U8","shape":[' + b"9" * 1_000_000 + b'],"data_offsets":[0,0]}}')), "column"
    yield "a shape of a million ones", replace(WEIGHTS, file_with(b'{"a":{"dtype":"U8","shape":[' + b",".join([b"1"] * 1_000_000)
                                                          + b'],"data_offsets":[0,1]}}', b"x")), ""
    yield "metadata of 500,000 keys", header(lambda h: h.update(__metadata__={f"k{i}": "" for i in range(500_000)}) or h.update(a={})), "a: dtype is missing"
    yield "metadata of 40 MB", header(lambda h: h.update(__metadata__={"k": "v" * 40_000_000}) or h.update(a={})), "in one piece"
    yield "100,000 brackets", replace(WEIGHTS, file_with(b'{"a":' + nested(100_000) + b"}")), "deeper than 3 levels"
    yield "2 million braces", replace(WEIGHTS, file_with(b'{"a":' * 2_000_000)), "deeper than 3 levels"
    yield "shape whose product is 2^64", stretch("x", [1 << 32, 1 << 32], 0, 0), "larger than any file"
    yield "shape whose product wraps to 64", stretch("x", [(1 << 58) + 1, 64], 0, 128), "larger than any file"
    yield "a size of 2^63", stretch("x", [1 << 63, 0], 0, 0), "larger than any file"
    yield "a size of 2^64", stretch("x", [1 << 64], 0, 0), "wanted whole numbers"
    yield "a size below 0", stretch("x", [-4, -4], 0, 32), "-4, wanted whole numbers"
    yield "begin behind the end", stretch("x", [4], 16, 8), "do not lie in"
    yield "end at 2^64 - 1", stretch("x", [4], 8, (1 << 64) - 1), "do not lie in"
    yield "begin at 2^64 - 4", stretch("x", [4], (1 << 64) - 4, 4), "do not lie in"
    yield "overlapping ranges", header(overlap), "overlap"
    yield "two tensors of one range", header(same_range), "model.safetensors: tensor"
    yield "a hole", header(hole), "a hole"
    yield "bytes behind the data", lambda folder: (folder / WEIGHTS).open("ab").write(b"more"), "4 bytes follow the last tensor"
    yield "a name twice", header(lambda h: json.dumps(h).encode()[:-1] + b"," + json.dumps({first(h): h[first(h)]}).encode()[1:]), ""
    yield "a name twice, once as an escape", header(
        lambda h: json.dumps(h).encode()[:-1] + b',"\\u006d' + json.dumps({first(h): h[first(h)]}).encode()[3:]), ""
    yield "a name with terminal commands", stretch("\x1b]0;owned\x07\x1b[2J", [0], 0, 0), "control characters"
    yield "a name with lines", stretch("a\nerror: all is well", [0], 0, 0), "control characters"
    yield "10 MB of one name in an error", stretch("n" * 10_000_000, [4], 0, 4), ""
    yield "NUL in the header", replace(WEIGHTS, file_with(b'{"a\0":{}}')), "a NUL byte"
    yield "a number of 10^400", replace(WEIGHTS, file_with(b'{"a":{"dtype":"U8","shape":[1e400],"data_offsets":[0,0]}}')), ""


def pretenders():
    """Other files under the name of the weights."""
    yield "a pickle", replace(WEIGHTS, lambda: pickle.dumps(Bomb())), ""
    yield "a zip of a pickle, as torch.save writes", torch_zip, ""
    yield "a polyglot: tensors, then a zip", lambda folder: (folder / WEIGHTS).open("ab").write(zip_bytes()), "bytes follow the last tensor"
    yield "a polyglot: a zip, then tensors", lambda folder: replace(WEIGHTS, zip_bytes() + (folder / WEIGHTS).read_bytes())(folder), ""
    yield "a polyglot: a header that begins as a pickle", replace(WEIGHTS, b"\x80\x02" + bytes(6) + b"{}" + bytes(700)), ""
    yield "a GGUF file", replace(WEIGHTS, b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1 << 62) + bytes(80)), "at most 100000000"
    yield "a program", replace(WEIGHTS, b"\x7fELF\x02\x01\x01" + bytes(200)), ""
    yield "a page that says 404", replace(WEIGHTS, b"<!DOCTYPE html><html>404</html>" + b" " * 100), "at most 100000000"
    yield "a pointer of Git LFS", replace(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), "Git LFS"
    for kind in ("bin", "pt", "pth", "ckpt", "pkl"):
        def make(folder, kind=kind):
            (folder / WEIGHTS).unlink()
            (folder / f"model/pytorch_model.{kind}").write_bytes(pickle.dumps(Bomb()))
        yield f"weights only in a .{kind}", make, f"pytorch_model.{kind}"


def zip_bytes():
    import io  # pylint: disable=import-outside-toplevel
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    return buffer.getvalue()


def torch_zip(folder):
    replace(WEIGHTS, zip_bytes())(folder)


def sharded(weight_map, *more):
    """The weights under shard names of an index, whose map is then changed."""
    def make(folder):
        os.rename(folder / WEIGHTS, folder / "model/a.safetensors")
        names = sound.read_safetensors(folder / "model/a.safetensors")[0]
        whole = {name: "a.safetensors" for name in names if name != "__metadata__"}
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map(whole, folder)}))
        for one in more:
            one(folder)
    return make


def pointing(to):
    """One tensor of the map names another file."""
    return sharded(lambda whole, folder: {**whole, first(whole): to(folder) if callable(to) else to})


def indices():
    beside = lambda folder: os.path.relpath(outside(folder) / "model.safetensors", folder / "model")  # noqa: E731
    yield "../ in a shard's name", pointing(beside), "is not the name of a .safetensors file", True
    yield "an absolute shard", pointing(lambda folder: str(outside(folder) / "model.safetensors")), "is not the name of", True
    yield "../ behind a folder's own name", pointing("x/../../../outside/model.safetensors"), "is not the name of", True
    yield "../ with backslashes", pointing("..\\..\\outside\\model.safetensors"), "is not the name of", True
    yield "a shard in /etc", pointing("/etc/passwd"), "is not the name of", True
    yield "a shard in /proc", pointing("/proc/self/mem.safetensors"), "is not the name of", True
    yield "a shard that is ..", pointing(".."), "is not the name of", False
    yield "a shard without a name", pointing(""), "is not the name of", False
    yield "a shard with a NUL", pointing("a.safetensors\0.safetensors"), "is not the name of", False
    yield "a shard with lines", pointing("a\nerror: b.safetensors"), "is not the name of", False
    yield "a pickle as a shard", pointing("b.bin"), "a pickle file is never opened", False
    yield "a shard that links out", steps(sharded(lambda whole, _: whole), lambda folder: link(
        "model/a.safetensors", outside(folder) / "model.safetensors")(folder)), "a link that leads out", True
    yield "a shard that links out by way of a folder", steps(
        sharded(lambda whole, _: {name: "b.safetensors" for name in whole}),
        lambda folder: (folder / "model/d").symlink_to(outside(folder)), link("model/b.safetensors", "d/model.safetensors")), "a link that leads out", True
    yield "an index that links out", steps(sharded(lambda whole, _: whole), link(INDEX, lambda folder: outside(folder) / "index.json")), "a link that leads out", True
    yield "an index of a million tensors", sharded(lambda whole, _: {f"t{i}": "a.safetensors" for i in range(1_000_000)}), "larger than", False
    yield "an index of 100,000 tensors", sharded(lambda whole, _: {f"t{i}": "a.safetensors" for i in range(100_000)}), "more faults", False
    yield "an index of 10,000 shards", sharded(lambda whole, _: {f"t{i}": f"s{i}.safetensors" for i in range(10_000)}), "", False
    yield "an index of brackets", steps(sharded(lambda whole, _: whole), replace(INDEX, nested(1_000_000))), "nested deeper", False
    yield "an index that is a pipe", steps(sharded(lambda whole, _: whole), special(INDEX, "fifo")), "not a regular file", False
    yield "a shard that is a pipe", steps(sharded(lambda whole, _: whole), special("model/a.safetensors", "fifo")), "not a regular file", False


def model_files():
    secret = lambda name: lambda folder: outside(folder) / name  # noqa: E731
    yield "weights that link out", link(WEIGHTS, secret("model.safetensors")), "a link that leads out", True
    yield "weights that are a pipe", special(WEIGHTS, "fifo"), "not a regular file", False
    yield "weights that are a folder", special(WEIGHTS, "folder"), "a folder, wanted a file", False
    yield "weights that link to themselves", special(WEIGHTS, "loop"), "model.safetensors", False
    yield "weights that are /dev/zero", special(WEIGHTS, "/dev/zero"), "a link that leads out", True
    yield "config.json that links out", link("model/config.json", secret("config.json")), "a link that leads out", True
    yield "config.json that is a pipe", special("model/config.json", "fifo"), "config.json", False
    yield "config.json that is a folder", special("model/config.json", "folder"), "config.json", False
    yield "config.json that is /dev/zero", special("model/config.json", "/dev/zero"), "config.json", True
    yield "config.json of 10 GB", special("model/config.json", "sparse"), "larger than", False
    yield "config.json of brackets", replace("model/config.json", nested(2_000_000)), "nested deeper", False
    yield "generation_config.json that links out", link("model/generation_config.json", secret("config.json")), "a link that leads out", True
    yield "a billion layers", set_keys("model/config.json", num_hidden_layers=10**9), "num_hidden_layers: found 1000000000", False
    yield "4096 layers that are not there", set_keys("model/config.json", num_hidden_layers=4096), "tensors", False
    yield "a width of 2^62", set_keys("model/config.json", hidden_size=1 << 62), "hidden_size", False
    yield "heads below 0", set_keys("model/config.json", num_attention_heads=-4), "num_attention_heads: found -4", False
    yield "sizes whose product overflows", set_keys("model/config.json", hidden_size=1 << 24, intermediate_size=1 << 24,
                                                    vocab_size=1 << 24, num_attention_heads=1 << 23), "", False
    yield "300,000 LongRoPE factors", set_keys("model/config.json", rope_scaling={
        "type": "longrope", "short_factor": [1.0] * 300_000, "long_factor": [1.0] * 300_000}), "found 300000 numbers", False
    yield "stop ids of half a million", steps(set_keys("model/generation_config.json", eos_token_id=[5000] * 500_000)), "eos_token_id", False


def nf4_model(folder, change):
    """The base with one layer's linear as bitsandbytes stores it, whose parts are then changed."""
    name = "model.layers.0.self_attn.o_proj.weight"
    header_, data = sound.read_safetensors(folder / WEIGHTS)
    tensors = {n: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for n, e in header_.items() if n != "__metadata__"}
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 64]}
    group = {name: ("U8", [2048, 1], bytes(2048)), f"{name}.absmax": ("F32", [64], bytes(256)),
             f"{name}.quant_map": ("F32", [16], struct.pack("<16f", *[i / 8 - 1 for i in range(16)]))}
    change(name, group, state)
    text = state if isinstance(state, bytes) else json.dumps(state).encode()
    group.setdefault(f"{name}.quant_state.bitsandbytes__nf4", ("U8", [len(text)], text))
    tensors.update(group)
    sound.write_tensors(folder / WEIGHTS, {n: t for n, t in tensors.items() if t is not None})
    sound.edit_json(folder / "model/config.json", lambda c: c.update(quantization_config={
        "_load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": False, "load_in_4bit": True, "quant_method": "bitsandbytes"}))


def quantised():
    def case(change):
        return lambda folder: nf4_model(folder, change)
    lying = lambda name, group, state: group.update({f"{name}.absmax": ("F32", [1 << 20], bytes(4 << 20))})  # noqa: E731
    yield "absmax larger than the weight", case(lying), "absmax: shape [1048576], wanted [64]"
    yield "absmax of none", case(lambda n, g, s: g.update({f"{n}.absmax": ("F32", [0], b"")})), "absmax: shape [0]"
    yield "absmax of another dtype", case(lambda n, g, s: g.update({f"{n}.absmax": ("U8", [64], bytes(64))})), "absmax"
    yield "a block of 1", case(lambda n, g, s: s.update(blocksize=1)), "blocksize: found 1"
    yield "a block of 2^40", case(lambda n, g, s: s.update(blocksize=1 << 40)), "blocksize: found"
    yield "another shape in the state", case(lambda n, g, s: s.update(shape=[1 << 30, 1 << 30])), "shape: found"
    yield "a code of 3", case(lambda n, g, s: g.update({f"{n}.quant_map": ("F32", [3], bytes(12))})), "quant_map: shape [3], wanted [16]"
    yield "nested absmax that is too short", case(lambda n, g, s: g.update({
        f"{n}.absmax": ("U8", [64], bytes(64)), f"{n}.nested_absmax": ("F32", [0], b""),
        f"{n}.nested_quant_map": ("F32", [256], bytes(1024))})), "nested_absmax: shape [0], wanted [1]"
    yield "a state of brackets", case(lambda n, g, s: g.update({
        f"{n}.quant_state.bitsandbytes__nf4": ("U8", [2_000_000], nested(1_000_000))})), "nested deeper"
    yield "packed bytes of another weight", case(lambda n, g, s: g.update({n: ("U8", [7, 1], bytes(7))})), "shape [7, 1], wanted [2048, 1]"


def floats(path, name, pattern):
    """One value of a tensor is replaced."""
    def make(folder):
        header_, data = sound.read_safetensors(folder / path)
        begin = header_[name]["data_offsets"][0]
        sound.write_safetensors(folder / path, header_, data[:begin] + pattern + data[begin + len(pattern):])
    return make


def adapters():
    half = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"
    weights = lambda change: header(change, ADAPTER)  # noqa: E731
    number = lambda text: replace(ADAPTER_CONFIG, json.dumps({**sound.ADAPTER, "lora_alpha": "?"}).replace('"?"', text).encode())  # noqa: E731
    yield "a scale that is NaN", number("NaN"), "adapter_config.json", False
    yield "a scale that is Infinity", number("Infinity"), "adapter_config.json", False
    yield "a scale of 10^400", number("1e400"), "adapter_config.json", False
    yield "a scale of 0", number("0"), "lora_alpha: found 0", False
    yield "no scale", in_json(ADAPTER_CONFIG, lambda c: c.pop("lora_alpha")), "lora_alpha: found nothing", False
    yield "a pattern's scale of 0", set_keys(ADAPTER_CONFIG, alpha_pattern={"qkv_proj": 0}), "alpha_pattern", False
    yield "a scale as text", set_keys(ADAPTER_CONFIG, lora_alpha="16"), "lora_alpha: found \"16\"", False
    yield "a rank of 2^62", set_keys(ADAPTER_CONFIG, r=1 << 62), "r: found", False
    yield "a rank below 0", set_keys(ADAPTER_CONFIG, r=-1), "r: found -1", False
    yield "a pattern that never ends", set_keys(ADAPTER_CONFIG, target_modules="(([a-z._0-9]+)+)+Q?a"), "adapter", False
    yield "a rank pattern that never ends", set_keys(ADAPTER_CONFIG, rank_pattern={"(([a-z._0-9]+)+)+Q?a": 4}), "adapter", False
    yield "a pattern of 100,000 brackets", set_keys(ADAPTER_CONFIG, target_modules="(" * 100_000 + ")" * 100_000), "target_modules", False
    yield "100,000 targets", set_keys(ADAPTER_CONFIG, target_modules=[f"m{i}" for i in range(100_000)]), "adapter", False
    yield "adapter_config.json of brackets", replace(ADAPTER_CONFIG, nested(2_000_000)), "nested deeper", False
    yield "adapter_config.json that is a pipe", special(ADAPTER_CONFIG, "fifo"), "adapter_config.json", False
    yield "adapter_config.json that links out", link(ADAPTER_CONFIG, lambda folder: outside(folder) / "adapter_config.json"), "a link that leads out", True
    yield "adapter weights that link out", link(ADAPTER, lambda folder: outside(folder) / "adapter_model.safetensors"), "a link that leads out", True
    yield "adapter weights that are a pipe", special(ADAPTER, "fifo"), "not a regular file", False
    yield "a pickle as adapter weights", replace(ADAPTER, pickle.dumps(Bomb())), "adapter_model.safetensors", False
    for kind in ("bin", "pt", "pth", "ckpt", "pkl"):
        def make(folder, kind=kind):
            (folder / ADAPTER).unlink()
            (folder / f"adapter/adapter_model.{kind}").write_bytes(pickle.dumps(Bomb()))
        yield f"adapter weights only in a .{kind}", make, f"adapter_model.{kind}", False
    yield "NaN in the adapter", floats(ADAPTER, half, b"\0\0\xc0\x7f"), "not finite", False
    yield "infinity in the adapter", floats(ADAPTER, half, b"\0\0\x80\xff"), "not finite", False
    yield "10 GB of adapter in 100 bytes", replace(ADAPTER, file_with({half: sound.entry("F32", [2, GIGABYTES // 8], 0, GIGABYTES)})), "data bytes of the file", False
    yield "adapter tensors that overlap", weights(overlap), "overlap", False
    yield "half of a pair", weights(lambda h: h.update({half.replace("lora_A", "lora_C"): h.pop(half)})), "lora_C", False
    yield "adapter tensors of whole numbers", weights(lambda h: h[half].update(dtype="I32")), "dtype I32", False
    yield "another rank than it says", set_keys(ADAPTER_CONFIG, r=3), "wanted [3, in]", False


def auto_template(**keys):
    """The folder's own template counts, and is this."""
    return steps(set_keys("model/tokenizer_config.json", **keys),
                 lambda folder: (folder / "run.yaml").write_text(sound.SETTINGS.replace("chat_template: phi_3\n", "")))


def tokenizers():
    json_ = "model/tokenizer.json"
    config = "model/tokenizer_config.json"
    vocabulary = lambda change: in_json(json_, lambda t: change(t["model"]))  # noqa: E731
    yield "tokenizer.json that links out", link(json_, lambda folder: outside(folder) / "tokenizer.json"), "a link that leads out", True
    yield "tokenizer_config.json that links out", link(config, lambda folder: outside(folder) / "tokenizer_config.json"), "a link that leads out", True
    yield "a template that links out", link("model/chat_template.jinja", lambda folder: outside(folder) / "config.json"), "a link that leads out", True
    yield "tokenizer.json that is a pipe", special(json_, "fifo"), "tokenizer.json", False
    yield "tokenizer.json of 10 GB", special(json_, "sparse"), "larger than", False
    yield "tokenizer.json of brackets", replace(json_, nested(5_000_000)), "nested deeper", False
    yield "an id of 2^31", vocabulary(lambda m: m["vocab"].update(x=1 << 31)), "model.vocab", False
    yield "an id below 0", vocabulary(lambda m: m["vocab"].update(x=-1)), "model.vocab", False
    yield "an id far from all others", vocabulary(lambda m: m["vocab"].update({"x\u00ffx": (1 << 24) - 1})), "", False
    yield "two million pieces", vocabulary(lambda m: m["vocab"].update({f"p{i}": 3000 + i for i in range(2_000_000)})), "", False
    yield "two million merges", vocabulary(lambda m: m["merges"].extend(["t h"] * 2_000_000)), "more than 1750000 values", False
    yield "a split that never ends", in_json(json_, lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(((a|a?)+)+)+$"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]})), "", False
    yield "added tokens of a million", in_json(json_, lambda t: t["added_tokens"].extend(
        {"id": 5000 + i, "content": f"<{i}>", "special": True} for i in range(300_000))), "", False
    yield "a template that runs code", auto_template( chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}"), "template", False
    yield "a template of 10 MB", auto_template(chat_template="{% if x %}" * 1_000_000), "larger than", False
    yield "a template of 3 MB", auto_template(chat_template="{% if x %}" * 300_000), "template", False
    yield "tokenizer.model that lies about its length", steps(
        lambda folder: (folder / json_).unlink(), replace("model/tokenizer.model", b"\x0a\xff\xff\xff\xff\x0f" + bytes(100))), "tokenizer.model", False
    yield "tokenizer.model of 10 GB", steps(lambda folder: (folder / json_).unlink(), special("model/tokenizer.model", "sparse")), "larger than", False
    yield "tokenizer.model of a million empty messages", steps(
        lambda folder: (folder / json_).unlink(), replace("model/tokenizer.model", b"\x0a\x00" * 1_000_000)), "piece 0", False


def folders():
    cases = []
    for name, make, says in [*headers(), *pretenders(), *quantised()]:
        cases.append(Case(f"model: {name}", make, INSPECT, INPUT, "model", says))
    for name, make, says, around in [*indices(), *model_files()]:
        cases.append(Case(f"model: {name}", make, INSPECT, INPUT, "model", says, around=around))
    for name, make, says, around in adapters():
        cases.append(Case(f"adapter: {name}", make, INSPECT_ADAPTER, DAMAGED, "adapter", says, around=around))
    for name, make, says, around in tokenizers():
        cases.append(Case(f"tokenizer: {name}", make, PREVIEW, INPUT, "model", says, around=around))
    return cases
