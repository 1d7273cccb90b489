"""Dumps logits, loss and every adapter gradient of one forward and backward to safetensors.

The batch is JSON: {"input_ids": [[...]], "labels": [[...]]?, "attention_mask": [[...]]?, "position_ids": [[...]]?,
"cu_seqlens": [0, n1, n1+n2, ...]?}. cu_seqlens makes one packed row: positions restart at each document, no mask is
given, and the first label of each document becomes -100. Without labels every token is trained.

The adapter is --adapter, or a fresh seeded one (A and B normal, so that both gradients are non-zero), which is saved to
--save-adapter. --dtype float64 is an exact reference (exact.py); --keep-fp32-islands leaves transformers as it is.
--nf4 quantises the linear layers of the base with bitsandbytes first; a folder that is quantised already loads as it is.
"""
import argparse, json
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
import exact

TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]


def load_base(path, dtype, attn):
    from transformers import AutoModelForCausalLM
    if dtype == torch.float64:
        exact.install()
        attn = "eager"
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation=attn)


def quantise(model):
    """Replaces every adapted linear layer by bitsandbytes' NF4 one (double quantisation, the model's dtype)."""
    import bitsandbytes as bnb
    for path, module in list(model.named_modules()):
        if path.split(".")[-1] in TARGETS:
            q = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, quant_type="nf4",
                                  compress_statistics=True, compute_dtype=module.weight.dtype, device="meta")
            q.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4",
                                         compress_statistics=True, module=q).to("cpu")
            model.set_submodule(path, q)
    model.is_loaded_in_4bit = True
    return model


def fresh_adapter(model, rank=4, alpha=8, rslora=False, dora=False, seed=7, round_to_bf16=False):
    import peft
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM",
                             use_rslora=rslora, use_dora=dora)
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_A" in name or "lora_B" in name:
                value = torch.randn(p.shape, generator=generator) * (0.05 if "lora_B" in name else p.shape[1] ** -0.5)
                p.copy_(value.bfloat16() if round_to_bf16 else value)
            elif "lora_magnitude" in name:  # away from the norms, which would make every factor nearly one
                value = p * (1 + 0.2 * torch.randn(p.shape, generator=generator))
                p.copy_(value.bfloat16() if round_to_bf16 else value)
    return model


def with_adapter(model, path):
    import peft
    return peft.PeftModel.from_pretrained(model, path, is_trainable=True, autocast_adapter_dtype=False)


def to_dtype(model, dtype):
    for p in model.parameters():
        if p.is_floating_point():  # not the codes of a quantised weight
            p.data = p.data.to(dtype)
    return model


def call_arguments(batch):
    """What the model is called with besides the ids, and the labels."""
    ids = batch["input_ids"]
    labels = batch.get("labels", ids).clone()
    call = {k: batch[k] for k in ("attention_mask", "position_ids") if k in batch}
    if "cu_seqlens" in batch:
        cu = batch["cu_seqlens"]
        call = {"position_ids": torch.cat([torch.arange(n) for n in cu.diff().tolist()])[None]}
        labels[0, cu[:-1]] = -100
    elif "attention_mask" in batch:
        labels = labels.masked_fill(batch["attention_mask"] == 0, -100)
    return call, labels


def forward_backward(model, batch):
    """Tensors by name: logits, loss (mean over the targets), what went in, and grad.<PEFT's key> of each adapter matrix."""
    ids = batch["input_ids"]
    call, labels = call_arguments(batch)
    model.train()
    model.zero_grad()
    logits = model(input_ids=ids, use_cache=False, **call).logits
    wide = logits if logits.dtype == torch.float64 else logits.float()
    loss = F.cross_entropy(wide[:, :-1].reshape(-1, wide.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100)
    loss.backward()
    out = {"logits": logits.detach(), "loss": loss.detach().reshape(1), "input_ids": ids, "labels": labels, **call}
    if "cu_seqlens" in batch:
        out["cu_seqlens"] = batch["cu_seqlens"]
    for name, p in model.named_parameters():
        if p.requires_grad:
            key = name.replace(".default", "").replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")
            out["grad." + key] = p.grad.clone()
    return {k: v.contiguous() for k, v in out.items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--batch", required=True, help="JSON file")
    ap.add_argument("--out", required=True, help="safetensors file")
    ap.add_argument("--adapter")
    ap.add_argument("--save-adapter")
    ap.add_argument("--rank", type=int, default=4)
    ap.add_argument("--alpha", type=float, default=8)
    ap.add_argument("--rslora", action="store_true")
    ap.add_argument("--dora", action="store_true")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--dtype", choices=["float64", "float32", "bfloat16"], default="float64")
    ap.add_argument("--attn", choices=["eager", "sdpa"], default="sdpa", help="float64 always takes exact.py's eager one")
    ap.add_argument("--nf4", action="store_true")
    ap.add_argument("--keep-fp32-islands", action="store_true")
    args = ap.parse_args()
    dtype = getattr(torch, args.dtype)
    batch = {k: torch.tensor(v) for k, v in json.load(open(args.batch)).items()}
    model = load_base(args.model, dtype, args.attn)
    if args.keep_fp32_islands:
        exact.remove()
    if args.nf4:
        model = quantise(model)
    if args.adapter:
        model = with_adapter(model, args.adapter)
    else:
        model = fresh_adapter(model, args.rank, args.alpha, args.rslora, args.dora, args.seed)
    model = to_dtype(model, dtype)
    if args.save_adapter:
        model.save_pretrained(args.save_adapter)
    out = forward_backward(model, batch)
    save_file(out, args.out)
    norm = torch.stack([v.double().norm() for k, v in out.items() if k.startswith("grad.")]).norm()
    print(json.dumps({"loss": out["loss"].item(), "grad_norm": norm.item(),
                      "targets": int((out["labels"][:, 1:] != -100).sum()), "tensors": len(out)}))


if __name__ == "__main__":
    main()
