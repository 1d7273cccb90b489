"""Regenerates everything under tests/references that comes from the Python libraries.

    scripts/parity_python tests/parity/make_references.py              all of it
    scripts/parity_python tests/parity/make_references.py --only nf4   one family

tests/references/README.md says what each file holds. The same libraries on another processor may give other last bits in
fp32 and bf16, so the files are made once and committed; the fp64 ones agree to 1e-14.
"""
import argparse, json, os, shutil
from types import SimpleNamespace
import numpy as np
import torch
from safetensors.torch import load_file, save_file
import dump_forward_backward as fb
import dump_nf4, exact, loss_curve, make_tiny_model, nf4, philox_dropout

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "references")
VOCAB, ORIGINAL, WINDOW = 96, 24, 16
# Lengths of the documents of a batch: "long" crosses ORIGINAL, where LongRoPE changes its table, and WINDOW.
DOCUMENTS = {"long": [17, 30, 1, 9], "short": [20, 3, 11]}
BATCHES = {"mha": ["long"], "gqa": ["long"], "longrope": ["long", "short"], "partial": ["long", "short"]}
OLD_SPELLING = {"mha", "longrope", "partial"}  # gqa keeps the spelling of transformers 5


def path(*parts):
    full = os.path.join(OUT, *parts)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def save(tensors, *parts):
    save_file({k: torch.as_tensor(v).contiguous() for k, v in tensors.items()}, path(*parts))


