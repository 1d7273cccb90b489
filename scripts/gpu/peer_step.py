"""Training steps of the Python stack: one configuration in one process, one JSON line a micro-batch. Not run by hand: the
stage peers of gpu_check starts it, in a Python that has torch, transformers and PEFT.

The loop is the smallest there is: forward, backward, clip, AdamW, on rows of token ids from a file. Nothing but real tokens is
counted, padding isn't. Events around whole steps on a GPU, the clock on a CPU.
"""
import argparse
import json
import os
import statistics
import sys
import time

sys.path.pop(0)  # this folder's kernels.py is not the package that transformers looks for
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1", BITSANDBYTES_NOWELCOME="1")
TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
WARM_UP, MOST, LEAST = 5, 20, 3


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--rows", required=True, help="JSON lines with input_ids and labels, as `phi3-tune data preview --json` prints them")
    parser.add_argument("--batches", type=int, nargs="+", required=True, help="rows of a micro-batch, one figure each")
    parser.add_argument("--device", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timed steps for one micro-batch")
    for name in ("qlora", "liger", "compile", "checkpointing", "shipped", "keep-window"):
        parser.add_argument("--" + name, action="store_true")
    return parser.parse_args()


def build(args, torch):
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM
    if args.liger:
        from liger_kernel.transformers import apply_liger_kernel_to_phi3
        apply_liger_kernel_to_phi3(rope=True, rms_norm=True, swiglu=True, fused_linear_cross_entropy=True)
    config = AutoConfig.from_pretrained(args.base)
    if not args.keep_window:
        config.sliding_window = None
    more = {}
    if args.qlora:
        from transformers import BitsAndBytesConfig
        more["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                                         bnb_4bit_compute_dtype=torch.bfloat16)
        if args.device != "cpu":
            more["device_map"] = {"": 0}
    model = AutoModelForCausalLM.from_pretrained(args.base, config=config, dtype=torch.bfloat16, attn_implementation="sdpa", **more)
    if not args.qlora:
        model = model.to(args.device)
    lora = peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0, task_type="CAUSAL_LM", target_modules=TARGETS)
    model = peft.get_peft_model(model, lora, autocast_adapter_dtype=args.shipped)
    if args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.config.use_cache = False
    return model.train()


def micro_batches(torch, rows, batch, device):
    """(inputs for the model, real tokens), again and again; short rows are padded on the right."""
    while True:
        for start in range(0, len(rows) - batch + 1, batch):
            part = rows[start:start + batch]
            width = max(len(row["input_ids"]) for row in part)
            pad = lambda values, filler: torch.tensor([list(v) + [filler] * (width - len(v)) for v in values], device=device)
            inputs = {"input_ids": pad([row["input_ids"] for row in part], 0), "labels": pad([row["labels"] for row in part], -100)}
            real = sum(len(row["input_ids"]) for row in part)
            if real < width * batch:
                inputs["attention_mask"] = pad([[1] * len(row["input_ids"]) for row in part], 0)
            yield inputs, real


class Steps:
    """Whole training steps, timed."""

    def __init__(self, args, torch, model):
        self.args, self.torch = args, torch
        self.gpu = args.device != "cpu"
        self.forward = torch.compile(model) if args.compile else model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0, fused=True)

    def one(self, inputs):
        """(seconds, loss)"""
        if self.gpu:
            start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.torch.cuda.synchronize()
            start.record()
        else:
            clock = time.perf_counter()
        with self.torch.autocast("cuda" if self.gpu else "cpu", self.torch.bfloat16, enabled=self.args.shipped):
            loss = self.forward(**inputs).loss
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.gpu:
            return time.perf_counter() - clock, loss.item()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3, loss.item()

    def first_loss(self, rows, batch):
        """Before any step; None where it does not fit."""
        inputs, _ = next(micro_batches(self.torch, rows, batch, self.args.device))
        try:
            with self.torch.no_grad():
                return self.forward(**inputs).loss.item()
        except self.torch.OutOfMemoryError:
            self.torch.cuda.empty_cache()
            return None

    def series(self, rows, batch, backends):
        data = micro_batches(self.torch, rows, batch, self.args.device)
        with backends:
            losses = [self.one(next(data)[0])[1] for _ in range(WARM_UP if self.gpu else 1)]
            if self.gpu:
                self.torch.cuda.reset_peak_memory_stats()
            speeds, began = [], time.perf_counter()
            while len(speeds) < MOST and (len(speeds) < LEAST or time.perf_counter() - began < self.args.seconds):
                inputs, real = next(data)
                seconds, loss = self.one(inputs)
                speeds.append(real / seconds)
                losses.append(loss)
        speeds.sort()
        memory = {}
        if self.gpu:
            memory = {"allocated": self.torch.cuda.max_memory_allocated(), "reserved": self.torch.cuda.max_memory_reserved()}
        return {"tokens_per_s": statistics.median(speeds), "iqr": speeds[len(speeds) * 3 // 4] - speeds[len(speeds) // 4], "steps": len(speeds),
                "losses": losses, **memory}


def best_backend(args, torch, steps, rows):
    """Each kernel of sdpa in turn, three steps; the fastest. Compiled code keeps the one it was compiled with, so the library
    chooses there."""
    from contextlib import nullcontext
    from torch.nn.attention import SDPBackend, sdpa_kernel
    if not steps.gpu or args.compile:
        return nullcontext, "the library's choice"
    found = {}
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        try:
            data = micro_batches(torch, rows, args.batches[0], args.device)
            with sdpa_kernel([backend]):
                found[backend] = min(steps.one(next(data)[0])[0] for _ in range(3))
        except RuntimeError:
            steps.optimizer.zero_grad()
    if not found:
        return nullcontext, "the library's choice: neither cuDNN nor FlashAttention serves these rows"
    best = min(found, key=found.get)
    return lambda: sdpa_kernel([best]), f"{best.name} ({', '.join(f'{b.name} {s:.3f} s' for b, s in found.items())})"


def main():
    args = arguments()
    import torch
    with open(args.rows, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    if args.device == "cpu":
        torch.set_num_threads(2)
    torch.manual_seed(1)
    model = build(args, torch)
    steps = Steps(args, torch, model)
    first = {} if args.compile else {batch: steps.first_loss(rows, batch) for batch in args.batches}
    backend, name = best_backend(args, torch, steps, rows)
    print(json.dumps({"sdpa": name, "first_losses": first, "trainable": sum(p.numel() for p in steps.parameters), "adapter_dtype": str(steps.parameters[0].dtype)}), flush=True)
    for batch in args.batches:
        try:
            print(json.dumps({"batch": batch, **steps.series(rows, batch, backend())}), flush=True)
        except torch.OutOfMemoryError as fault:
            steps.optimizer.zero_grad()
            torch.cuda.empty_cache()
            print(json.dumps({"batch": batch, "error": "out of memory: " + str(fault).splitlines()[0][:200]}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
