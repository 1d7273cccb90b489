"""Trains small tokenizers of the kinds that Phi models use, and writes what the tokenizers library makes of hard lines.

    spm_like        Phi-3: SentencePiece BPE with byte fallback (tokenizer.model and tokenizer.json), no pre-tokeniser;
                    Phi-3's added tokens with their flags (rstrip on most, `</s>` not special)
    phi4_like       Phi-4: byte-level BPE behind the cl100k pattern, added tokens that strip on both sides
    phi4_mini_like  Phi-4-mini: byte-level BPE behind the o200k pattern, whole words first (ignore_merges), added tokens
                    that strip on the right, some of them not special
    smollm_like     SmolLM2: every digit alone, then GPT-2's pattern, added tokens that strip nothing
Each folder gets tokenizer.json, tokenizer_config.json and expected_ids.jsonl, one array for each line of hard_lines.jsonl
(JSON strings), encoded without special tokens added. The training text and the lines come from scripts/tokenizer_corpus.py.
"""
import argparse, io, json, os, sys
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, os.pardir, "references", "tokenizers")
sys.path.insert(0, os.path.join(HERE, os.pardir, os.pardir, "scripts"))
import tokenizer_corpus

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
VOCABULARY = 700
PIECES = 1600  # of the SentencePiece model: 256 bytes and every character of the prose are among them
PHI3 = ["<|endoftext|>", "<|assistant|>", *(f"<|placeholder{i}|>" for i in range(1, 5)), "<|system|>", "<|end|>",
        "<|placeholder5|>", "<|placeholder6|>", "<|user|>"]


def added(content, lstrip=False, rstrip=False, special=True):
    return AddedToken(content, lstrip=lstrip, rstrip=rstrip, single_word=False, normalized=False, special=special)


def phi4_tokens():
    names = ["<|dummy_0|>", "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|dummy_1|>", "<|dummy_2|>",
             "<|dummy_3|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|dummy_12|>", "<|endofprompt|>", "<|dummy_85|>"]
    return [added(n, lstrip=True, rstrip=True) for n in names]


def phi4_mini_tokens():
    plain = [added(n) for n in ("<|endoftext|>", "<|endofprompt|>")]
    right = [added(n, rstrip=True) for n in ("<|assistant|>", "<|end|>", "<|user|>", "<|system|>")]
    tools = [added(n, rstrip=True, special=False) for n in ("<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>")]
    return plain + right + tools + [added("<|tag|>", rstrip=True)]


def smollm_tokens():
    return [added(n) for n in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>", "<empty_output>")]


def split(pattern, behaviour, invert):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behaviour, invert=invert),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(texts, pre_tokenizer, tokens, ignore_merges=False):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(texts, trainer)
    for token in tokens:  # one by one: ids in this order, special or not
        (tok.add_special_tokens if token.special else tok.add_tokens)([token])
    return tok


def sentencepiece_bpe(texts, folder):
    """tokenizer.model by SentencePiece with Llama's settings, and the tokenizer.json that says the same."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type="bpe",
        vocab_size=PIECES, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        add_dummy_prefix=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=1.0,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, max_sentence_length=100000, num_threads=1, minloglevel=2)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as out:
        out.write(model.getvalue())
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    ids = {p: i for i, p in enumerate(pieces)}
    # A piece of the vocabulary is a merge of each pair of pieces that spells it; earlier pieces merge first.
    merges = []
    for i, piece in enumerate(pieces):
        if len(piece) > 1 and not (sp.is_byte(i) or sp.is_control(i) or sp.is_unknown(i)):
            pairs = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in ids and piece[k:] in ids]
            merges += sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    tok = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens([added("<unk>"), added("<s>")])
    tok.add_tokens([added("</s>", rstrip=True, special=False)])
    tok.add_special_tokens([added(n, rstrip=n != "<|endoftext|>") for n in PHI3])
    return tok


def write(tok, folder, config):
    tok.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    decoder = {str(i): {k: getattr(t, k) for k in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")}
               for i, t in sorted(tok.get_added_tokens_decoder().items())}
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
        json.dump({"added_tokens_decoder": decoder, "clean_up_tokenization_spaces": False, "model_max_length": 4096, **config}, out, indent=1)
        out.write("\n")


def hard_lines(count):
    """Every single white space, contraction, marker and emoji between letters, then lines of another seed than the training."""
    c = tokenizer_corpus
    fixed = [f"a{x}b {x} {x}{x}c" for x in (*c.SPACES, *c.CONTRACTIONS, *c.EMOJI)]
    fixed += [f"x {m} \n y{m}{m}z \t{m}" for m in c.MARKERS] + ["", " ", "  ", "\n", " \n ", "\u0000", "12345678", "<|user|>\nHi<|end|>\n<|assistant|>\n"]
    return fixed + [text for text in c.lines(count, 99) if len(text) < 400]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lines", type=int, default=200, help="random lines besides the fixed ones")
    args = ap.parse_args()
    # Plain prose weighs more than the hard lines, so that merges are ordinary words.
    texts = tokenizer_corpus.PROSE * 300 + list(tokenizer_corpus.lines(20000, 7))
    hard = hard_lines(args.lines)
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "hard_lines.jsonl"), "w") as out:
        out.writelines(json.dumps(text) + "\n" for text in hard)
    folder = lambda name: os.makedirs(os.path.join(OUT, name), exist_ok=True) or os.path.join(OUT, name)
    gpt2 = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": False, "unk_token": "<|endoftext|>"}
    spm = folder("spm_like")
    made = {
        "spm_like": (sentencepiece_bpe(tokenizer_corpus.PROSE * 20, spm), {
            "tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": False, "add_eos_token": False, "bos_token": "<s>",
            "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<unk>", "padding_side": "left"}),
        "phi4_like": (byte_level(texts, split(CL100K, "removed", True), phi4_tokens()), {
            **gpt2, "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy_85|>"}),
        "phi4_mini_like": (byte_level(texts, split(O200K, "isolated", False), phi4_mini_tokens(), ignore_merges=True), {
            **gpt2, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}),
        "smollm_like": (byte_level(texts, pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]), smollm_tokens()), {
            **gpt2, "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"})}
    for name, (tok, config) in made.items():
        path = folder(name)
        write(tok, path, config)
        tok = Tokenizer.from_file(os.path.join(path, "tokenizer.json"))
        with open(os.path.join(path, "expected_ids.jsonl"), "w") as out:
            out.writelines(json.dumps(tok.encode(text, add_special_tokens=False).ids) + "\n" for text in hard)
        print(name, tok.get_vocab_size(), len(hard), {f: os.path.getsize(os.path.join(path, f)) for f in sorted(os.listdir(path))})


if __name__ == "__main__":
    main()