def batches(name):
    """The same documents as one packed row and as padded rows. Each document's first third is not trained."""
    generator = torch.Generator().manual_seed(5)
    lengths = DOCUMENTS[name]
    ids = [torch.randint(3, VOCAB - 1, (n,), generator=generator) for n in lengths]
    labels = [torch.cat((torch.full((n // 3,), -100), x[n // 3:])) for n, x in zip(lengths, ids)]
    pad = lambda rows, fill: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
    cu = torch.tensor([0, *np.cumsum(lengths)])
    return {"packed": {"input_ids": torch.cat(ids)[None], "labels": torch.cat(labels)[None], "cu_seqlens": cu},
            "padded": {"input_ids": pad(ids, VOCAB - 1), "labels": pad(labels, -100),
                       "attention_mask": pad([torch.ones_like(x) for x in ids], 0)}}


def adapted(folder, adapter, dtype, attn="sdpa"):
    return fb.to_dtype(fb.with_adapter(fb.load_base(folder, dtype, attn), adapter), dtype)


def relative(a, b):
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def worst(run, exact_run):
    """The largest relative error over logits and gradients."""
    names = [k for k in run if k in exact_run and (k == "logits" or k.startswith("grad."))]
    return {"loss": abs(run["loss"].item() - exact_run["loss"].item()),
            "logits": relative(run["logits"], exact_run["logits"]),
            "gradients": max(relative(run[k], exact_run[k]) for k in names if k != "logits")}


def save_folder(model, folder, old):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if old:
        make_tiny_model.old_spelling(folder)


def models():
    for kind in make_tiny_model.KINDS:
        model = make_tiny_model.build(kind, intermediate=64, vocab=VOCAB, original=ORIGINAL, window=WINDOW, round_to_bf16=True)
        save_folder(model.bfloat16(), path("models", kind), kind in OLD_SPELLING)
        base = fb.load_base(path("models", kind), torch.float32, "sdpa")
        read, made = base.config.rope_parameters, model.config.rope_parameters
        assert all(read[k] == v for k, v in made.items()), (kind, made, read)  # the old spelling says the same
        adapter = fb.fresh_adapter(base, round_to_bf16=True)
        adapter.peft_config["default"].base_model_name_or_path = kind
        shutil.rmtree(path("adapters", kind), ignore_errors=True)
        adapter.save_pretrained(path("adapters", kind))
        os.remove(path("adapters", kind, "README.md"))
        sort_targets(path("adapters", kind, "adapter_config.json"))


def sort_targets(file):
    """PEFT writes a set in an order of its own every time."""
    config = json.load(open(file))
    config["target_modules"].sort()
    with open(file, "w") as out:
        out.write(json.dumps(config, indent=2, sort_keys=True))


def forward_backward():
    for kind, names in BATCHES.items():
        folder, adapter = path("models", kind), path("adapters", kind)
        for name in names:
            batch = batches(name)
            reference = fb.forward_backward(adapted(folder, adapter, torch.float64), batch["packed"])
            padded = fb.forward_backward(adapted(folder, adapter, torch.float64), batch["padded"])
            exact.remove()
            gap = max(relative(padded[k], reference[k]) for k in reference if k.startswith("grad."))
            assert gap < 1e-12, (kind, name, gap)  # so the padded run's gradients need not be stored
            save(reference, "forward_backward", f"{kind}.{name}.packed.float64.safetensors")
            save({k: v for k, v in padded.items() if not k.startswith("grad.")},
                 "forward_backward", f"{kind}.{name}.padded.float64.safetensors")
            for dtype in (torch.float32, torch.bfloat16):
                run = fb.forward_backward(adapted(folder, adapter, dtype), batch["packed"])
                print(kind, name, dtype, worst(run, reference), flush=True)
                if name == "long":
                    keep = {k: v for k, v in run.items() if k in ("logits", "loss") or k.startswith("grad.")}
                    save(keep, "forward_backward", f"{kind}.{name}.packed.{str(dtype)[6:]}.safetensors")


def qlora():
    """A base quantised by bitsandbytes from fp32 and from bf16 weights, saved by transformers, and its gradients."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    batch = batches("long")["packed"]
    for dtype in (torch.float32, torch.bfloat16):
        name = "mha_nf4_" + str(dtype)[6:]
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                      bnb_4bit_compute_dtype=dtype)
        model = AutoModelForCausalLM.from_pretrained(path("models", "mha"), dtype=dtype, quantization_config=settings)
        save_folder(model, path("models", name), old=False)
        model = AutoModelForCausalLM.from_pretrained(path("models", name), dtype=dtype)
        weights = {}
        import bitsandbytes as bnb
        for module_name, module in model.named_modules():
            if isinstance(module, bnb.nn.Linear4bit):
                state = module.weight.quant_state
                assert state.dtype == dtype, (module_name, state.dtype)
                weights[module_name] = bnb.functional.dequantize_4bit(module.weight.data, state)
        run = fb.forward_backward(adapted_quantised(model, path("adapters", "mha"), dtype), batch)
        plain = fb.load_base(path("models", "mha"), torch.float64, "eager")
        for module_name, value in weights.items():
            plain.get_submodule(module_name).weight.data.copy_(value.double())
        reference = fb.forward_backward(fb.to_dtype(fb.with_adapter(plain, path("adapters", "mha")), torch.float64), batch)
        exact.remove()
        print(name, worst(run, reference), flush=True)
        keep = {k: v for k, v in run.items() if k in ("logits", "loss") or k.startswith("grad.")}
        save(keep, "forward_backward", f"{name}.long.packed.{str(dtype)[6:]}.safetensors")
        save(reference, "forward_backward", f"{name}.long.packed.float64.safetensors")


def adapted_quantised(model, adapter, dtype):
    model = fb.with_adapter(model, adapter)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = p.data.to(dtype)
    return model


def dora():
    """DoRA over a 16-bit base, with dropout too, and over a quantised one."""
    batch = batches("long")["packed"]
    for kind in ("gqa", "mha"):
        base = fb.load_base(path("models", kind), torch.float32, "sdpa")
        adapter = fb.fresh_adapter(base, dora=True, round_to_bf16=True)
        adapter.peft_config["default"].base_model_name_or_path = kind
        folder = path("adapters", kind + "_dora")
        shutil.rmtree(folder, ignore_errors=True)
        adapter.save_pretrained(folder)
        os.remove(os.path.join(folder, "README.md"))
        sort_targets(os.path.join(folder, "adapter_config.json"))
    keep = lambda run: {k: v for k, v in run.items() if k in ("logits", "loss") or k.startswith("grad.")}
    base, adapter = path("models", "gqa"), path("adapters", "gqa_dora")
    reference = fb.forward_backward(adapted(base, adapter, torch.float64), batch)
    save(reference, "forward_backward", "gqa_dora.long.packed.float64.safetensors")
    documents = [(1000 + i, n) for i, n in enumerate(DOCUMENTS["long"])]
    dropped = philox_dropout.install(adapted(base, adapter, torch.float64), 0.25, 0, 1, documents)
    dropped = fb.forward_backward(dropped, batch)
    save({k: v for k, v in dropped.items() if k == "loss" or k.startswith("grad.")},
         "forward_backward", "gqa_dora_dropout.long.packed.float64.safetensors")
    exact.remove()
    for dtype in (torch.float32, torch.bfloat16):
        run = fb.forward_backward(adapted(base, adapter, dtype), batch)
        print("gqa_dora", dtype, worst(run, reference), flush=True)
        save(keep(run), "forward_backward", f"gqa_dora.long.packed.{str(dtype)[6:]}.safetensors")
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(path("models", "mha_nf4_float32"), dtype=torch.float32)
    run = fb.forward_backward(adapted_quantised(model, path("adapters", "mha_dora"), torch.float32), batch)
    save({**{k: v for k, v in reference.items() if k in ("input_ids", "labels", "cu_seqlens")}, **keep(run)},
         "forward_backward", "mha_nf4_float32_dora.long.packed.float32.safetensors")


def pissa():
    """PEFT's PiSSA: its start, a forward and backward away from it, and its conversion to LoRA for the base as it was."""
    import peft, tempfile
    batch = batches("long")["packed"]
    config = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=fb.TARGETS, task_type="CAUSAL_LM")
    for name, init in (("gqa_pissa", "pissa"), ("gqa_pissa_niter", "pissa_niter_16")):
        torch.manual_seed(11)
        base = fb.load_base(path("models", "gqa"), torch.float32, "sdpa")
        model = peft.get_peft_model(base, peft.LoraConfig(init_lora_weights=init, **config))
        keys = {n: n.replace(".default", "") for n, p in model.named_parameters() if p.requires_grad}
        out = {"start." + keys[n]: p.detach().clone() for n, p in model.named_parameters() if n in keys}
        if init == "pissa":
            with tempfile.TemporaryDirectory() as start:
                model.peft_config["default"].init_lora_weights = True
                model.peft_config["default"].base_model_name_or_path = "gqa"
                model.save_pretrained(start)
                generator = torch.Generator().manual_seed(13)
                with torch.no_grad():
                    for n, p in sorted(model.named_parameters()):
                        if n in keys:
                            p += 0.1 * p.abs().mean() * torch.randn(p.shape, generator=generator)
                            out["trained." + keys[n]] = p.detach().clone()
                out.update(fb.forward_backward(model, batch))
                folder = path("adapters", name)
                shutil.rmtree(folder, ignore_errors=True)
                model.save_pretrained(folder, path_initial_model_for_weight_conversion=start)
                os.remove(os.path.join(folder, "README.md"))
                sort_targets(os.path.join(folder, "adapter_config.json"))
        save(out, "forward_backward", f"{name}.long.packed.float32.safetensors")


def nf4_tensors():
    g = torch.Generator().manual_seed(3)
    normal = lambda *shape: 0.02 * torch.randn(*shape, generator=g)
    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    # a seed for which seven nested codes differ between the two rules
    two_nested = 0.02 * torch.randn(192, 128, generator=torch.Generator().manual_seed(90))
    zeros = normal(8, 64)
    zeros[3] = 0
    holes = normal(33, 65)
    holes[4:8] = 0
    spread = normal(6, 64) * torch.tensor([1e-30, 1e-12, 1e-3, 1.0, 1e6, 1e30])[:, None]
    ties = torch.zeros(4, 64)  # every threshold, just below it and just above it, in a block whose largest size is one
    thresholds = torch.from_numpy(nf4.THRESHOLDS)
    ties[0, :15], ties[1, :15] = thresholds, torch.nextafter(thresholds, torch.tensor(-1.0))
    ties[2, :15], ties[3, :16] = torch.nextafter(thresholds, torch.tensor(1.0)), torch.from_numpy(nf4.CODE)
    ties[:, 63] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    return {"two_nested_blocks": two_nested.to(bf16), "bf16": normal(64, 64).to(bf16), "fp32": normal(32, 64),
            "fp16": normal(32, 64).to(fp16), "zero_block": zeros.to(bf16), "all_zero": torch.zeros(2, 64, dtype=bf16),
            "partial_block": normal(3, 40), "odd_fp32": normal(5, 13), "odd_fp16": normal(3, 7).to(fp16),
            "odd_holes": holes.to(bf16), "one_element": torch.tensor([[-0.25]], dtype=bf16),
            "equal_blocks": torch.tensor([0.5, -0.25]).repeat(3, 32).to(bf16), "wide_range": spread, "ties": ties,
            "negative_zero": torch.cat((torch.full((1, 64), -0.0), normal(1, 64))).to(fp32)}


def nf4_references():
    out = {"quant_map": nf4.CODE, "nested_quant_map": nf4.MAP}
    for name, value in nf4_tensors().items():
        out[name] = value
        theirs = dump_nf4.quantise(value)
        wide = value.float().numpy()
        check = nf4.quantise(wide, "lookup", theirs["nested_offset"].item())
        for key in ("packed", "absmax", "quant_map", "nested_absmax", "nested_quant_map", "nested_offset"):
            assert (theirs[key].numpy() == check[key]).all(), (name, key)
        rounded = torch.from_numpy(nf4.dequantise(check, wide.size)).reshape(value.shape).to(value.dtype)
        assert (rounded == theirs["dequantised"]).all(), name
        theirs["block_absmax"] = torch.from_numpy(check["block_absmax"])
        ours = nf4.quantise(wide, "search")
        ours["absmax_restored"] = nf4.restored_absmax(ours)
        for rule, state in (("lookup", theirs), ("search", ours)):
            out.update({f"{name}.{rule}.{k}": v for k, v in state.items() if not k.endswith("quant_map")})
        print(name, list(value.shape), {k: int((np.asarray(ours[k]) != theirs[k].numpy()).sum()) for k in ("packed", "absmax")})
    save(out, "nf4.safetensors")


def pattern_rows():
    """Rows that can be learnt: a token follows from the one before by a step that the row's first token tells."""
    g = torch.Generator().manual_seed(17)
    rows = []
    for length in torch.randint(6, 29, (34,), generator=g).tolist():
        step = int(torch.randint(1, 6, (1,), generator=g))
        start = int(torch.randint(0, VOCAB - 10, (1,), generator=g))
        ids = [3 + step] + [9 + (start + step * i) % (VOCAB - 10) for i in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3:]})
    return rows


def loss_curves():
    data = path("loss_curve", "rows.jsonl")
    write_lines(data, pattern_rows())
    settings = dict(data=data, steps=50, epochs=None, shuffle_seed=42, micro=2, accumulate=4, lr=1e-2, warmup=5,
                    weight_decay=0.1, clip=1.0, attn="sdpa", packed=False, save_adapter=None, seed=0, adapter_dtype=None, nf4=False)
    for name, dtype in (("mha", "float32"), ("mha", "float64"), ("mha_nf4_float32", "float32")):
        args = SimpleNamespace(model=path("models", name), adapter=path("adapters", "mha"), dtype=dtype, **settings)
        lines = list(loss_curve.run(args))
        exact.remove()
        write_lines(path("loss_curve", f"{name}.{dtype}.jsonl"), lines)
        print(name, dtype, lines[0]["loss"], lines[-1]["loss"], flush=True)


def write_lines(file, items):
    with open(file, "w") as out:
        out.writelines(json.dumps(item) + "\n" for item in items)


def data_order():
    cases = [(n, seed) for n in (1, 2, 3, 7, 34) for seed in (0, 42, 43, 2**31, 2**32 - 1, 2**32 + 42)] + [(1000, 42), (3000, 7)]
    lines = [{"n": n, "seed": seed, "order": torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()}
             for n, seed in cases]
    write_lines(path("data_order.jsonl"), lines)


def schedules():
    from transformers import get_scheduler
    lines = []
    for name, extra in (("constant", {}), ("constant_with_warmup", {}), ("linear", {}), ("cosine", {}),
                        ("cosine_with_min_lr", {"min_lr_rate": 0.1}), ("cosine_with_min_lr", {"min_lr": 5e-5})):
        for total, warmup in ((20, 0), (20, 4), (7, 7), (1, 0), (5, 9)):
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
            schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total,
                                     scheduler_specific_kwargs=dict(extra))
            rates = []
            for _ in range(total):  # the rate of update 1, 2, ...
                rates.append(schedule.get_last_lr()[0])
                optimizer.step(), schedule.step()
            lines.append({"name": name, "learning_rate": 2e-4, **extra, "total": total, "warmup": warmup, "rates": rates})
    write_lines(path("schedules.jsonl"), lines)


def adamw():
    """Twelve steps of torch.optim.AdamW behind torch's clipping, over two parameters."""
    out = {}
    for case, decay, clip in (("plain", 0.0, 0.0), ("decay", 0.1, 0.0), ("clipped", 0.1, 1.0)):
        for dtype in (torch.float64, torch.float32):
            g = torch.Generator().manual_seed(23)
            params = [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for shape in ((3, 4), (5,))]
            optimizer = torch.optim.AdamW(params, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, foreach=False)
            key = f"{case}.{str(dtype)[6:]}."
            out.update({f"{key}initial.{i}": p.detach().clone() for i, p in enumerate(params)})
            history = {}
            for step in range(12):
                rate = 1e-2 * (step + 1) / 12
                optimizer.param_groups[0]["lr"] = rate
                for i, p in enumerate(params):
                    p.grad = (torch.randn(p.shape, generator=g, dtype=torch.float64) * 10.0 ** (step % 4 - 2)).to(dtype)
                    history.setdefault(f"gradient.{i}", []).append(p.grad.clone())
                norm = torch.nn.utils.clip_grad_norm_(params, clip if clip else float("inf"), foreach=False)
                history.setdefault("norm", []).append(norm.clone())
                history.setdefault("rate", []).append(torch.tensor(rate, dtype=torch.float64))
                optimizer.step()
                for i, p in enumerate(params):
                    state = optimizer.state[p]
                    for name, value in (("value", p.detach()), ("exp_avg", state["exp_avg"]), ("exp_avg_sq", state["exp_avg_sq"])):
                        history.setdefault(f"{name}.{i}", []).append(value.clone())
            out.update({key + k: torch.stack(v) for k, v in history.items()})
    save(out, "adamw.safetensors")


def loraplus():
    """Six steps of PEFT's LoRA+ optimizer from adapters/mha, the gradients a formula that the test repeats."""
    from peft.optimizers import create_loraplus_optimizer
    out = {}
    for dtype in (torch.float64, torch.float32):
        model = adapted(path("models", "mha"), path("adapters", "mha"), dtype)
        optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1.0, loraplus_lr_ratio=16.0, betas=(0.9, 0.999),
                                              eps=1e-8, loraplus_weight_decay=0.1, foreach=False)
        ratios = [group["lr"] for group in optimizer.param_groups]
        named = [(k.replace(".default", ""), p) for k, p in model.named_parameters() if p.requires_grad]
        for step in range(6):
            for group, ratio in zip(optimizer.param_groups, ratios):
                group["lr"] = 1e-3 * (step + 1) * ratio
            for _, p in named:
                p.grad = torch.sin(0.37 * torch.arange(p.numel(), dtype=torch.float64) + step).reshape(p.shape).to(dtype)
            optimizer.step()
        out.update({f"{str(dtype)[6:]}.{k}": p.detach().clone() for k, p in named})
    exact.remove()
    save(out, "loraplus.safetensors")


