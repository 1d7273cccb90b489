#!/usr/bin/env python3
"""Compares our tokenizer with Hugging Face's on random little tokenizers: whatever a tokenizer.json within the supported
features can say, not only what the published ones say (unknown characters, bytes without a piece, merges that make one
piece in several ways, merges over spaces, every flag of added tokens, every way to split).

    fuzz_tokenizer.py --program BUILD/bin/tokenize_dump [--tokenizers 200] [--texts 200] [--seed 1]
    fuzz_tokenizer.py --write tests/references/tokenizers/random.jsonl --tokenizers 24 --texts 12

With --write no program is asked: each line of the file is a tokenizer and, of Hugging Face's, the ids and decoded text
(with special tokens, and with them skipped) of its texts. Else it prints one line with the counts; exit code 1 on a mismatch, whose tokenizer stays in the folder named.
Needs: pip install tokenizers==0.23.3.
"""
import argparse, json, os, random, subprocess, sys, tempfile

import tokenizers
from tokenizers import pre_tokenizers

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
PATTERNS = [CL100K, r"\s+", r"\p{Lu}+|\d", r"[abc]+| ", r"a?b|\P{L}"]
LETTERS = "abc"
ALPHABET = ["a", "b", "c", "a", "b", "c", " ", "▁", "é", "\n", "Z", "の", "\u3000", "1", "²", "'s", "\u017f"]
BYTES = pre_tokenizers.ByteLevel.alphabet()


def random_merges(r, characters, count):
    pieces, merges = list(characters), []
    for _ in range(count):
        left, right = r.choice(pieces), r.choice(pieces)
        if len(left + right) <= 8 and [left, right] not in merges:
            merges.append([left, right])
            if left + right not in pieces:
                pieces.append(left + right)
    # The same piece in other ways, and the order of merges at random: pieces are then made in unlikely orders.
    for piece in pieces:
        for cut in range(1, len(piece)):
            if piece[:cut] in pieces and piece[cut:] in pieces and [piece[:cut], piece[cut:]] not in merges and r.random() < 0.5:
                merges.append([piece[:cut], piece[cut:]])
    r.shuffle(merges)
    return pieces, merges


def replace(a, b):
    return {"type": "Replace", "pattern": {"String": a}, "content": b}


def random_added(r, first_id, pieces, normalized):
    contents = ["<x>", "<xy>", "<x>b", "ab", " ", "\n<x>", "の", "<|e|>", "a c"]
    tokens = []
    for content in r.sample(contents, r.randrange(6)):
        flag = lambda: r.random() < 0.4
        token = {"content": content, "lstrip": flag(), "rstrip": flag(), "single_word": flag(), "normalized": normalized and flag(),
                 "special": flag()}
        token["id"] = pieces.index(content) if content in pieces else first_id
        first_id += content not in pieces
        tokens.append(token)
    return tokens


def sentencepiece_like(r):
    characters = list(LETTERS) + r.sample(["▁", "é", "の", " ", "1"], r.randrange(1, 5))
    if r.random() < 0.7 and "▁" not in characters:
        characters.append("▁")
    over_spaces = r.random() < 0.3
    pieces, merges = random_merges(r, characters, r.randrange(5, 25))
    if not over_spaces:
        merges = [m for m in merges if "▁" not in "".join(m).lstrip("▁")]
    pieces = ["<unk>"] + pieces
    fallback = r.random() < 0.7
    if fallback:
        pieces += [f"<0x{b:02X}>" for b in range(256) if r.random() < r.choice([1, 0.97])]
    unk = "<unk>" if r.random() < 0.8 else None
    normalizers = [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]
    normalizers = r.choice([normalizers, normalizers, normalizers, normalizers[:1], normalizers[1:], []])
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None, "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
                    + ([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if r.random() < 0.7 else [])},
        "model": {"type": "BPE", "unk_token": unk, "fuse_unk": r.random() < 0.5, "byte_fallback": fallback,
                  "ignore_merges": r.random() < 0.2},
        "added_tokens": random_added(r, len(pieces), pieces, not normalizers)}, pieces, merges


