#!/usr/bin/env python3
"""Writes seeds/<target>/: small sound files, and some nearly sound ones, that the fuzzer starts from.

Standard library only. The files are committed; this program says where they come from.
"""
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
sys.path.insert(0, str(SOURCE / "tests/support"))
from xxh3 import xxh3_128  # noqa: E402  (after its place is known)

REFERENCES = SOURCE / "tests/references"
MARK = "\u2581"


def put(target, name, contents):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(contents if isinstance(contents, bytes) else contents.encode())


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def safetensors(header, data=b""):
    text = compact(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_safetensors():
    put("safetensors_header", "two", safetensors(
        {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
         "b": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]}}, bytes(12)))
    put("safetensors_header", "scalar_and_none", safetensors(
        {"x": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]},
         "y": {"dtype": "I64", "shape": [0, 3], "data_offsets": [1, 1]}}, bytes(1)))
    put("safetensors_header", "empty", safetensors({}))
    # What must be refused: without the check for it, each of these passes, and a promise of the target breaks at once.
    for name, shape, begin, end, data in (("product_of_2_64", [1 << 32, 1 << 32], 0, 0, 0), ("product_that_wraps", [(1 << 62) + 2, 4], 0, 32, 32),
                                          ("size_of_2_63", [1 << 63, 0], 0, 0, 0), ("hole", [2], 4, 12, 12), ("behind", [2], 0, 8, 12),
                                          ("other_size", [3], 0, 8, 8), ("outside", [4], 0, 16, 8)):
        put("safetensors_header", name, safetensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}, bytes(data)))
    put("safetensors_header", "overlap", safetensors({name: {"dtype": "F32", "shape": [2], "data_offsets": [begin, begin + 8]}
                                                      for name, begin in (("a", 0), ("b", 4))}, bytes(12)))
    put("safetensors_header", "git_lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n")


def write_json_of_models():
    put("shard_index", "two", compact({"metadata": {"total_size": 8}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    put("shard_index", "out_of_the_folder", compact(
        {"weight_map": {"a": "../a.safetensors", "b": "/b.safetensors", "c": "b.bin", "d": "c.safetensors"}}))
    for name in ("gqa", "longrope"):
        put("adapter_config", name, (REFERENCES / f"adapters/{name}/adapter_config.json").read_bytes())
    put("adapter_config", "patterns", compact(
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "use_rslora": True,
         "target_modules": "model\\.layers\\.[0-9]+\\..*_proj", "rank_pattern": {"layers.1.mlp.down_proj": 2},
         "alpha_pattern": {"^q.*": 16.5}}))
    for name in ("gqa", "longrope", "mha_nf4_bfloat16"):
        put("model_config", name, (REFERENCES / f"models/{name}/config.json").read_bytes())


def write_settings():
    for name in ("smoke", "qlora"):
        lines = [line.split("#")[0].rstrip() for line in (SOURCE / f"configs/{name}.yaml").read_text().splitlines()]
        put("settings", name, "\n".join(filter(None, lines)) + "\n")
    for name in ("several_faults", "quote_not_closed", "part_excluded", "tag", "short_names"):
        put("settings", name, (SOURCE / f"tests/unit/config/bad/{name}.yaml").read_bytes())


def write_records():
    put("records", "messages", "".join(compact(record) + "\n" for record in (
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                      {"role": "assistant", "content": "b", "weight": 0.5, "train": True}]},
        {"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "\U0001f600"}], "id": 1})))
    put("records", "other_formats", "".join(compact(record) + "\n" for record in (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"},
        {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]},
        {"prompt": "a", "completion": "b"}, {"prompt": [{"role": "user", "content": "a"}],
                                             "completion": [{"role": "assistant", "content": "b"}]}, {"text": "a"})))
    put("records", "array", "[" + ",\n ".join(compact({"text": text}) for text in ("a", "b\\n")) + "]\r\n")


def spm_pieces():
    """Specials, bytes, and the ways to ▁the and ▁in."""
    words = [MARK, "t", "h", "e", "i", "n", MARK + "t", "he", MARK + "i", MARK + "the", "in", MARK + "in"]
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]


def spm_json():
    merges = [[MARK, "t"], ["h", "e"], [MARK, "i"], [MARK + "t", "he"], ["i", "n"], [MARK + "i", "n"]]
    added = [{"id": 0, "content": "<unk>", "special": True}, {"id": 1, "content": "<s>", "special": True},
             {"id": 2, "content": "</s>", "special": True, "rstrip": True},
             {"id": 271, "content": "<|end|>", "lstrip": True, "normalized": False, "special": True}]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"version": "1.0", "added_tokens": [{**flags, **token} for token in added],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": MARK}, {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]},
            "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": {piece: index for index, piece in enumerate(spm_pieces())}, "merges": merges}}


