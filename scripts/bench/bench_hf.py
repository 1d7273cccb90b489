"""CPU baseline: Phi-3 LoRA and QLoRA steps with transformers + PEFT (+ bitsandbytes), one JSON line.

One configuration per process, because peak memory (VmHWM) belongs to the process; scripts/bench/run calls it.
    scripts/parity_python scripts/bench/bench_hf.py --mode bf16 --layers 4 --seq 512
    scripts/parity_python scripts/bench/bench_hf.py --mode qlora --layers 32 --seq 512 --checkpointing
    scripts/parity_python scripts/bench/bench_hf.py --gemm-only     # peak of torch.matmul at the model's shapes
Weights are N(0, 0.02) from a seed unless --base names a saved model; every token is trained.
"""
import argparse, json, statistics, time
t_start = time.perf_counter()
import torch
import torch.nn as nn

SHAPES = {"qkv_proj": (9216, 3072), "o_proj": (3072, 3072), "gate_up_proj": (16384, 3072), "down_proj": (3072, 8192)}
VOCAB, WIDTH = 32064, 3072


def status_gib(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return round(int(line.split()[1]) / 2**20, 3)


def reset_peak():
    try:
        open("/proc/self/clear_refs", "w").write("5")
        return True
    except OSError:
        return False


def gemm_peak(dtype, m, reps=3):
    """GFLOP/s of x @ W^T and dy @ W per shape (best of reps), and the seconds of one layer and of the head."""
    out, seconds = {}, {}
    for name, (n, k) in {**SHAPES, "lm_head": (VOCAB, WIDTH)}.items():
        w, x, dy = torch.randn(n, k, dtype=dtype), torch.randn(m, k, dtype=dtype), torch.randn(m, n, dtype=dtype)
        best = {}
        for tag, fn in (("fwd", lambda: torch.matmul(x, w.t())), ("dx", lambda: torch.matmul(dy, w))):
            fn()
            times = []
            for _ in range(reps):
                t = time.perf_counter(); fn(); times.append(time.perf_counter() - t)
            best[tag] = min(times)
        out[name] = {t: round(2 * m * n * k / s / 1e9, 1) for t, s in best.items()}
        seconds[name] = sum(best.values())
    head = seconds.pop("lm_head")
    return {"gflops": out, "layer_s": round(sum(seconds.values()), 4), "head_s": round(head, 4)}


def build(args, dtype):
    from transformers import Phi3Config, Phi3ForCausalLM
    from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding
    if args.base:
        extra = {}
        if args.mode == "qlora":
            from transformers import BitsAndBytesConfig
            extra["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16)
        return Phi3ForCausalLM.from_pretrained(args.base, dtype=dtype, attn_implementation=args.attn, **extra)
    config = Phi3Config(num_hidden_layers=args.layers, sliding_window=None, attn_implementation=args.attn)
    with torch.device("meta"):
        model = Phi3ForCausalLM(config).to(dtype)
    model.model.rotary_emb = Phi3RotaryEmbedding(config)
    generator = torch.Generator().manual_seed(args.seed)
    for path, module in list(model.named_modules()):
        for name, p in list(module.named_parameters(recurse=False)):
            if p.dim() == 1:
                value = torch.ones(p.shape, dtype=dtype)
            else:
                value = torch.empty(p.shape, dtype=dtype).normal_(0, 0.02, generator=generator)
            if args.mode == "qlora" and path.split(".")[-1] in SHAPES:
                import bitsandbytes as bnb
                q = bnb.nn.Linear4bit(p.shape[1], p.shape[0], bias=False, quant_type="nf4", compress_statistics=True,
                                      compute_dtype=torch.bfloat16, device="meta")
                q.weight = bnb.nn.Params4bit(value, requires_grad=False, quant_type="nf4", compress_statistics=True,
                                             module=q).to("cpu")
                del value
                model.set_submodule(path, q)
            else:
                setattr(module, name, nn.Parameter(value, requires_grad=False))
    if args.mode == "qlora":
        model.is_loaded_in_4bit = True
    return model


def flops(config, tokens, seq, rank):
    """LoRA training: 2P forward + 2P input gradient + 6 adapter parameters, and causal attention at 3.5 forwards."""
    linear = config.num_hidden_layers * sum(n * k for n, k in SHAPES.values()) + VOCAB * WIDTH
    lora = config.num_hidden_layers * rank * sum(n + k for n, k in SHAPES.values())
    attention = config.num_hidden_layers * 3.5 * 2 * seq * WIDTH
    return tokens * (4 * linear + 6 * lora + attention)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--mode", choices=["bf16", "fp32", "qlora"], default="bf16")
    ap.add_argument("--layers", type=int, default=32)
    ap.add_argument("--batch", type=int, default=1)
    ap.add_argument("--seq", type=int, default=512)
    ap.add_argument("--rank", type=int, default=16)
    ap.add_argument("--warmup", type=int, default=1)
    ap.add_argument("--steps", type=int, default=3)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--attn", choices=["sdpa", "eager"], default="sdpa")
    ap.add_argument("--base", help="saved model folder to load instead of random weights")
    ap.add_argument("--save", help="save the random model here and stop")
    ap.add_argument("--checkpointing", action="store_true")
    ap.add_argument("--fp32-adapters", action="store_true", help="PEFT's default: adapters in fp32 over a 16-bit base")
    ap.add_argument("--autocast", action="store_true", help="run the forward under bf16 autocast")
    ap.add_argument("--kbit-prep", action="store_true", help="peft.prepare_model_for_kbit_training")
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--precision", choices=["highest", "high", "medium"], default="highest")
    ap.add_argument("--gemm-only", action="store_true")
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(args.precision)
    if args.gemm_only:
        report = {str(d): {m: gemm_peak(d, m) for m in (512, 1024)} for d in (torch.bfloat16, torch.float32)}
        return print(json.dumps({"precision": args.precision, "threads": args.threads, "gemm": report}))

    import peft
    dtype = torch.float32 if args.mode == "fp32" else torch.bfloat16
    t_import = time.perf_counter()
    model = build(args, dtype)
    t_build = time.perf_counter()
    if args.save:
        return model.save_pretrained(args.save)
    config = model.config
    if args.kbit_prep:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0, task_type="CAUSAL_LM",
                           target_modules=list(SHAPES))
    model = peft.get_peft_model(model, lora, autocast_adapter_dtype=args.fp32_adapters)
    if args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    forward = torch.compile(model) if args.compile else model
    build_peak, rss = status_gib("VmHWM"), status_gib("VmRSS")
    peak_is_training = reset_peak()
    generator = torch.Generator().manual_seed(1)
    times, share, parts, losses = [], [], [], []
    for step in range(args.warmup + args.steps):
        ids = torch.randint(0, min(32000, config.vocab_size), (args.batch, args.seq), generator=generator)
        cpu, t0 = time.process_time(), time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.autocast):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        t1 = time.perf_counter()
        loss.backward()
        t2 = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        t3 = time.perf_counter()
        losses.append(round(loss.item(), 4))
        times.append(t3 - t0)
        share.append((time.process_time() - cpu) / (t3 - t0) / args.threads)
        parts.append((t1 - t0, t2 - t1, t3 - t2))
    timed = times[args.warmup:]
    best = min(range(len(timed)), key=timed.__getitem__)
    tokens = args.batch * args.seq
    work = flops(config, tokens, args.seq, args.rank)
    print(json.dumps({
        **{k: v for k, v in vars(args).items() if k not in ("save", "gemm_only", "seed")},
        "adapter_dtype": str(trainable[0].dtype), "trainable": sum(p.numel() for p in trainable),
        "import_s": round(t_import - t_start, 2), "load_s": round(t_build - t_import, 2),
        "first_step_s": round(times[0], 3), "step_min_s": round(min(timed), 3),
        "step_median_s": round(statistics.median(timed), 3),
        "fwd_bwd_opt_s": [round(x, 3) for x in parts[args.warmup + best]],
        "cpu_share_of_best": round(share[args.warmup + best], 3),  # below about 0.95 the cores were shared: repeat
        "tokens_per_s": round(tokens / min(timed), 2), "tokens_per_s_median": round(tokens / statistics.median(timed), 2),
        "lora_tflop_per_step": round(work / 1e12, 3), "gflops": round(work / min(timed) / 1e9, 1),
        "rss_after_load_gib": rss, "peak_load_gib": build_peak,
        "peak_train_gib": status_gib("VmHWM") if peak_is_training else None, "losses": losses}))


if __name__ == "__main__":
    main()
