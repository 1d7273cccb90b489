#!/usr/bin/env python3
"""Writes tests/references/tokenizers/NAME/decoded.jsonl: what the tokenizers library makes of random ids.

Each line is {"ids", "text", "skipped"}: text with special tokens, and with them skipped. Bytes, halves of characters, added
tokens and ids that do not exist are frequent among the ids. Needs: pip install tokenizers==0.23.3.
"""
import json, os, random

import tokenizers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "references", "tokenizers")
LINES = 60


def main():
    for name in sorted(os.listdir(FOLDER)):
        path = os.path.join(FOLDER, name)
        if not os.path.isdir(path):
            continue
        tok = tokenizers.Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
        r = random.Random(5)
        added = sorted(tok.get_added_tokens_decoder())
        text = tok.encode("é 🙂 の\n it's", add_special_tokens=False).ids
        size = tok.get_vocab_size()
        with open(os.path.join(path, "decoded.jsonl"), "w") as out:
            for _ in range(LINES):
                ids = [r.choice([r.randrange(3, 259), r.choice(text), r.choice(text), r.randrange(size), r.choice(added), size + 5])
                       for _ in range(r.randint(1, 12))]
                row = {"ids": ids, "text": tok.decode(ids, skip_special_tokens=False), "skipped": tok.decode(ids, skip_special_tokens=True)}
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
