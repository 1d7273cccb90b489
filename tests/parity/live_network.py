"""Holds forward and backward of our program to transformers, PEFT and bitsandbytes, live.

    scripts/parity_python tests/parity/live_network.py --dump build/bin/parity_dump [--work FOLDER]

Fresh tiny models (another seed and larger than those of tests/references), sharded and not, both spellings of config.json;
documents packed and padded, on either side of LongRoPE's change of table and of the window; rsLoRA; DoRA; bases quantised
by bitsandbytes and by our program. Prints a line a comparison and 'N passed, N failed'; exit status 1 if any failed.

What is held to what ("relative" is max|a-b| / max|b|):
    fp64    to exact.py, <= 1e-9
    fp32    to transformers and PEFT in fp32, <= 1e-5: logits, loss, each gradient
    bf16    no further from exact.py than twice the Python stack's own bf16 run is
    packed  to padded <= 1e-10 in fp64; recomputed blocks to kept activations: the same bits
"""
import argparse, json, os, subprocess, sys, tempfile
import torch
from safetensors.torch import load_file
import dump_forward_backward as fb
import exact, make_tiny_model

SHAPE = dict(seed=99, hidden=128, intermediate=192, layers=3, vocab=1000, original=64, window=48, round_to_bf16=True)
LENGTHS = {"long": [33, 90, 1, 7, 64], "short": [20, 64, 3]}


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def hold(self, what, value, limit):
        good = value <= limit
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'} {what}: {value:.2e} (limit {limit:.2e})", flush=True)


