#!/usr/bin/env python3
"""Holds the layer rules: who may include whom, which files may see a Torch header, and what a .cu may include.

The table below is the rule. Exits 1 and names file:line for every include that breaks it.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# layer -> layers whose headers it may include (its own always). A header of commands/ is named by its folder.
BASE = {
    "core": set(),
    "io": {"core"},
    "config": {"core", "io"},
    "phi3": {"core", "io", "config"},
    "data": {"core", "io", "config", "phi3"},
    "quant": {"core", "io"},
    "plan": {"core", "io", "config", "phi3", "quant"},
}
ENGINE = {
    "ops": {"core", "quant"},
    "cuda": {"core", "quant", "ops", "kernels"},
    "model": {"core", "io", "config", "phi3", "plan", "quant", "ops"},
    "train": {"core", "config", "data", "plan", "model", "ops"},
    "generate": {"core", "config", "data", "model", "ops"},
    "checkpoint": {"core", "io", "config", "phi3", "data", "quant", "model", "train"},
}
ALLOWED = {
    **BASE,
    **ENGINE,
    "kernels": set(),
    "commands": {"core", "config"},  # include/phi3tune/commands: the seam between front and engine
    "commands/front": set(BASE) | {"commands"},
    "commands/engine": set(BASE) | set(ENGINE) | {"commands"},
    "cli": {"core", "config", "commands", "commands/front"},
}
MAY_USE_TORCH = set(ENGINE) | {"commands/engine"}
TORCH = re.compile(r"^(ATen|c10|torch|caffe2)/")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def layer_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).parts
    if parts[0] == "kernels":
        return "kernels"
    if parts[0] == "include":
        return parts[2]
    if parts[1] == "commands":
        return "/".join(parts[1:3])
    return parts[1]


def target_layer(include: str, path: pathlib.Path):
    """The layer an include belongs to, or None for a header that is not ours."""
    match = re.match(r"phi3tune/([^/]+)/", include)
    if match:
        return match.group(1)
    for base in (path.parent, ROOT / "src", ROOT / "kernels"):
        candidate = (base / include).resolve()
        if candidate.is_file() and candidate.is_relative_to(ROOT):
            return layer_of(candidate)
    return None


def faults_of(path: pathlib.Path):
    layer = layer_of(path)
    if layer not in ALLOWED:
        yield f"{path.relative_to(ROOT)}:1: no layer \"{layer}\" in the table of scripts/check_layers.py"
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        include = match.group(1)
        place = f"{path.relative_to(ROOT)}:{number}"
        if TORCH.match(include) and layer not in MAY_USE_TORCH:
            yield f"{place}: {layer} includes the Torch header {include}"
        target = target_layer(include, path)
        if target and target != layer and target not in ALLOWED[layer]:
            allowed = ", ".join(sorted(ALLOWED[layer])) or "nothing"
            yield f"{place}: {layer} includes {include} of {target}; it may include {allowed}"


def main() -> int:
    files = [p for top in ("include", "src", "kernels") for p in sorted((ROOT / top).rglob("*")) if p.suffix in SUFFIXES]
    faults = [fault for path in files for fault in faults_of(path)]
    print("\n".join(faults) if faults else f"layers hold in {len(files)} files")
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
