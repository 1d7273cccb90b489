"""Sound inputs, which the cases damage: a model, an adapter, data and settings, all tiny."""
import json
import pathlib
import shutil
import struct
import subprocess

import program

LAYERS = 2
# Module path -> (in, out) of the tiny shape.
MODULES = {f"model.layers.{layer}.{name}": size for layer in range(LAYERS) for name, size in
           {"self_attn.qkv_proj": (64, 192), "self_attn.o_proj": (64, 64), "mlp.gate_up_proj": (64, 256),
            "mlp.down_proj": (128, 64)}.items()}
RANK = 2
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "F64": 8, "I64": 8}

SETTINGS = """base_model: model
datasets:
  - path: data.jsonl
sequence_len: 128
chat_template: phi_3
output_dir: out
"""
RECORDS = "".join(json.dumps({"messages": [{"role": "user", "content": f"What is {i}?"},
                                           {"role": "assistant", "content": f"{i} is a number."}]}) + "\n" for i in range(4))
ADAPTER = {"alpha_pattern": {}, "base_model_name_or_path": None, "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
           "init_lora_weights": True, "lora_alpha": 4, "lora_dropout": 0.0, "modules_to_save": None, "peft_type": "LORA", "r": RANK,
           "rank_pattern": {}, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], "task_type": "CAUSAL_LM",
           "use_dora": False, "use_rslora": False}


def header_bytes(header):
    """A safetensors file's beginning: the length and the JSON, whatever that says."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def read_safetensors(path):
    """(header, data) of a sound file."""
    contents = path.read_bytes()
    length = struct.unpack("<Q", contents[:8])[0]
    return json.loads(contents[8:8 + length]), contents[8 + length:]


def write_safetensors(path, header, data):
    path.write_bytes(header_bytes(header) + data)


def write_tensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, data = {}, b""
    for name, (dtype, shape, contents) in tensors.items():
        header[name] = entry(dtype, shape, len(data), len(data) + len(contents))
        data += contents
    write_safetensors(path, header, data)


def adapter_tensors():
    tensors = {}
    for module, (wide, out) in MODULES.items():
        for half, shape in (("A", [RANK, wide]), ("B", [out, RANK])):
            count = shape[0] * shape[1]
            tensors[f"base_model.model.{module}.lora_{half}.weight"] = ("F32", shape, struct.pack(f"<{count}f", *([0.01] * count)))
    return tensors


class Sound:
    """Made once; `copy` gives a case its own."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        made = subprocess.run([program.PROGRAM, "init-model", self.folder / "model", "--shape", "tiny", "--tokenizer",
                               program.SOURCE / "data/tokenizer-small"], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise RuntimeError(made.stderr)
        (self.folder / "adapter").mkdir()
        (self.folder / "adapter/adapter_config.json").write_text(json.dumps(ADAPTER, indent=2))
        write_tensors(self.folder / "adapter/adapter_model.safetensors", adapter_tensors())
        (self.folder / "data.jsonl").write_text(RECORDS)
        (self.folder / "run.yaml").write_text(SETTINGS)

    def copy(self, target):
        shutil.copytree(self.folder, target)
        return pathlib.Path(target)


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_header(path, change):
    """Changes the header of a safetensors file, and nothing of the data."""
    header, data = read_safetensors(path)
    changed = change(header)
    write_safetensors(path, header if changed is None else changed, data)
