"""Holds greedy answers of `phi3-tune generate` to transformers' generate and PEFT, live.

    scripts/parity_python tests/parity/live_generate.py --program build/bin/phi3-tune

Three tiny models in fp32 (one kv head per head with a window; 4 heads over 2; LongRoPE that changes its table at 40 tokens and
a window that bites), 200 texts of 4 to 60 tokens in all, each answered by the base, by base and adapter, and, with --merged, by the
model that `phi3-tune merge` writes from them. The ids must be equal up to where the reference's two best logits differ by less than 1e-5
of its largest: from there on a row may go its own way. Such rows are counted, and are at most 1 %.
Prints a line a comparison and 'N passed, N failed'; exit status 1 if any failed.
"""
import argparse, json, os, random, shutil, subprocess, sys, tempfile
from collections import defaultdict

import torch
import transformers

import dump_forward_backward as fb
import make_tiny_model
from live_network import Checks

SOURCE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir))
TOKENIZER = os.path.join(SOURCE, "tests", "references", "tokenizers", "spm_like")
VOCAB, NEW = 1664, 24
KINDS = {"mha": 70, "gqa": 60, "longrope": 70}  # prompts
TIE = 1e-5


def make_folders(work, kind):
    base, adapter = os.path.join(work, kind), os.path.join(work, kind + "-adapter")
    model = make_tiny_model.build(kind, seed=5, vocab=VOCAB, original=40, window=32)
    model.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        shutil.copy(os.path.join(TOKENIZER, name), base)
    fb.fresh_adapter(model, rank=4, alpha=8).save_pretrained(adapter)
    return base, adapter


def make_prompts(tokenizer, count, rng):
    """Texts in few lengths of tokens, so that the reference answers several in one unpadded batch."""
    words = "the heart of a patient who asks for more blood, 3 mg daily; lungs breathe when nerves tell them to".split()
    lengths = [4, 9, 17, 26, 34, 39, 40, 41, 60]
    prompts = []
    while len(prompts) < count:
        ids = tokenizer(" ".join(rng.choice(words) for _ in range(80)), add_special_tokens=False).input_ids
        ids = ids[:lengths[len(prompts) % len(lengths)]]
        text = tokenizer.decode(ids)
        if tokenizer(text, add_special_tokens=False).input_ids == ids:
            prompts.append((text, ids))
    return prompts


def reference_answers(model, prompts):
    """For every prompt the new ids, and of every step how far the two best logits are apart beside the largest."""
    groups = defaultdict(list)
    for index, (_, ids) in enumerate(prompts):
        groups[len(ids)].append(index)
    answers = [None] * len(prompts)
    for indices in groups.values():
        ids = torch.tensor([prompts[i][1] for i in indices])
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW,
                                 output_logits=True, return_dict_in_generate=True)
        logits = torch.stack(out.logits, 1)
        best = logits.topk(2, -1).values
        gaps = (best[..., 0] - best[..., 1]) / logits.abs().amax(-1)
        for row, index in enumerate(indices):
            new = out.sequences[row, ids.shape[1]:].tolist()
            stop = model.generation_config.eos_token_id
            if stop in new:
                new = new[:new.index(stop)]
            answers[index] = (new, gaps[row].tolist())
    return answers


def our_answers(program, model, adapter, file, threads, batch):
    words = [program, "generate", "--json", "--model", model, "--prompts", file, "--raw", "--dtype", "float32", "--max-new-tokens",
             str(NEW), "--batch-size", str(batch), "--threads", str(threads)]
    done = subprocess.run(words + (["--adapter", adapter] if adapter else []), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [event["tokens"] for event in events if event["event"] == "answer"]


def compare(checks, what, ours, theirs, ties):
    wrong = 0
    for mine, (wanted, gaps) in zip(ours, theirs, strict=True):
        if mine == wanted:
            continue
        at = next((i for i, (a, b) in enumerate(zip(mine, wanted)) if a != b), min(len(mine), len(wanted)))
        if any(gap < TIE for gap in gaps[:at + 1]):
            ties.append(what)
        else:
            wrong += 1
    checks.hold(f"{what}: rows of {len(ours)} whose ids differ", wrong, 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True)
    ap.add_argument("--merged", action="store_true", help="the merged model too")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    checks, ties, rows, crossed = Checks(), [], 0, 0
    rng = random.Random(3)
    with tempfile.TemporaryDirectory() as work:
        for kind, count in KINDS.items():
            base, adapter = make_folders(work, kind)
            tokenizer = transformers.AutoTokenizer.from_pretrained(base)
            prompts = make_prompts(tokenizer, count, rng)
            crossed += sum(len(ids) <= 40 < len(ids) + NEW for _, ids in prompts) if kind == "longrope" else 0
            file = os.path.join(work, kind + ".jsonl")
            with open(file, "w") as out:
                out.writelines(json.dumps({"prompt": text}) + "\n" for text, _ in prompts)
            model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            plain = reference_answers(model, prompts)
            adapted = reference_answers(fb.with_adapter(model, adapter).eval(), prompts)
            checks.hold(f"{kind}: answers that the adapter leaves as they are, of {count}",
                        sum(a[0] == b[0] for a, b in zip(plain, adapted)), count // 4)
            sides = [("base", plain, (base, "")), ("adapter", adapted, (base, adapter))]
            if args.merged:
                merged = os.path.join(work, kind + "-merged")
                subprocess.run([args.program, "merge", "--model", base, "--adapter", adapter, "--out", merged, "--dtype", "float32"],
                               check=True, capture_output=True)
                sides.append(("merged", adapted, (merged, "")))
            for name, wanted, words in sides:
                compare(checks, f"{kind} {name}", our_answers(args.program, *words, file, args.threads, 8), wanted, ties)
                rows += count
    print(f"{rows} rows, {crossed} prompts cross LongRoPE's change; {len(ties)} rows left at a tie: {ties}")
    checks.hold("share of rows that left at a tie", len(ties) / rows, 0.01)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return checks.failed > 0


sys.exit(main())
