#!/usr/bin/env python3
"""Compares our tokenizer with Hugging Face's fast one, text by text: ids, decoded text (with and without special tokens),
and spans that cover the text in order.

    compare_tokenizer.py --program BUILD/bin/tokenize_dump FOLDER [--reference FOLDER] [--lines 100000] [--texts FILE.jsonl]

FOLDER is what our program reads; --reference is the folder whose tokenizer.json Hugging Face reads (default: the same), so
that a folder with tokenizer.model alone can be held to the tokenizer.json it belongs to. Texts: --lines hard ones of
scripts/tokenizer_corpus.py, and the JSON strings of --texts. Prints one line with the counts; exit code 1 on a mismatch.
Needs: pip install tokenizers==0.23.3.
"""
import argparse, json, os, subprocess, sys, tempfile

import tokenizers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, "scripts"))
import tokenizer_corpus


def reference_tokenizer(folder):
    tok = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tok.no_truncation(), tok.no_padding()
    config = os.path.join(folder, "tokenizer_config.json")
    if os.path.exists(config):
        # transformers adds the configuration's tokens again, so their flags win.
        decoder = json.load(open(config, encoding="utf-8")).get("added_tokens_decoder", {})
        for _, flags in sorted(decoder.items(), key=lambda item: int(item[0])):
            token = tokenizers.AddedToken(flags["content"], **{k: v for k, v in flags.items() if k not in ("content", "special")})
            (tok.add_special_tokens if flags["special"] else tok.add_tokens)([token])
    return tok


def ours(program, folder, path, mode):
    run = subprocess.run([program, folder, path, *mode], stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in run.stdout.decode("utf-8").split("\n")[:-1]]


def bytes_without_piece(tok):
    """Bytes that a byte-level vocabulary lacks (SmolLM2's has no 0x1D): the library drops them without a word."""
    if "ByteLevel" not in str(tok.pre_tokenizer):
        return set()
    # GPT-2's table: printable characters of Latin-1 stand for themselves, the others for U+0100 onwards, in order.
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    vocabulary = tok.get_vocab()
    return {b for b in plain if chr(b) not in vocabulary} | {b for i, b in enumerate(others) if chr(0x100 + i) not in vocabulary}


def covers(text, spans, dropped):
    """In order, without overlap, and nothing is left out but bytes that the vocabulary lacks."""
    data, place = text.encode("utf-8"), 0
    for _, begin, end in [*spans, (None, len(data), len(data))]:
        if begin < place or end < begin or not set(data[place:begin]) <= dropped:
            return False
        place = end
    return True


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder")
    ap.add_argument("--program", required=True)
    ap.add_argument("--reference")
    ap.add_argument("--lines", type=int, default=100_000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--texts")
    args = ap.parse_args()
    texts = list(tokenizer_corpus.lines(args.lines, args.seed))
    if args.texts:
        texts += [json.loads(line) for line in open(args.texts, encoding="utf-8")]
    tok = reference_tokenizer(args.reference or args.folder)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", suffix=".jsonl") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
        file.flush()
        our_ids = ours(args.program, args.folder, file.name, [])
        our_text = ours(args.program, args.folder, file.name, ["--decode"])
        our_spans = ours(args.program, args.folder, file.name, ["--spans"])
    assert len(our_ids) == len(our_text) == len(our_spans) == len(texts)
    dropped = bytes_without_piece(tok)
    wrong = {"ids": 0, "decoded": 0, "spans": 0}
    for text, ids, decoded, spans in zip(texts, our_ids, our_text, our_spans):
        expected = tok.encode(text, add_special_tokens=False).ids
        wanted = [tok.decode(expected, skip_special_tokens=False), tok.decode(expected, skip_special_tokens=True)]
        faults = {"ids": ids != expected, "decoded": decoded != wanted,
                  "spans": [s[0] for s in spans] != ids or not covers(text, spans, dropped)}
        for kind, bad in faults.items():
            wrong[kind] += bad
            if bad and sum(wrong.values()) <= 10:
                print(f"{kind}: {text!r}\n  ours   {ids if kind == 'ids' else decoded if kind == 'decoded' else spans}\n"
                      f"  theirs {expected if kind == 'ids' else wanted}", file=sys.stderr)
    size = sum(len(text.encode("utf-8")) for text in texts)
    print(f"{args.folder}: lines {len(texts)}, bytes {size}, tokens {sum(map(len, our_ids))}, mismatches: "
          + ", ".join(f"{kind} {count}" for kind, count in wrong.items()))
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
