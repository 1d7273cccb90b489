"""GPU, driver, toolkit, libraries, clocks, commit: what a figure means nothing without."""
import json
import re

from .box import last_line, toolkit_program

OLDEST_DRIVER = 580  # the first that serves CUDA 13
COMPILED_FOR = (8.0, 8.6, 8.9, 9.0, 10.0, 12.0)  # cmake/CudaToolkit.cmake; 12.0 also as PTX, for what comes after
QUERY = ("name,driver_version,compute_cap,memory.total,memory.used,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,"
         "temperature.gpu,persistence_mode,mig.mode.current")


def gpu(box, checks):
    rows = box.smi(QUERY)
    if not rows:
        checks.refused("nvidia-smi", "is not there or does not answer: name, driver and clocks are not known")
        return
    facts = dict(zip(QUERY.split(","), rows[0]))
    checks.data("gpu", facts)
    checks.shown("GPU", f"{facts['name']}, {facts['memory.total']} MiB")
    driver = re.match(r"\d+", facts["driver_version"])
    checks.require("driver", bool(driver) and int(driver[0]) >= OLDEST_DRIVER, f"{OLDEST_DRIVER} or newer", facts["driver_version"])
    capability = re.match(r"\d+\.\d+$", facts["compute_cap"])
    checks.require("compute capability", bool(capability) and float(facts["compute_cap"]) >= COMPILED_FOR[0],
                   "one of " + ", ".join(map(str, COMPILED_FOR)) + " or newer", facts["compute_cap"])
    checks.shown("clocks, SM and memory", f"{facts['clocks.sm']} of {facts['clocks.max.sm']} MHz, {facts['clocks.mem']} of {facts['clocks.max.mem']} MHz, "
                 f"limit {facts['power.limit']} W, {facts['temperature.gpu']} C", "never set by us")
    others = box.smi("pid,used_memory", "compute-apps")
    used = float(facts["memory.used"]) if facts["memory.used"].replace(".", "").isdigit() else 0.0
    checks.goal("nobody else computes", not others and used < 1024, "no process, less than 1 GiB in use", f"{len(others)} processes, {used:.0f} MiB in use")


def toolkit(box, checks):
    nvcc = toolkit_program("nvcc")
    if nvcc:
        done = box.call("nvcc", [nvcc, "--version"], 20)
        release = re.search(r"release ([\d.]+)", done.out)
        checks.shown("toolkit", f"{nvcc}, {release[1] if release else last_line(done.out)}")
    else:
        checks.skipped("toolkit", "no nvcc on the PATH, in CUDA_HOME or /usr/local/cuda; the build takes the one in the cache")
    checks.shown("compute-sanitizer", toolkit_program("compute-sanitizer") or "not in the toolkit")


def program(box, checks):
    path = box.program("phi3-tune")
    if not path.exists():
        checks.skipped("phi3-tune env", f"{path} is not built yet; the stage kernels builds it")
        return
    done = box.call("env", [path, "env", "--json"], 60)
    if done.status:
        checks.require("phi3-tune env", False, "exit 0", f"exit {done.status}: {last_line(done.err)}")
        return
    facts = json.loads(done.out)
    checks.data("env", facts)
    for name in ("phi3-tune", "system", "cpu", "cores", "libtorch", "CUDA runtime", "cuBLASLt", "cuDNN"):
        if name in facts:
            checks.shown(name, facts[name])
    ready = facts.get("CUDA") == "ready"
    if box.rehearse:
        checks.shown("CUDA", facts.get("CUDA", "not told"))
    else:
        checks.require("CUDA", ready, "ready", facts.get("CUDA", "not told"))


def run(box, checks):
    if not box.rehearse:
        gpu(box, checks)
        toolkit(box, checks)
    program(box, checks)
