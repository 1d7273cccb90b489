#!/usr/bin/env python3
"""Makes data/tokenizer-small: a tokenizer in Phi-3's form for models of random weights; the same bytes every time.

BPE with byte fallback, trained on the texts of data/medicine: `<unk>`, `<s>`, `</s>`, 256 byte pieces, printable ASCII, and
merges up to 2000 pieces; Phi-3's added tokens follow as ids 2000 to 2010. Normaliser, decoder, flags and chat template are
those of Phi-3-mini-4k-instruct as published today.
Needs: pip install tokenizers==0.23.3.
"""
import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
PIECES = 2000
SPECIAL = ["<unk>", "<s>", "</s>"]
PHI3 = ["<|endoftext|>", "<|assistant|>", *(f"<|placeholder{i}|>" for i in range(1, 5)), "<|system|>", "<|end|>",
        "<|placeholder5|>", "<|placeholder6|>", "<|user|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")


def texts():
    for line in (ROOT / "data/medicine/train.jsonl").read_text(encoding="utf-8").splitlines():
        yield from (message["content"] for message in json.loads(line)["messages"])


def trained(room):
    """Characters, then merged pieces, and the merges."""
    ascii_letters = [chr(c) for c in range(0x21, 0x7F)]
    tokenizer = Tokenizer(models.BPE())
    # Words keep their mark, digits stand alone, as in Llama's vocabulary.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
                                                       pre_tokenizers.Digits(individual_digits=True)])
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=ascii_letters, limit_alphabet=len(ascii_letters) + 1,
                                  show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def flags(content, rstrip=False, special=True):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False, "special": special}


def main():
    head = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces, merges = trained(PIECES - len(head))
    pieces = head + pieces
    assert len(pieces) == PIECES == len(set(pieces))
    added = {0: flags("<unk>"), 1: flags("<s>"), 2: flags("</s>", rstrip=True, special=False)}
    added |= {PIECES + i: flags(name, rstrip=name != "<|endoftext|>") for i, name in enumerate(PHI3)}
    replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, **token} for i, token in added.items()],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {}},
        "decoder": {"type": "Sequence", "decoders": [replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
                  "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": [" ".join(pair) for pair in merges]}}
    config = {
        "add_bos_token": False, "add_eos_token": False,
        "added_tokens_decoder": {str(i): dict(sorted(token.items())) for i, token in added.items()},
        "bos_token": "<s>", "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": "<|endoftext|>",
        "legacy": False, "model_max_length": 4096, "pad_token": "<|endoftext|>", "padding_side": "left", "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False}
    folder = ROOT / "data/tokenizer-small"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
        print(f"{folder / name}: {len(text.encode())} bytes")
    Tokenizer.from_file(str(folder / "tokenizer.json"))  # it reads


if __name__ == "__main__":
    main()
