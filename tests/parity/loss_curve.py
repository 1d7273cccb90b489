"""Optimizer steps of LoRA in a plain PEFT loop; one JSON line {step, loss, grad_norm, lr, tokens} per step.

AdamW (torch), cosine schedule with warm-up, clipping, gradients normalised by the trained tokens of the whole step.
Rows and their order: curve_data.py. --packed joins a micro-batch into one row with restarted positions; the losses must
equal those without it. --dtype float64 is exact (exact.py).
"""
import argparse, itertools, json
import torch
import torch.nn.functional as F
import curve_data
import dump_forward_backward as fb


def collate(rows, packed, pad):
    ids = [torch.tensor(d["input_ids"]) for d in rows]
    labels = [torch.tensor(d.get("labels", d["input_ids"])) for d in rows]
    if packed:
        labels = [torch.cat((torch.tensor([-100]), x[1:])) for x in labels]
        position_ids = torch.cat([torch.arange(len(x)) for x in ids])[None]
        return {"input_ids": torch.cat(ids)[None], "position_ids": position_ids}, torch.cat(labels)[None]
    stack = lambda rows, fill: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
    return {"input_ids": stack(ids, pad), "attention_mask": stack([torch.ones_like(x) for x in ids], 0)}, stack(labels, -100)


def run(args):
    """Trains as the arguments of curve_data.py (and nf4, adapter_dtype) say; yields what each step reports."""
    from transformers import get_cosine_schedule_with_warmup
    torch.use_deterministic_algorithms(True)
    dtype = getattr(torch, args.dtype)
    model = fb.load_base(args.model, dtype, args.attn)
    if args.nf4:
        model = fb.quantise(model)
    if args.dtype == "float64":
        model = model.double()
    model = fb.with_adapter(model, args.adapter).train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    for p in trainable:
        p.data = p.data.to(getattr(torch, args.adapter_dtype or args.dtype))
    data = curve_data.rows(args, model.config.vocab_size)
    steps = curve_data.total_steps(args, len(data))
    optimizer = torch.optim.AdamW(trainable, lr=args.lr, weight_decay=args.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, args.warmup, steps)
    for step, group in enumerate(itertools.islice(curve_data.groups(args, len(data)), steps), 1):
        batches = [collate([data[i] for i in micro], args.packed, model.config.pad_token_id or 0) for micro in group]
        count = sum(int((labels[:, 1:] != -100).sum()) for _, labels in batches)
        total = 0.0
        for inputs, labels in batches:
            logits = model(**inputs, use_cache=False).logits
            wide = logits if logits.dtype == torch.float64 else logits.float()
            loss = F.cross_entropy(wide[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100,
                                   reduction="sum") / count
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(trainable, args.clip if args.clip > 0 else float("inf")).item()
        lr = schedule.get_last_lr()[0]
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        yield {"step": step, "loss": total, "grad_norm": norm, "lr": lr, "tokens": count}
    if args.save_adapter:
        model.save_pretrained(args.save_adapter)


def parser():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    curve_data.add_arguments(ap)
    ap.add_argument("--adapter-dtype", choices=["float64", "float32", "bfloat16"], help="default: --dtype")
    ap.add_argument("--nf4", action="store_true", help="quantise the base with bitsandbytes (double quantisation)")
    return ap


if __name__ == "__main__":
    for line in run(parser().parse_args()):
        print(json.dumps(line), flush=True)
