"""Holds whole training runs of our program to a plain PEFT loop and to TRL's SFTTrainer, live.

    scripts/parity_python tests/parity/live_training.py --program build/bin/phi3-tune --dump build/bin/parity_dump

A tiny model with the small SentencePiece tokenizer of tests/references, 34 conversations of data/medicine, an initial adapter
made by PEFT (lora_model_dir). Our program trains 50 steps from the JSONL file; the Python side trains on the ids and labels that
`data preview --json` shows. Compared, for LoRA and DoRA over the fp32 base and over one that bitsandbytes quantised:
    every step: loss <= 1e-4, trained tokens equal, learning rate <= 1e-12, gradient norm <= 1e-3 of itself
    evaluation loss before step 1 <= 1e-5 (so PEFT's adapter was read right)
    the result, and that of LoRA+ with noise, chosen layers and modules trained whole: opens in PEFT with every tensor used,
    logits <= 1e-5 of ours; the same run again and the run that recomputes its
    blocks write the same bytes
And for a run that starts as PiSSA: its result, a LoRA, opens in PEFT over the base as it was, with the logits that ours has
there <= 1e-5 and the loss of the run's last evaluation <= 1e-5.
Prints a line a comparison and 'N passed, N failed'; exit status 1 if any failed.
"""
import argparse, json, os, shutil, subprocess, sys, tempfile
from types import SimpleNamespace
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
import dump_forward_backward as fb
import loss_curve, make_tiny_model
from live_network import Checks, Side, relative

SOURCE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir))
TOKENIZER = os.path.join(SOURCE, "tests", "references", "tokenizers", "spm_like")
VOCAB, ROWS, STEPS = 1664, 34, 50
METHODS = ["lora", "qlora", "dora", "qdora", "pissa"]
PACE = dict(micro=2, accumulate=4, lr=5e-3, warmup=5, weight_decay=0.1, clip=1.0)


def copy_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        shutil.copy(os.path.join(TOKENIZER, name), folder)


