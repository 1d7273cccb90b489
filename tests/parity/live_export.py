"""Holds merged folders and exported and imported adapters to transformers, PEFT and the gguf package, live.

    scripts/parity_python tests/parity/live_export.py --program build/bin/phi3-tune

Tiny models (grouped heads; tied head with a partial rotation; one that bitsandbytes quantised) with adapters that PEFT wrote:
    merge       in float32 the folder's logits in transformers are those of base + adapter in PEFT <= 1e-5 of the largest; in bf16
                no further from them than twice PEFT's own merge_and_unload in bf16; file names and index are, byte for byte, those of
                merge_and_unload().save_pretrained with the same shard size
    peft-split  the adapter over the same weights in Llama's layout gives the fused one's logits <= 1e-5
    import      a split adapter of PEFT over the Llama layout, with A of their own, gives the same logits as a fused one over Phi-3,
                and split again it has the ranks, and the bits, that it had
    gguf        names are those of the gguf package's table for phi3, shapes, alpha and values equal, scale by scale
    dora        merged and split as above
    origin      metadata that names the base changes nothing for PEFT
Prints a line a comparison and 'N passed, N failed'; exit status 1 if any failed.
"""
import argparse, json, os, shutil, subprocess, tempfile
import numpy as np
import torch
from safetensors.torch import load_file, save_file
import dump_forward_backward as fb
import make_tiny_model
from live_network import Checks, relative

VOCAB, LAYERS = 1000, 2
IDS = (torch.arange(40)[None] * 37 + 3) % VOCAB


def run(program, *words):
    done = subprocess.run([program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def load(path, dtype=torch.float32):
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype)


def with_peft(path, adapter, dtype=torch.float32):
    import peft
    return peft.PeftModel.from_pretrained(load(path, dtype), adapter)


def equal_text(checks, what, ours, theirs):
    checks.hold(what, 0.0 if ours == theirs else 1.0, 0.0)


def weight_files(folder):
    return sorted(n for n in os.listdir(folder) if "model" in n and "safetensors" in n)


def check_merge(checks, program, work, kind):
    base, adapter = os.path.join(work, kind), os.path.join(work, f"{kind}-adapter")
    model = make_tiny_model.build(kind, seed=5, vocab=VOCAB, layers=LAYERS)
    model.save_pretrained(base)
    fb.fresh_adapter(model, rslora=kind == "partial").save_pretrained(adapter)
    wanted = logits(with_peft(base, adapter))
    out = os.path.join(work, f"{kind}-f32")
    run(program, "merge", "--model", base, "--adapter", adapter, "--out", out, "--shard-size", "60000")
    checks.hold(f"{kind}: merged in float32, logits in transformers", relative(logits(load(out)), wanted), 1e-5)
    theirs = os.path.join(work, f"{kind}-f32-peft")
    with_peft(base, adapter).merge_and_unload().save_pretrained(theirs, max_shard_size="60KB")
    equal_text(checks, f"{kind}: names of the {len(weight_files(theirs))} weight files", weight_files(out), weight_files(theirs))
    name = "model.safetensors.index.json"
    equal_text(checks, f"{kind}: index", open(os.path.join(out, name)).read(), open(os.path.join(theirs, name)).read())
    same = all(load_file(os.path.join(out, n)).keys() == load_file(os.path.join(theirs, n)).keys()
               for n in weight_files(out) if n.endswith(".safetensors"))
    equal_text(checks, f"{kind}: tensors of every file", same, True)
    out = os.path.join(work, f"{kind}-bf16")
    run(program, "merge", "--model", base, "--adapter", adapter, "--out", out, "--dtype", "bfloat16")
    # The same rounding in the weights; computed in float32, so that nothing else rounds.
    theirs = with_peft(base, adapter).merge_and_unload().bfloat16().float()
    error = relative(logits(load(out)), wanted)
    checks.hold(f"{kind}: merged in bfloat16, logits", error, 2 * relative(logits(theirs), wanted))
    return base, adapter


def as_llama(base):
    """The same network as a LlamaForCausalLM: rows of qkv_proj and gate_up_proj under their own names."""
    from transformers import LlamaConfig, LlamaForCausalLM
    model = load(base)
    c = model.config
    head = c.hidden_size // c.num_attention_heads
    llama = LlamaForCausalLM(LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size, rms_norm_eps=c.rms_norm_eps,
        num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads, max_position_embeddings=c.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=c.tie_word_embeddings))
    state = {}
    for name, value in model.state_dict().items():
        if "qkv_proj" in name:
            sizes = [c.num_attention_heads * head] + [c.num_key_value_heads * head] * 2
            for part, rows in zip("qkv", value.split(sizes)):
                state[name.replace("qkv_proj", f"{part}_proj")] = rows
        elif "gate_up_proj" in name:
            for part, rows in zip(("gate", "up"), value.chunk(2)):
                state[name.replace("gate_up_proj", f"{part}_proj")] = rows
        else:
            state[name] = value
    llama.load_state_dict(state)
    return llama


