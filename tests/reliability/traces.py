"""The calls of an undisturbed run, in their order: which are worth a fault, and what was durable before each."""
import faults
import runs


# A run of few calls that has one of each kind: saves that are due, best and the last, rotation, the result.
SWEPT = {"max_steps": 3, "save_steps": 1, "save_total_limit": 1, "eval_steps": 2}


class Traced:
    """Calls from 1 on: `calls[n - 1]` is number n."""

    def __init__(self, bench, config=None, under=None):
        self.out = bench.place("traced")
        self.trace = bench.base / f"{self.out.name}.trace"
        ended = bench.train(self.out, config=config, env=faults.armed(under or self.out, trace=self.trace))
        if ended.code != runs.DONE:
            raise runs.Broken(f"the traced run: {ended.said()}")
        self.ended = ended
        self.calls = faults.read_trace(self.trace)
        if not self.calls:
            raise runs.Broken("the traced run made no call that was seen: is the fault library loaded?")
        self.announced = list(announced_steps(self.calls))

    def __len__(self):
        return len(self.calls)

    def numbers(self, wanted):
        return [call.n for call in self.calls if wanted(call)]


def step_of(path):
    """The step of a checkpoint's final name."""
    name = path.rsplit("/", 1)[-1]
    return int(name[5:]) if name.startswith("step-") and name[5:].isdigit() else 0


def announced_steps(calls):
    """For each call the newest step that must survive if that call is the first not to happen: a rename counts as soon as
    the run does anything but sync a folder after it."""
    renamed = announced = 0
    for call in calls:
        if call.call != "fsync":
            announced = max(announced, renamed)
        yield announced
        if call.call == "rename":
            renamed = max(renamed, step_of(call.to))