def byte_level(r):
    alphabet = sorted(c for c in BYTES if r.random() < r.choice([1, 0.9]))
    frequent = [c for c in ("a", "b", "c", "Ġ", "Ã", "©", "1") if c in alphabet] or alphabet
    pieces, merges = random_merges(r, frequent, r.randrange(5, 25))
    pieces = ["<unk>"] + pieces + [c for c in alphabet if c not in pieces]
    steps = []
    for _ in range(r.randrange(3)):
        steps.append(r.choice([
            {"type": "Digits", "individual_digits": r.random() < 0.5},
            {"type": "Split", "pattern": {"Regex": r.choice(PATTERNS)}, "behavior": "Isolated", "invert": r.random() < 0.5},
            {"type": "Split", "pattern": {"Regex": r.choice(PATTERNS)}, "behavior": "Isolated", "invert": False},
            {"type": "Split", "pattern": {"Regex": r.choice(PATTERNS)}, "behavior": "Removed", "invert": r.random() < 0.7}]))
    steps.append({"type": "ByteLevel", "add_prefix_space": r.random() < 0.3, "trim_offsets": True, "use_regex": r.random() < 0.5})
    return {
        "normalizer": None, "pre_tokenizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "unk_token": "<unk>" if r.random() < 0.5 else None, "fuse_unk": r.random() < 0.5,
                  "byte_fallback": False, "ignore_merges": r.random() < 0.3},
        "added_tokens": random_added(r, len(pieces), pieces, True)}, pieces, merges


def random_tokenizer(r):
    tokenizer, pieces, merges = r.choice([sentencepiece_like, byte_level])(r)
    by_text = all(" " not in "".join(m) for m in merges) and r.random() < 0.5
    tokenizer["model"] |= {"vocab": {p: i for i, p in enumerate(pieces)}, "merges": [" ".join(m) for m in merges] if by_text else merges}
    return {"version": "1.0", "truncation": None, "padding": None, "post_processor": None} | tokenizer


def random_text(r):
    parts = ["".join(r.choice(ALPHABET) for _ in range(r.randrange(12))) for _ in range(r.randrange(1, 4))]
    return r.choice(["<x>", "<xy>", "<x>b", " <|e|>", "<x> \n", "<x><x>", "  ", "a c", ""]).join(parts)


def expected_of(theirs, text):
    """Ids and decoded texts; nothing where their library gives up (an added token of white space after one that strips it)."""
    try:
        ids = theirs.encode(text, add_special_tokens=False).ids
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        return None
    return ids, [theirs.decode(ids, skip_special_tokens=skip) for skip in (False, True)]


def write(args, r):
    with open(args.write, "w") as out:
        for _ in range(args.tokenizers):
            tokenizer = random_tokenizer(r)
            theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
            rows = [(text, expected_of(theirs, text)) for text in (random_text(r) for _ in range(args.texts))]
            rows = [{"text": text, "ids": row[0], "decoded": row[1]} for text, row in rows if row]
            out.write(json.dumps({"tokenizer": tokenizer, "rows": rows}, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program")
    ap.add_argument("--write")
    ap.add_argument("--tokenizers", type=int, default=200)
    ap.add_argument("--texts", type=int, default=200)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    r = random.Random(args.seed)
    if args.write:
        return write(args, r)
    compared = wrong = refused = 0
    for number in range(args.tokenizers):
        folder = tempfile.mkdtemp(prefix="tokenizer-fuzz-")
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w") as out:
            json.dump(random_tokenizer(r), out)
        texts = [random_text(r) for _ in range(args.texts)]
        with open(os.path.join(folder, "texts.jsonl"), "w") as out:
            out.writelines(json.dumps(text) + "\n" for text in texts)
        theirs = tokenizers.Tokenizer.from_file(path)
        results = []
        for mode in ([], ["--decode"]):
            run = subprocess.run([args.program, folder, os.path.join(folder, "texts.jsonl"), *mode], capture_output=True)
            if run.returncode == 3:
                refused += 1
                print(f"refused: {run.stderr.decode().strip()}", file=sys.stderr)
                break
            results.append([json.loads(line) for line in run.stdout.decode().split("\n")[:-1]])
        bad = 0
        for text, ids, decoded in zip(texts, *results) if len(results) == 2 else ():
            row = expected_of(theirs, text)
            if row is None:
                continue
            expected, wanted = row
            compared += 1
            if ids != expected or decoded != wanted:
                bad += 1
                if bad == 1:
                    print(f"{folder}: {text!r}\n  ours   {ids} {decoded}\n  theirs {expected} {wanted}", file=sys.stderr)
        wrong += bad
        if not bad:
            for name in os.listdir(folder):
                os.remove(os.path.join(folder, name))
            os.rmdir(folder)
    print(f"tokenizers {args.tokenizers}, refused {refused}, texts {compared}, mismatches {wrong}")
    return 1 if wrong or refused else 0


if __name__ == "__main__":
    sys.exit(main())