def check_split(checks, program, work, base, adapter):
    import peft
    equal = relative(logits(as_llama(base)), logits(load(base)))
    checks.hold("Llama's layout: the same network", equal, 1e-6)
    out = os.path.join(work, "split")
    run(program, "export", "--adapter", adapter, "--model", base, "--format", "peft-split", "--out", out)
    wanted = logits(with_peft(base, adapter))
    checks.hold("peft-split: logits over Llama's layout", relative(
        logits(peft.PeftModel.from_pretrained(as_llama(base), out)), wanted), 1e-5)
    fused = os.path.join(work, "fused-again")
    run(program, "export", "--adapter", out, "--model", base, "--format", "peft-fused", "--out", fused)
    checks.hold("peft-split and back: logits", relative(logits(with_peft(base, fused)), wanted), 0.0)


def check_import(checks, program, work, base):
    import peft
    for what, extra in (("A of their own", {}), ("DoRA", dict(use_dora=True)), ("patterns and rsLoRA", dict(
            use_rslora=True, rank_pattern={"v_proj": 2}, alpha_pattern={"up_proj": 3, "layers.1.self_attn.k_proj": 24}))):
        config = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **extra, target_modules=[
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
        model = peft.get_peft_model(as_llama(base), config)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, p in sorted(model.named_parameters()):
                if "lora_B" in name:
                    p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
                if "magnitude" in name:
                    p.mul_(1.1)
        split, fused, again = (os.path.join(work, f"{n}-{len(extra)}") for n in ("import", "import-fused", "import-again"))
        model.save_pretrained(split)
        run(program, "export", "--adapter", split, "--model", base, "--format", "peft-fused", "--out", fused)
        checks.hold(f"import, {what}: logits", relative(logits(with_peft(base, fused)), logits(model)), 1e-5)
        run(program, "export", "--adapter", fused, "--model", base, "--format", "peft-split", "--out", again)
        theirs, ours = (load_file(os.path.join(f, "adapter_model.safetensors")) for f in (split, again))
        checks.hold(f"import, {what}, and split again: shapes of {len(theirs)} tensors that differ", sum(
            name not in ours or ours[name].shape != value.shape for name, value in theirs.items()) + len(ours) - len(theirs), 0)
        checks.hold(f"import, {what}, and split again: logits over Llama's layout", relative(
            logits(peft.PeftModel.from_pretrained(as_llama(base), again)), logits(model)), 1e-5)
        if "rank_pattern" not in extra:  # else B takes the ratio of the scales
            checks.hold(f"import, {what}, and split again: tensors that are not the same bits", sum(
                not torch.equal(ours[name], value) for name, value in theirs.items()), 0)


def module_scale(config, path):
    from peft.tuners.lora import LoraConfig
    import re
    pick = lambda pattern, default: next((v for k, v in pattern.items() if re.match(rf"(.*\.)?({k})$", path)), default)
    rank, alpha = pick(config["rank_pattern"], config["r"]), pick(config["alpha_pattern"], config["lora_alpha"])
    return rank, alpha / (rank ** 0.5 if config["use_rslora"] else rank)


def check_gguf(checks, program, work, base):
    import gguf, peft
    config = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", use_rslora=True, rank_pattern={"o_proj": 9},
                             alpha_pattern={"layers.1.mlp.down_proj": 3}, target_modules=fb.TARGETS)
    model = peft.get_peft_model(load(base), config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_()
    adapter = os.path.join(work, "for-gguf")
    model.save_pretrained(adapter)
    config, weights = json.load(open(os.path.join(adapter, "adapter_config.json"))), load_file(
        os.path.join(adapter, "adapter_model.safetensors"))
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI3, LAYERS)
    for dtype, kind in (("float32", np.float32), ("float16", np.float16)):
        out = os.path.join(work, f"{dtype}.gguf")
        run(program, "export", "--adapter", adapter, "--model", base, "--format", "gguf", "--dtype", dtype, "--out", out)
        reader = gguf.GGUFReader(out)
        field = lambda key: reader.get_field(key).contents()
        equal_text(checks, f"gguf {dtype}: keys", [field("general.type"), field("general.architecture"), field("adapter.type")],
                   ["adapter", "phi3", "lora"])
        alpha = field("adapter.lora.alpha")
        tensors = {t.name: t for t in reader.tensors}
        expected = {}
        for name, value in weights.items():
            path = name.removeprefix("base_model.model.").removesuffix(".weight")
            path, half = path.removesuffix(".lora_A").removesuffix(".lora_B"), path[-1].lower()
            expected[table.get_name(path + ".weight", try_suffixes=(".weight",)) + f".lora_{half}"] = (path, value)
        equal_text(checks, f"gguf {dtype}: names of {len(expected)} tensors", sorted(tensors), sorted(expected))
        worst, shapes = 0.0, True
        for name, (path, value) in expected.items():
            tensor = tensors[name]
            shapes = shapes and tensor.shape.tolist() == list(reversed(value.shape)) and tensor.data.dtype == kind
            rank, scale = module_scale(config, path)
            factor = scale * rank / alpha if name.endswith("_b") else 1.0
            worst = max(worst, relative(torch.from_numpy(np.array(tensor.data, dtype=np.float32)), value * factor))
        equal_text(checks, f"gguf {dtype}: shapes and types", shapes, True)
        checks.hold(f"gguf {dtype}: values, with alpha {alpha} and the modules' own scales", worst,
                    1e-6 if kind is np.float32 else 5e-4)


