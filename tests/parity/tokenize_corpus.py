"""Token ids of each line by the fast tokenizer (tokenizer.json as is), one JSON array a line.

A line is plain text; with --jsonl it is a JSON string or a {"text": ...} or {"messages": [...]} object, so that it can
hold newlines (scripts/tokenizer_corpus.py writes such a file). Messages go through the chat template of tokenizer_config.json (transformers is needed for that).
--bench times encoding instead and prints MB/s, --sentencepiece does the same with tokenizer.model.
"""
import argparse, json, os, sys, time


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("tokenizer", help="folder with tokenizer.json")
    ap.add_argument("input", nargs="?", default="-", help="text file, default standard input")
    ap.add_argument("--jsonl", action="store_true")
    ap.add_argument("--decode", action="store_true", help="print {ids, text, decoded} instead of ids")
    ap.add_argument("--special", action="store_true", help="add special tokens (BOS where the file has one)")
    ap.add_argument("--bench", action="store_true")
    ap.add_argument("--batch", type=int, default=0, help="with --bench: lines per encode_batch call, 0 for one by one")
    ap.add_argument("--chunk", type=int, default=0, help="with --bench: join lines into texts of about this many bytes")
    ap.add_argument("--repeat", type=int, default=3)
    ap.add_argument("--sentencepiece", action="store_true")
    args = ap.parse_args()
    stream = sys.stdin if args.input == "-" else open(args.input, encoding="utf-8", newline="\n")
    lines = [line.rstrip("\n") for line in stream]
    if args.sentencepiece:
        import sentencepiece
        sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(args.tokenizer, "tokenizer.model"))
        encode, encode_batch = sp.encode, lambda xs: sp.encode(xs, num_threads=2)
    else:
        import tokenizers
        tok = tokenizers.Tokenizer.from_file(os.path.join(args.tokenizer, "tokenizer.json"))
        tok.no_truncation(), tok.no_padding()
        encode = lambda x: tok.encode(x, add_special_tokens=args.special).ids
        encode_batch = lambda xs: [e.ids for e in tok.encode_batch(xs, add_special_tokens=args.special)]
    if args.bench:
        if args.chunk:
            texts, part, size = [], [], 0
            for line in lines:
                part.append(line)
                size += len(line) + 1
                if size >= args.chunk:
                    texts.append("\n".join(part))
                    part, size = [], 0
            lines = texts + ["\n".join(part)]
        size, best = sum(len(x.encode()) + 1 for x in lines), 1e9
        for _ in range(args.repeat):
            start, count = time.perf_counter(), 0
            if args.batch:
                for i in range(0, len(lines), args.batch):
                    count += sum(len(x) for x in encode_batch(lines[i:i + args.batch]))
            else:
                count = sum(len(encode(x)) for x in lines)
            best = min(best, time.perf_counter() - start)
        return print(json.dumps({"mb": round(size / 1e6, 2), "texts": len(lines), "tokens": count, "seconds": round(best, 3),
                                 "mb_per_s": round(size / best / 1e6, 2), "tokens_per_s": round(count / best)}))
    chat = None
    for line in lines:
        item = json.loads(line) if args.jsonl else line
        if isinstance(item, dict) and "messages" in item:
            if chat is None:
                from transformers import AutoTokenizer
                chat = AutoTokenizer.from_pretrained(args.tokenizer)
            item = chat.apply_chat_template(item["messages"], tokenize=False,
                                            add_generation_prompt=item.get("add_generation_prompt", False))
        elif isinstance(item, dict):
            item = item["text"]
        ids = encode(item)
        if args.decode:
            decoded = sp.decode(ids) if args.sentencepiece else tok.decode(ids, skip_special_tokens=False)
            print(json.dumps({"ids": ids, "text": item, "decoded": decoded}, ensure_ascii=False))
        else:
            print(json.dumps(ids))


if __name__ == "__main__":
    main()
