"""Quantises tensors with bitsandbytes on the CPU and dumps codes, absmax and the nested state to safetensors.

    --input file.safetensors      every 2-D tensor in it; or
    --random ROWSxCOLS [...]      seeded N(0, 0.02), one tensor per shape, plus one with an all-zero block
For a tensor NAME the file holds NAME (input), NAME.packed, .absmax, .quant_map, .dequantised, and with double
quantisation .nested_absmax, .nested_quant_map, .nested_offset, .absmax_restored. Prints one JSON line per tensor, which
also says how many bytes differ from nf4.py under each of its rules.
"""
import argparse, json
import torch
from safetensors.torch import load_file, save_file
import bitsandbytes.functional as bf
import nf4


def quantise(value, blocksize=64, double=True):
    """bitsandbytes' packed codes and state of one tensor, by the names of the file."""
    packed, s = bf.quantize_4bit(value, blocksize=blocksize, compress_statistics=double, quant_type="nf4")
    out = {"packed": packed, "absmax": s.absmax, "quant_map": s.code, "dequantised": bf.dequantize_4bit(packed, s)}
    if double:
        out["nested_absmax"], out["nested_quant_map"] = s.state2.absmax, s.state2.code
        out["nested_offset"] = s.offset.reshape(1)
        out["absmax_restored"] = (bf.dequantize_blockwise(s.absmax, s.state2) + s.offset).float()
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--input")
    ap.add_argument("--random", nargs="*", default=["64x64", "192x320", "1024x1024"])
    ap.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    ap.add_argument("--blocksize", type=int, default=64)
    ap.add_argument("--single", action="store_true", help="no double quantisation")
    ap.add_argument("--seed", type=int, default=3)
    args = ap.parse_args()
    dtype = getattr(torch, args.dtype)
    if args.input:
        tensors = {k: v for k, v in load_file(args.input).items() if v.dim() == 2 and v.is_floating_point()}
    else:
        generator = torch.Generator().manual_seed(args.seed)
        tensors = {s: 0.02 * torch.randn(*map(int, s.split("x")), generator=generator) for s in args.random}
        zero = 0.02 * torch.randn(8, 64, generator=generator)
        zero[3] = 0
        tensors["zero_block"] = zero
    out = {}
    for name, value in tensors.items():
        value = value.to(dtype).contiguous()
        theirs = quantise(value, args.blocksize, not args.single)
        out[name] = value
        out.update({f"{name}.{k}": v for k, v in theirs.items()})
        report = {"name": name, "packed": list(theirs["packed"].shape), "absmax": [str(theirs["absmax"].dtype), *theirs["absmax"].shape],
                  "max_error": (theirs["dequantised"].float() - value.float()).abs().max().item()}
        if not args.single and args.blocksize == nf4.BLOCK:
            for rule in ("lookup", "search"):
                ours = nf4.quantise(value.float().numpy(), rule, theirs["nested_offset"].item())
                report[rule] = {k: int((theirs[k].numpy() != ours[k]).sum()) for k in ("packed", "absmax", "nested_absmax")}
        print(json.dumps(report))
    save_file({k: v.contiguous().cpu() for k, v in out.items()}, args.out)


if __name__ == "__main__":
    main()