def check_nf4(checks, program, work, base, adapter):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    import bitsandbytes, peft
    folder, out = os.path.join(work, "nf4"), os.path.join(work, "nf4-merged")
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=torch.float32)
    quantised = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=settings)
    quantised.save_pretrained(folder)
    # The 4-bit products of bitsandbytes' CPU library round to bf16; its dequantised weights do not.
    plain = load(base)
    with torch.no_grad():
        for name, module in quantised.named_modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
                plain.get_submodule(name).weight.copy_(weight)
    wanted = logits(peft.PeftModel.from_pretrained(plain, adapter))
    said = run(program, "merge", "--model", folder, "--adapter", adapter, "--out", out, "--json")
    checks.hold("nf4: the difference that merge measures", json.loads(said.splitlines()[-1])["max_logit_difference"], 1e-4)
    checks.hold("nf4: merged, logits in transformers", relative(logits(load(out)), wanted), 1e-5)


def check_dora(checks, program, work, base):
    import peft
    adapter, out, split = (os.path.join(work, f"dora-{n}") for n in ("adapter", "merged", "split"))
    model = fb.fresh_adapter(load(base), dora=True)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "magnitude" in name:
                p.mul_(1.1)
    model.save_pretrained(adapter)
    wanted = logits(with_peft(base, adapter))
    checks.hold("dora: it is another network than the base", 0.0 if relative(logits(load(base)), wanted) > 0.01 else 1.0, 0.0)
    run(program, "merge", "--model", base, "--adapter", adapter, "--out", out)
    checks.hold("dora: merged, logits in transformers", relative(logits(load(out)), wanted), 1e-5)
    run(program, "export", "--adapter", adapter, "--model", base, "--format", "peft-split", "--out", split)
    checks.hold("dora: peft-split, logits over Llama's layout", relative(
        logits(peft.PeftModel.from_pretrained(as_llama(base), split)), wanted), 1e-5)


def check_origin(checks, work, base, adapter):
    named = os.path.join(work, "named")
    shutil.copytree(adapter, named)
    path = os.path.join(named, "adapter_model.safetensors")
    save_file(load_file(path), path, metadata={"format": "pt", "phi3_tune_base": "0123", "phi3_tune_base_held": "nf4 64 double"})
    checks.hold("origin in the metadata: logits in PEFT", relative(
        logits(with_peft(base, named)), logits(with_peft(base, adapter))), 0.0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True)
    args = ap.parse_args()
    torch.set_num_threads(2)
    checks = Checks()
    with tempfile.TemporaryDirectory() as work:
        check_merge(checks, args.program, work, "partial")
        base, adapter = check_merge(checks, args.program, work, "gqa")
        check_split(checks, args.program, work, base, adapter)
        check_import(checks, args.program, work, base)
        check_gguf(checks, args.program, work, base)
        check_nf4(checks, args.program, work, base, adapter)
        check_dora(checks, args.program, work, base)
        check_origin(checks, work, base, adapter)
    print(f"{checks.passed} passed, {checks.failed} failed")
    raise SystemExit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
