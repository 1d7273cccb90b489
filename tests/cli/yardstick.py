"""How fast this machine is at the moment: prints the seconds of a fixed piece of work, products in bfloat16 and a stream of
reads, on all cores. Run by scripts/parity_python. A test that holds a time holds it in this unit: machines differ, and one
that is shared is slower at some hours."""
import time

import torch


def seconds(work, rounds):
    work()
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    return time.perf_counter() - started


left, right = torch.ones(1024, 1536, dtype=torch.bfloat16), torch.ones(1536, 1536, dtype=torch.bfloat16)
stream = torch.ones(64 << 20)
print(f"{seconds(lambda: left @ right, 500):.3f} {seconds(lambda: stream.sum(), 100):.3f}")
