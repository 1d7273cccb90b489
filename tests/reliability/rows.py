"""What the rows of the table share: how many cases, two at a time, and the line that says how it went."""
import concurrent.futures
import threading
import time

import runs


class Context:
    """How a row is run. `size`: gate | release | reduced (a planted bug is looked for: the first failure ends the row)."""

    def __init__(self, size="gate", seed="1", workers=2, program=None, keep=False):
        self.size, self.seed, self.workers, self.program, self.keep = size, seed, workers, program, keep

    def count(self, gate, release, reduced=None):
        return {"gate": gate, "release": release, "reduced": reduced if reduced is not None else max(1, gate // 5)}[self.size]

    @property
    def reduced(self):
        return self.size == "reduced"

    def bench(self, **settings):
        return runs.Bench(keep=self.keep, program=self.program, **settings)

    def generator(self, *parts):
        return runs.generator(self.seed, *parts)

    def each(self, cases, function):
        """function(case) for every case, `workers` at a time; what it returned, in order, and what was broken."""
        broken, stop, lock = [], threading.Event(), threading.Lock()

        def one(case):
            if stop.is_set():
                return None
            try:
                return function(case)
            except Exception as fault:  # what a test did not expect is a finding too
                with lock:
                    broken.append(f"{case}: {'' if isinstance(fault, runs.Broken) else type(fault).__name__ + ' '}{fault}")
                    if self.reduced or len(broken) > 20:
                        stop.set()
                return None
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            found = list(pool.map(one, cases))
        return found, broken


class Once:
    """Runs that begin from equal folders end equally: each distinct state is tried once."""

    def __init__(self):
        self.lock, self.seen = threading.Lock(), set()

    def first(self, key):
        with self.lock:
            new = key not in self.seen
            self.seen.add(key)
            return new


def figures(started, broken, text):
    """(whether all is well, the row's line, what was broken)"""
    return not broken, f"{text}; {len(broken)} broken; {time.monotonic() - started:.0f} s", broken
