"""Power loss: every disk that the file system's promises allow after a cut, rebuilt from the trace of a run, and resumed from.

No wrong checkpoint is accepted (the adapter would differ), and none is lost that the run had gone on from.
"""
import collections
import time

import power_loss
import rows
import row_02
import runs
import traces

TITLE = "power loss"
LAYOUTS = {"each step, all kept": {"save_steps": 1, "save_total_limit": 0, "max_steps": 3},
           "two kept": {}, "one kept": {"save_total_limit": 1, "save_steps": 3}}


def run(context):
    started = time.monotonic()
    layouts = LAYOUTS if context.size == "release" else {"two kept": {}}
    total, accepted, broken = 0, 0, []
    with context.bench() as bench:
        for name, settings in layouts.items():
            config = bench.configured("layout", **settings)
            expected = bench.undisturbed(config)
            traced = traces.Traced(bench, config)
            states = states_of(traced)
            total += len(states)
            if context.size != "release":
                states = chosen(states, context.count(240, 0, 60), context.generator("row 5"))
            accepted += len(states)

            def case(state):
                _, announced, number, tree = state
                out = bench.place("disk")
                power_loss.write_tree(tree, out)
                ended = bench.finish(out, expected, config=config)
                row_02.check_start(ended, announced)
                bench.done_with(out)
            broken += [f"{name}, {fault}" for fault in context.each([State(state) for state in states], case)[1]]
    return rows.figures(started, broken, f"{accepted} of {total} states of {len(layouts)} layout{'s' * (len(layouts) > 1)} resumed")


class State(tuple):
    """(key, step that must survive, call, tree)"""

    def __repr__(self):
        return f"before call {self[2] + 1}, {sorted(name for name, content in self[3].items() if content is not None)}"


def states_of(traced):
    """The distinct ones, each with the newest step that must survive it."""
    disk = power_loss.Disk(traced.out)
    found = {}
    for call, announced in zip(traced.calls, traced.announced):
        if call.n > 1:
            for key, tree in disk.states():
                if key not in found or found[key][1] < announced:
                    found[key] = (key, announced, call.n - 1, tree)
        disk.take(call)
    for key, tree in disk.states():
        found[key] = (key, max(traced.announced), len(traced), tree)
    now = disk.tree(disk.changes, lambda number: disk.inodes[number].now())
    if now != power_loss.read_tree(traced.out):
        raise runs.Broken("the disk rebuilt from the trace is not the one that the run left")
    return list(found.values())


def chosen(states, count, draw):
    """As many, evenly over the calls."""
    if len(states) <= count:
        return states
    by_call = collections.defaultdict(list)
    for state in states:
        by_call[state[2]].append(state)
    for of_call in by_call.values():
        draw.shuffle(of_call)
    picked = []
    while len(picked) < count:
        for of_call in by_call.values():
            if of_call and len(picked) < count:
                picked.append(of_call.pop())
    return picked
