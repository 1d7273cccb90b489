"""Starts programs and measures them, one JSON line in and one out; a process of its own.

What the kernel gives as a process's most memory includes that of the process it was forked from, and the one that makes the
hostile inputs holds hundreds of megabytes at times; this one stays small.
"""
import json
import os
import subprocess
import sys
import tempfile
import time


def run(command, cwd, environment, limit):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        # pylint: disable-next=consider-using-with
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, env=environment)
        while time.monotonic() < started + limit:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                break
            time.sleep(0.002)
        else:
            process.kill()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - started
        for stream in (out, err):
            stream.seek(0)
        most = 1 << 20  # of what it said: a report is shorter
        return {"code": process.returncode, "out": out.read(most).decode(errors="replace"), "err": err.read(most).decode(errors="replace"),
                "seconds": usage.ru_utime + usage.ru_stime, "wall": wall, "peak": usage.ru_maxrss << 10}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