def byte_alphabet():
    """The characters that GPT-2 writes the 256 bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(256 - len(plain))]


def byte_level_json(split, ignore_merges):
    pieces = [*byte_alphabet(), "th", "the", "\u0120the", "\u0120th", "\u0120t"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": split is None}
    return {"version": "1.0", "normalizer": None, "post_processor": level, "decoder": level,
            "added_tokens": [{"id": 261, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True} if split is None else
                {"type": "Split", "pattern": {"Regex": split}, "behavior": "Removed", "invert": True}, level]},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": ignore_merges, "vocab": {piece: index for index, piece in enumerate(pieces)},
                      "merges": ["t h", "th e", "\u0120 t", "\u0120t h"]}}


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, contents):
    if isinstance(contents, int):
        return varint(number << 3) + varint(contents)
    if isinstance(contents, float):
        return varint(number << 3 | 5) + struct.pack("<f", contents)
    return varint(number << 3 | 2) + varint(len(contents)) + contents


def spm_model(pieces):
    types = {"<unk>": 2, "<s>": 3, "</s>": 3, "<|user|>": 4}
    model = b""
    for index, piece in enumerate(pieces):
        kind = types.get(piece, 6 if piece.startswith("<0x") else 1)
        model += field(1, field(1, piece.encode()) + field(2, -float(index)) + field(3, kind))
    trainer = field(3, 2) + field(24, 0) + field(35, 1)
    normalizer = field(1, b"identity") + field(3, 1) + field(4, 0) + field(5, 1)
    return model + field(2, trainer) + field(3, normalizer)


def write_tokenizers():
    words = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    put("tokenizer_json", "spm", compact(spm_json()))
    few = spm_json()
    few["added_tokens"] = few["added_tokens"][:1]
    few["model"].update(byte_fallback=False, vocab={"<unk>": 0, MARK: 1, "a": 2, "b": 3, "ab": 4, MARK + "a": 5},
                        merges=["a b", [MARK, "a"]])
    put("tokenizer_json", "few", compact(few))
    put("tokenizer_json", "byte_level_split", compact(byte_level_json(words, True)))
    put("tokenizer_json", "byte_level_digits", compact(byte_level_json(None, False)))
    put("tokenizer_model", "all_bytes", spm_model([*spm_pieces(), "<|user|>"]))
    put("tokenizer_model", "few", spm_model(["<unk>", "<s>", MARK, "t", "h", MARK + "t", MARK + "th"]))
    put("tokenizer_config", "spm", compact(
        {"add_bos_token": False, "bos_token": "<unk>", "eos_token": {"content": "<|end|>", "__type": "AddedToken"},
         "pad_token": "<|end|>", "tokenizer_class": "LlamaTokenizer", "added_tokens_decoder": {
             "0": {"content": "<unk>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True},
             "6": {"content": "<|end|>", "lstrip": False, "normalized": False, "rstrip": True, "single_word": False, "special": True},
            "7": {"content": "<|user|>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False,
                  "special": False}},
         "chat_template": "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"}))
    put("tokenizer_config", "templates", compact({"chat_template": [{"name": "default", "template": "{{ bos_token }}"}],
                                                  "extra_special_tokens": {"x": "<|x|>"}, "eos_token": None}))


def write_chats():
    for line in (REFERENCES / "chat/templates.jsonl").read_text().splitlines():
        template = json.loads(line)
        put("jinja", template["template"], template["jinja"])
    for kind in range(8):
        put("chat", f"kind_{kind}", b"\x02\x01\x01user text\\\x00assistant\\\x00 system\\\x00" + bytes([3, 1, 0, 1, 2, 1, 0, kind]))


def manifest(facts, files):
    value = {"format": 1, "program": "phi3-tune", "kind": "checkpoint", "facts": facts,
             "files": {name: {"bytes": len(contents), "xxh3_128": xxh3_128(contents)} for name, contents in sorted(files.items())},
             "checksum": "0" * 32}
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.replace('"checksum": "' + "0" * 32, '"checksum": "' + xxh3_128(text.encode()))


def write_manifests():
    put("manifest", "none", manifest({}, {}))
    put("manifest", "two", manifest({"step": 200, "base": {"hash": "00ff"}, "list": [1, 2.5, None, True, "\u00e9"]},
                                    {"adapter_config.json": b"{}", "training_state.json": b"{}"}))


def main():
    write_manifests()
    write_safetensors()
    write_json_of_models()
    write_settings()
    write_records()
    write_tokenizers()
    write_chats()


if __name__ == "__main__":
    main()
