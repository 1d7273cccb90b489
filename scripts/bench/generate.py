"""Tokens a second while answering one prompt: phi3-tune beside transformers, and beside bitsandbytes for NF4.

    scripts/parity_python scripts/bench/generate.py --model DIR [--modes bf16 nf4] [--new 48] [--rounds 2] [--threads 2]

DIR is a model folder (scripts/bench/run keeps one with 32 random layers of Phi-3-mini in the cache). Every side is a process of its
own, and the sides take turns, so that both meet the same machine. Printed for each mode: the best rate of both, their ratio, and
how much of the memory's read bandwidth ours takes: bytes of the weights that one token reads (linears and head; NF4 with its scales)
times the rate, beside the rate at which as many threads add up 2 GiB. Run it on a quiet machine.
"""
import argparse, json, os, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, os.pardir, os.pardir, "build", "bin", "phi3-tune")
# As a user starts them: scripts/parity_python lets idle threads sleep, which is kind to tests and slow here, on both sides.
AS_A_USER = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
PROMPT = "the heart of a patient who asks for more blood"


def read_bandwidth(threads):
    """Bytes a second."""
    import torch
    torch.set_num_threads(threads)
    block = torch.ones(2**31 // 8, dtype=torch.int64)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        block.sum()
        best = max(best, block.numel() * 8 / (time.perf_counter() - begin))
    return best


def bytes_of_a_token(model, mode):
    config = json.load(open(os.path.join(model, "config.json")))
    h, f, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kv = config.get("num_key_value_heads") or heads
    linears = config["num_hidden_layers"] * (h * (h + 2 * h * kv // heads) + h * h + 3 * h * f)
    # NF4: half a byte, and a byte of scale for 64 values.
    return linears * (2 if mode == "bf16" else 0.5 + 1 / 64) + 2 * h * config["vocab_size"]


def ours(args, mode, new):
    words = [args.program, "generate", "--json", "--raw", "--model", args.model, "--threads", str(args.threads), "--dtype", "bfloat16",
             "--max-new-tokens", str(new), PROMPT] + (["--load-in-4bit"] if mode == "nf4" else [])
    done = subprocess.run(words, capture_output=True, text=True, env=AS_A_USER)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])["new_tokens_per_second"]


def theirs(args, mode, new):
    done = subprocess.run([sys.executable, os.path.abspath(__file__), "--side", mode, "--model", args.model, "--threads", str(args.threads),
                           "--new", str(new)], capture_output=True, text=True, env=AS_A_USER)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def transformers_side(args):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    options = {}
    if args.side == "nf4":
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16, **options).eval()
    ids = torch.arange(5, 17)[None]

    def seconds(new):
        begin = time.perf_counter()
        with torch.no_grad():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new, max_new_tokens=new)
        return time.perf_counter() - begin

    seconds(2)
    first = seconds(1)
    print(json.dumps((args.new - 1) / (seconds(args.new) - first)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--program", default=PROGRAM)
    ap.add_argument("--modes", nargs="+", choices=["bf16", "nf4"], default=["bf16", "nf4"])
    ap.add_argument("--new", type=int, default=48, help="tokens of an answer")
    ap.add_argument("--rounds", type=int, default=2)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--side", choices=["bf16", "nf4"], help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.side:
        return transformers_side(args)
    bandwidth = read_bandwidth(args.threads)
    print(f"read bandwidth of {args.threads} threads: {bandwidth / 1e9:.1f} GB/s; load before: {os.getloadavg()[0]:.2f}")
    for mode in args.modes:
        other_new = args.new if mode == "bf16" else max(4, args.new // 4)  # bitsandbytes is slow
        mine, other = 0.0, 0.0
        for _ in range(args.rounds):
            mine = max(mine, ours(args, mode, args.new))
            other = max(other, theirs(args, mode, other_new))
        share = mine * bytes_of_a_token(args.model, mode) / bandwidth
        print(f"{mode}: phi3-tune {mine:.2f} tokens/s, {'transformers' if mode == 'bf16' else 'bitsandbytes'} {other:.2f}; ratio {mine / other:.2f}; "
              f"{100 * share:.0f} % of the bandwidth", flush=True)


if __name__ == "__main__":
    main()