def make_models(work):
    """The fp32 base, the same quantised by bitsandbytes, and PEFT's adapter over it."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    plain, quantised, adapter = (os.path.join(work, name) for name in ("plain", "nf4", "adapter"))
    model = make_tiny_model.build("gqa", seed=5, vocab=VOCAB)
    model.save_pretrained(plain)
    fb.fresh_adapter(model, rank=4, alpha=8).save_pretrained(adapter)
    fresh = make_tiny_model.build("gqa", seed=5, vocab=VOCAB)
    fb.fresh_adapter(fresh, rank=4, alpha=8, dora=True).save_pretrained(os.path.join(work, "dora-adapter"))
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, quantization_config=settings).save_pretrained(quantised)
    for folder in (plain, quantised):
        copy_tokenizer(folder)
    return {"lora": plain, "qlora": quantised}, adapter


def first_lines(name, count, out):
    with open(os.path.join(SOURCE, "data", "medicine", name)) as lines, open(out, "w") as kept:
        kept.writelines(line for line, _ in zip(lines, range(count)))


def write_config(path, **changes):
    settings = {
        "bf16": False, "chat_template": "phi_3", "sequence_len": 512, "sample_packing": False, "val_set_size": 0,
        "micro_batch_size": PACE["micro"], "gradient_accumulation_steps": PACE["accumulate"], "max_steps": STEPS,
        "learning_rate": PACE["lr"], "lr_scheduler": "cosine", "warmup_steps": PACE["warmup"], "weight_decay": PACE["weight_decay"],
        "max_grad_norm": PACE["clip"], "optimizer": "adamw", "gradient_checkpointing": "none", "seed": 42, "logging_steps": 1, **changes}
    with open(path, "w") as out:
        json.dump(settings, out, indent=1)  # JSON is YAML
    return path


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def preview(program, config, count, out):
    """The rows as the trainer gets them, as a file for loss_curve.py."""
    rows = json_lines(run([program, "data", "preview", "--config", config, "-n", str(count), "--json"]))
    with open(out, "w") as lines:
        lines.writelines(json.dumps({k: row[k] for k in ("input_ids", "labels")}) + "\n" for row in rows)
    return rows


def in_fp32(model, adapter):
    """In training mode, which is the same without dropout: in evaluation mode bitsandbytes computes in bf16 on some CPUs."""
    return fb.with_adapter(fb.load_base(model, torch.float32, "sdpa"), adapter).train()


def evaluation_loss(model_folder, adapter, rows):
    """Mean over the trained tokens of all rows."""
    model = in_fp32(model_folder, adapter)
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
            labels = torch.tensor(row["labels"])[1:]
            total += F.cross_entropy(logits.double(), labels, ignore_index=-100, reduction="sum").item()
            count += int((labels != -100).sum())
    return total / count


def compare_steps(checks, name, ours, theirs):
    if [m["step"] for m in ours] != [m["step"] for m in theirs]:
        raise SystemExit(f"{name}: our steps are {[m['step'] for m in ours]}, theirs {[m['step'] for m in theirs]}")
    pairs = list(zip(ours, theirs))
    checks.hold(f"{name} loss, {len(pairs)} steps", max(abs(a["loss"] - b["loss"]) for a, b in pairs), 1e-4)
    checks.hold(f"{name} learning rate", max(abs(a["learning_rate"] - b["lr"]) for a, b in pairs), 1e-12)
    checks.hold(f"{name} gradient norm", max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in pairs), 1e-3)
    if "tokens" in theirs[0]:
        checks.hold(f"{name} steps with other trained tokens", sum(a["trained_tokens"] != b["tokens"] for a, b in pairs), 0)


def check_adapter(checks, side, name, model, result, rows):
    """Our adapter in PEFT: every tensor is used, and the logits are those of our program."""
    import peft
    adapted = in_fp32(model, result)
    file = load_file(os.path.join(result, "adapter_model.safetensors"))
    state = peft.get_peft_model_state_dict(adapted)
    checks.hold(f"{name} adapter tensors that PEFT does not know or misses", len(set(file) ^ set(state)), 0)
    checks.hold(f"{name} adapter tensors that PEFT reads otherwise", sum(not torch.equal(file[k], state[k]) for k in file if k in state), 0)
    batch = {k: torch.tensor([rows[0][k]]) for k in ("input_ids", "labels")}
    with torch.no_grad():
        theirs = adapted(input_ids=batch["input_ids"], use_cache=False).logits
    ours = side.ours(model, result, batch, "--dtype", "float32")
    checks.hold(f"{name} adapter logits in PEFT", relative(ours["logits"], theirs), 1e-5)


def same_adapter(a, b):
    names = ("adapter_model.safetensors", "adapter_config.json")
    return sum(open(os.path.join(a, n), "rb").read() != open(os.path.join(b, n), "rb").read() for n in names)


def trl_curve(model, adapter, data):
    command = [sys.executable, os.path.join(SOURCE, "tests", "parity", "trl_loss_curve.py"), "--model", model, "--adapter", adapter,
               "--data", data, "--shuffle-seed", "42", "--steps", str(STEPS)]
    return json_lines(run(command + [x for k, v in PACE.items() for x in (f"--{k.replace('_', '-')}", str(v))]))


def check_method(checks, side, args, work, method, model, adapter):
    folder = lambda run_name: os.path.join(work, f"{method}-{run_name}")
    train, validation = (os.path.join(work, name) for name in ("train.jsonl", "validation.jsonl"))
    base = dict(base_model=model, adapter="qlora" if method.startswith("q") else "lora", lora_model_dir=adapter)
    common = dict(**base, datasets=[{"path": train, "type": "chat_template"}],
                  test_datasets=[{"path": validation, "type": "chat_template"}], eval_on_start=True)
    config = write_config(folder("run.json"), output_dir=folder("run"), **common)
    run([args.program, "train", "--config", config])
    with open(os.path.join(folder("run"), "metrics.jsonl")) as lines:
        metrics = json_lines(lines.read())
    steps, evaluations = [m for m in metrics if "loss" in m], [m for m in metrics if "eval_loss" in m]

    rows = preview(args.program, config, ROWS, folder("rows.jsonl"))
    held_out = write_config(folder("held_out.json"), output_dir=folder("none"), **base, datasets=common["test_datasets"])
    held_out = preview(args.program, held_out, 1000, folder("held_out.jsonl"))
    checks.hold(f"{method} evaluation loss before step 1", abs(evaluations[0]["eval_loss"] - evaluation_loss(model, adapter, held_out)), 1e-5)

    curve = SimpleNamespace(model=model, adapter=adapter, data=folder("rows.jsonl"), steps=STEPS, epochs=None, shuffle_seed=42,
                            dtype="float32", attn="sdpa", packed=False, save_adapter=folder("peft"), seed=0, adapter_dtype=None,
                            nf4=False, **PACE)
    compare_steps(checks, f"{method} against PEFT", steps, list(loss_curve.run(curve)))
    if method == "lora":  # TRL casts the adapter of a quantised base to bf16
        compare_steps(checks, f"{method} against TRL", steps, trl_curve(model, adapter, folder("rows.jsonl")))
    result = os.path.join(folder("run"), "adapter")
    check_adapter(checks, side, method, model, result, rows)
    for again, changes in (("again", {}), ("block", {"gradient_checkpointing": "block"})):
        run([args.program, "train", "--config", write_config(folder(again + ".json"), output_dir=folder(again), **{**common, **changes})])
        checks.hold(f"{method} {again}: files of the adapter that differ", same_adapter(result, os.path.join(folder(again), "adapter")), 0)


def check_settings(checks, side, args, work, model):
    """LoRA+, noise, one layer and modules trained whole together, from a fresh adapter: what was saved is what PEFT loads."""
    train = os.path.join(work, "train.jsonl")
    output = os.path.join(work, "settings")
    config = write_config(output + ".json", output_dir=output, base_model=model, adapter="lora", lora_r=4, max_steps=6, warmup_steps=0,
                          datasets=[{"path": train, "type": "chat_template"}], loraplus_lr_ratio=4, neftune_noise_alpha=5,
                          lora_layers=[1], lora_modules_to_save=["embed_tokens", "lm_head"])
    run([args.program, "train", "--config", config])
    rows = preview(args.program, config, ROWS, output + ".jsonl")
    check_adapter(checks, side, "settings", model, os.path.join(output, "adapter"), rows)


def check_pissa(checks, side, args, work, model):
    folder = lambda name: os.path.join(work, f"pissa-{name}")
    sets = {name: [{"path": os.path.join(work, f"{name}.jsonl"), "type": "chat_template"}] for name in ("train", "validation")}
    common = dict(base_model=model, adapter="lora", lora_init="pissa", lora_r=4, lora_alpha=8)
    run([args.program, "train", "--config", write_config(folder("run.json"), output_dir=folder("run"), datasets=sets["train"],
                                                         test_datasets=sets["validation"], **common)])
    with open(os.path.join(folder("run"), "metrics.jsonl")) as lines:
        evaluations = [m["eval_loss"] for m in json_lines(lines.read()) if "eval_loss" in m]
    held_out = write_config(folder("held_out.json"), output_dir=folder("none"), datasets=sets["validation"], **common)
    held_out = preview(args.program, held_out, 1000, folder("held_out.jsonl"))
    result = os.path.join(folder("run"), "adapter")
    checks.hold("pissa last evaluation, over the base as it was", abs(evaluations[-1] - evaluation_loss(model, result, held_out)), 1e-5)
    check_adapter(checks, side, "pissa", model, result, held_out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True, help="phi3-tune")
    ap.add_argument("--dump", required=True, help="the program parity_dump")
    ap.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    ap.add_argument("--work", help="keep what is made in this folder")
    args = ap.parse_args()
    args.program, args.dump = os.path.abspath(args.program), os.path.abspath(args.dump)
    from transformers.utils import logging
    logging.set_verbosity_error(), logging.disable_progress_bar()
    checks = Checks()
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(args.work or temporary)
        os.makedirs(work, exist_ok=True)
        side = Side(args.dump, work)
        models, adapter = make_models(work)
        first_lines("train.jsonl", ROWS, os.path.join(work, "train.jsonl"))
        first_lines("validation.jsonl", 20, os.path.join(work, "validation.jsonl"))
        for method in args.methods:
            if method == "pissa":
                check_pissa(checks, side, args, work, models["lora"])
                continue
            start = os.path.join(work, "dora-adapter") if method.endswith("dora") else adapter
            check_method(checks, side, args, work, method, models["qlora" if method.startswith("q") else "lora"], start)
        if "lora" in args.methods:
            check_settings(checks, side, args, work, models["lora"])
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