def batch_of(lengths, layout, seed=8):
    g = torch.Generator().manual_seed(seed)
    ids = [torch.randint(3, SHAPE["vocab"] - 1, (n,), generator=g) for n in lengths]
    labels = [torch.cat((torch.full((n // 4,), -100), x[n // 4:])) for n, x in zip(lengths, ids)]
    if layout == "packed":
        return {"input_ids": torch.cat(ids)[None], "labels": torch.cat(labels)[None],
                "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0)}
    pad = lambda rows, fill: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
    return {"input_ids": pad(ids, SHAPE["vocab"] - 1), "labels": pad(labels, -100),
            "attention_mask": pad([torch.ones_like(x) for x in ids], 0)}


def relative(a, b):
    largest = b.double().abs().max()
    return ((a.double() - b.double()).abs().max() / largest).item() if largest > 0 else a.double().abs().max().item()


def compare(ours, theirs, batch):
    """Relative error of the logits (where there is a token), of the loss, and the worst of any one gradient."""
    keep = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    names = sorted(k for k in theirs if k.startswith("grad."))
    if names != sorted(k for k in ours if k.startswith("grad.")):
        raise SystemExit(f"the gradients differ in name: {sorted(set(names) ^ {k for k in ours if k.startswith('grad.')})[:4]}")
    return {"logits": relative(ours["logits"][keep], theirs["logits"][keep]), "loss": relative(ours["loss"], theirs["loss"]),
            "gradients": max(relative(ours[k], theirs[k]) for k in names)}


class Side:
    """Our program and the Python stack over the same folders."""

    def __init__(self, program, work):
        self.program, self.work, self.count = program, work, 0

    def ours(self, model, adapter, batch, *options):
        self.count += 1
        files = {k: os.path.join(self.work, f"{self.count}.{k}") for k in ("json", "safetensors")}
        with open(files["json"], "w") as out:
            json.dump({k: v.tolist() for k, v in batch.items()}, out)
        subprocess.run([self.program, "--model", model, "--adapter", adapter, "--batch", files["json"], "--out", files["safetensors"],
                        *options], check=True, stdout=subprocess.DEVNULL)
        return load_file(files["safetensors"])

    def theirs(self, model, adapter, batch, dtype, nf4=False):
        exact.remove()
        base = fb.load_base(model, dtype, "sdpa")
        if nf4:
            base = fb.quantise(base)
        adapted = fb.with_adapter(base, adapter)
        for name, p in adapted.named_parameters():
            if "lora_" in name or dtype == torch.float64:
                p.data = p.data.to(dtype)
        return fb.forward_backward(adapted, batch)


def make(work, kind, old, shard="50GB", rslora=False, dora=False):
    folder, adapter = os.path.join(work, kind), os.path.join(work, kind + ("-dora" if dora else "-adapter"))
    model = make_tiny_model.build(kind, **SHAPE)
    model.save_pretrained(folder, max_shard_size=shard)
    if old:
        make_tiny_model.old_spelling(folder)
    fb.fresh_adapter(model, rank=6, alpha=9, rslora=rslora, dora=dora, round_to_bf16=True).save_pretrained(adapter)
    return folder, adapter


def check_network(side, checks, kind, folder, adapter):
    for name in ("long", "short") if kind in ("longrope", "partial") else ("long",):
        packed, padded = (batch_of(LENGTHS[name], layout) for layout in ("packed", "padded"))
        reference = side.theirs(folder, adapter, packed, torch.float64)
        exact.remove()
        ours64 = side.ours(folder, adapter, packed, "--dtype", "float64")
        for what, error in compare(ours64, reference, packed).items():
            checks.hold(f"{kind} {name} fp64 {what}", error, 1e-9)
        padded64 = side.ours(folder, adapter, padded, "--dtype", "float64")
        checks.hold(f"{kind} {name} fp64 padded = packed", max(relative(padded64[k], ours64[k]) for k in ours64 if k.startswith("grad.")), 1e-10)
        for batch, layout in ((packed, "packed"), (padded, "padded")):
            theirs = side.theirs(folder, adapter, batch, torch.float32)
            ours32 = side.ours(folder, adapter, batch, "--dtype", "float32")
            for what, error in compare(ours32, theirs, batch).items():
                checks.hold(f"{kind} {name} fp32 {layout} {what}", error, 1e-5)
        again = side.ours(folder, adapter, packed, "--dtype", "float32", "--recompute")
        kept = side.ours(folder, adapter, packed, "--dtype", "float32")
        checks.hold(f"{kind} {name} fp32 recompute differs in", sum(not torch.equal(again[k], kept[k]) for k in kept), 0)
        low = compare(side.theirs(folder, adapter, packed, torch.bfloat16), reference, packed)
        for what, error in compare(side.ours(folder, adapter, packed, "--dtype", "bfloat16"), reference, packed).items():
            # the loss is one number: where the Python run happens to hit it, twice its error would be no measure
            checks.hold(f"{kind} {name} bf16 {what}", error, 2 * max(low[what], 1e-3 if what == "loss" else 0))


def check_quantised(side, checks, work, folder, adapter):
    """A base quantised by bitsandbytes, loaded as saved; and the same base quantised by our program under the CPU's rule."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    packed = batch_of(LENGTHS["long"], "packed")
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                      bnb_4bit_compute_dtype=dtype)
        saved = os.path.join(work, "nf4-" + name)
        AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=settings).save_pretrained(saved)
        theirs = side.theirs(saved, adapter, packed, dtype)
        if dtype == torch.float32:
            for how, model, options in (("pre-quantised", saved, []), ("quantised by us", folder, ["--quantize", "--nested-rule", "lookup"])):
                for what, error in compare(side.ours(model, adapter, packed, "--dtype", name, *options), theirs, packed).items():
                    checks.hold(f"nf4 fp32 {how} {what}", error, 1e-5)
            continue
        reference = fb.to_dtype(fb.with_adapter(dequantised(saved, folder, dtype), adapter), torch.float64)
        reference = fb.forward_backward(reference, packed)
        exact.remove()
        low = compare(theirs, reference, packed)
        for what, error in compare(side.ours(saved, adapter, packed, "--dtype", name), reference, packed).items():
            checks.hold(f"nf4 bf16 pre-quantised {what}", error, 2 * max(low[what], 1e-3 if what == "loss" else 0))


def dequantised(saved, folder, dtype):
    """The exact fp64 model over the weights that a quantised folder stands for."""
    import bitsandbytes as bnb
    quantised = fb.load_base(saved, dtype, "sdpa")
    plain = fb.load_base(folder, torch.float64, "eager")
    for name, module in quantised.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            value = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.get_submodule(name).weight.data.copy_(value.double())
    return plain


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--dump", required=True, help="the program parity_dump")
    ap.add_argument("--work", help="keep what is made in this folder")
    args = ap.parse_args()
    from transformers.utils import logging
    logging.set_verbosity_error(), logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    checks = Checks()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or temporary
        os.makedirs(work, exist_ok=True)
        side = Side(args.dump, work)
        folders = {}
        for kind, old, shard, rslora in (("mha", True, "300KB", False), ("gqa", False, "50GB", True), ("longrope", True, "50GB", False),
                                         ("partial", False, "300KB", True)):
            folders[kind] = make(work, kind, old, shard, rslora)
            check_network(side, checks, kind, *folders[kind])
        dora = make(work, "gqa", False, dora=True)
        check_network(side, checks, "gqa dora", *dora)
        check_quantised(side, checks, work, *folders["gqa"])
        check_quantised(side, checks, work, *dora)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
