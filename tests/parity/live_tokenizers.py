"""Holds our tokenizer to the tokenizers library on every tokenizer there is: 100 % of the ids, or it fails.

    scripts/parity_python tests/parity/live_tokenizers.py --program build/bin/tokenize_dump

100,000 lines for Phi-3's own tokenizer (PHI3TUNE_PHI3_TOKENIZER, else ../shared/phi3-mini-4k-instruct beside the tree; skipped
where neither is there) and for the demo base's (--demo, default: what scripts/fetch_demo_model prints); 20,000 for each small one of
tests/references/tokenizers. Phi-3's is also read from tokenizer.json alone and from tokenizer.model alone.
"""
import argparse, os, shutil, subprocess, sys, tempfile

SOURCE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir))
SMALL = os.path.join(SOURCE, "tests", "references", "tokenizers")


def compare(program, folder, lines, reference=None):
    command = [sys.executable, os.path.join(SOURCE, "tests", "parity", "compare_tokenizer.py"), "--program", program, folder, "--lines", str(lines)]
    if reference:
        command += ["--reference", reference]
    print(f"{folder}, {lines} lines", flush=True)
    return subprocess.run(command).returncode == 0


def part_of(folder, work, left_out):
    """A copy of a tokenizer folder without one of its two vocabularies."""
    out = os.path.join(work, "without-" + left_out)
    shutil.copytree(folder, out, ignore=lambda _, names: [n for n in names if n == left_out or n.endswith(".safetensors")])
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True, help="the program tokenize_dump")
    ap.add_argument("--demo", help="folder of the demo base")
    ap.add_argument("--lines", type=int, default=100_000)
    args = ap.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as work:
        phi3 = os.environ.get("PHI3TUNE_PHI3_TOKENIZER") or os.path.join(SOURCE, os.pardir, "shared", "phi3-mini-4k-instruct")
        if os.path.exists(os.path.join(phi3, "tokenizer.json")):
            results["phi-3"] = compare(args.program, phi3, args.lines)
            results["phi-3 json"] = compare(args.program, part_of(phi3, work, "tokenizer.model"), args.lines // 5)
            results["phi-3 model"] = compare(args.program, part_of(phi3, work, "tokenizer.json"), args.lines // 5, phi3)
        else:
            print(f"skipped: Phi-3's own tokenizer is not in {phi3}")
        demo = args.demo or subprocess.run([os.path.join(SOURCE, "scripts", "fetch_demo_model")], stdout=subprocess.PIPE, text=True,
                                           check=True).stdout.strip().splitlines()[-1]
        results["demo"] = compare(args.program, demo, args.lines)
        for name in sorted(os.listdir(SMALL)):
            if os.path.isdir(os.path.join(SMALL, name)):
                results[name] = compare(args.program, os.path.join(SMALL, name), args.lines // 5)
    failed = [name for name, good in results.items() if not good]
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed" + (": " + ", ".join(failed) if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
