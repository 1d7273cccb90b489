"""Tiny disks: the run ends with exit 4 where it does not fit, and when there is room again goes on to the same adapter.

A tmpfs of that size where this process may mount one in a name space of its own; else the fault library counts the bytes.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

import faults
import rows
import runs

TITLE = "tiny disks"
HERE = pathlib.Path(__file__).resolve().parent


def may_mount():
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


def run(context):
    """Half of the disks are small from the start, half fill up while the run is on."""
    started = time.monotonic()
    disks = context.count(40, 200, 10)
    mounted = "tmpfs" if not context.reduced and may_mount() else "the fault library"
    if mounted == "tmpfs":
        # In a name space of its own: nothing stays mounted, however this ends.
        done = subprocess.run(["unshare", "--map-root-user", "--mount", sys.executable, str(HERE / "row_04.py"), str(disks), str(context.workers),
                               str(context.seed), context.program or runs.PROGRAM],
                              capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(HERE)})
        if done.returncode != 0:
            raise RuntimeError(f"row 4 inside its name space: {done.stderr[-2000:]}")
        failed, broken = json.loads(done.stdout)
    else:
        failed, broken = on_disks(context, disks, counted=True)
    return rows.figures(started, broken, f"{disks} disks by {mounted}, {failed} too small at first")


def most_bytes(bench):
    """What the undisturbed run takes at its end, in pages."""
    out = bench.undisturbed().out
    return sum((path.stat().st_size + 4095) // 4096 * 4096 for path in out.rglob("*") if path.is_file())


def on_disks(context, disks, counted):
    with context.bench() as bench:
        expected = bench.undisturbed()
        most = most_bytes(bench) * 1.6
        cases = [(max(4096, int(most * (i + 1) / disks) // 4096 * 4096), i % 2 == 0) for i in range(disks)]

        def case(disk):
            size, hidden = disk
            out = bench.place("disk")
            first = counted_disk(bench, out, size, hidden) if counted else mounted_disk(bench, out, size, hidden)
            runs.check_end(first)
            if first.code not in (runs.DONE, runs.RESOURCE) or (first.code == runs.RESOURCE and len(first.errors()) != 1):
                raise runs.Broken(first.said())
            if not counted:
                subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
            bench.finish(out, expected)
            if not counted:
                subprocess.run(["umount", "--lazy", str(out)], check=True)
            bench.done_with(out)
            return first.code == runs.RESOURCE
        found, broken = context.each(cases, case)
        failed = sum(bool(one) for one in found)
        if failed < disks // 4 and not broken:
            broken.append(f"only {failed} disks were too small")
        return failed, broken


def counted_disk(bench, out, size, hidden):
    env = faults.armed(out, room=size)
    if hidden:
        env["PHI3TUNE_FAULTS_ROOM_UNSAID"] = "1"
    return bench.train(out, env=env)


def mounted_disk(bench, out, size, hidden):
    """`hidden`: large until the run has begun, so that it is not refused before its first step."""
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={64 << 20 if hidden else size}", "none", str(out)], check=True)
    running = bench.start("--config", bench.config, "--output_dir", out)
    if hidden:
        metrics = out / "metrics.jsonl"
        while running.process.poll() is None and not (metrics.exists() and metrics.stat().st_size > 0):
            time.sleep(0.002)
        # Not smaller than what lies there by then: the kernel refuses that.
        while subprocess.run(["mount", "-o", f"remount,size={size}", str(out)], capture_output=True, check=False).returncode != 0:
            size += 4096
    return running.wait()


if __name__ == "__main__":
    count, workers, seed, program = sys.argv[1:]
    json.dump(on_disks(rows.Context("gate", seed, int(workers), program), int(count), counted=False), sys.stdout)