def whole_modules():
    """One exact forward and backward with the embedding, the head or both trained whole beside adapters/KIND."""
    import peft
    for kind, modules in (("mha", ["embed_tokens", "lm_head"]), ("partial", ["embed_tokens"]), ("partial", ["lm_head"]),
                          ("partial", ["embed_tokens", "lm_head"])):
        batch = batches(BATCHES[kind][-1])["packed"]
        batch["input_ids"][0, [4, 21]] = VOCAB - 1  # the padding token, whose row gets no gradient
        base = fb.load_base(path("models", kind), torch.float64, "eager")
        assert base.config.pad_token_id == VOCAB - 1
        config = peft.LoraConfig.from_pretrained(path("adapters", kind))
        config.inference_mode, config.modules_to_save = False, modules
        model = peft.get_peft_model(base, config, autocast_adapter_dtype=False)
        lora = load_file(path("adapters", kind, "adapter_model.safetensors"))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if ".lora_" in name:
                    p.copy_(lora[name.replace(".default", "")])
                elif p.requires_grad:  # no longer the base's, and the two not each other's
                    p += (0.01 * torch.sin(torch.arange(p.numel(), dtype=torch.float64) + len(name))).view_as(p)
        run = fb.forward_backward(fb.to_dtype(model, torch.float64), batch)
        exact.remove()
        whole = {k.replace(".modules_to_save", ""): v for k, v in run.items()}
        assert all(f"grad.base_model.model.{m}.weight" in whole for m in
                   ["model.embed_tokens"] * ("embed_tokens" in modules) + ["lm_head"] * ("lm_head" in modules)), list(whole)
        shift = {f"shift.{n.replace('.modules_to_save.default', '')}": torch.tensor(len(n)) for n, p in model.named_parameters()
                 if p.requires_grad and ".lora_" not in n}
        save({k: v.float() if v.is_floating_point() else v for k, v in whole.items()} | shift,
             "forward_backward", f"{kind}.{BATCHES[kind][-1]}.whole.{'_'.join(modules)}.safetensors")


FAMILIES = {"models": models, "forward_backward": forward_backward, "qlora": qlora, "dora": dora, "pissa": pissa,
            "nf4": nf4_references, "loss_curve": loss_curves, "data_order": data_order, "schedules": schedules, "adamw": adamw,
            "loraplus": loraplus, "whole_modules": whole_modules}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    args = ap.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in args.only:
        FAMILIES[name]()


if __name__ == "__main__":
    main()
