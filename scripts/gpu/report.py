"""Checks as they are made, one file a stage; the summary of all stages; the difference to the run that was recorded last.

verdicts: pass and fail (is it right?), reached and missed (a goal of speed or memory), shown (a figure without a bound),
refused (a tool does not serve this device), skipped (no time, or something is missing). In a rehearsal goals have none.
"""
import json
import os
import re

from .box import REHEARSED, SOURCE

RECORD = SOURCE / "kernels/README.md"
BLOCK = re.compile(r"^```json gpu-check\n(.*?)^```", re.S | re.M)
MOVED = 0.03  # a change that is told


def write_json(path, what):
    work = path.with_name(path.name + ".partial")
    work.write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
    os.replace(work, path)


class Checks:
    """The lines of one stage; every line is on disk before the next is made."""

    def __init__(self, box, stage):
        self.box, self.stage = box, stage
        self.previous = self.read_previous()
        self.record = {"stage": stage, "status": "running", "rehearsed": box.rehearse, "seconds": 0.0, "checks": [], "values": {}, "data": {}}
        self.save()

    def read_previous(self):
        """What this stage left in the folder in an earlier call of the same kind; {} if nothing, or nothing sound."""
        try:
            record = json.loads((self.box.folder / f"{self.stage}.json").read_text(encoding="utf-8"))
            whole = record["rehearsed"] == self.box.rehearse and all(isinstance(record[key], dict) for key in ("values", "data"))
            return record if whole and all(isinstance(line["verdict"], str) for line in record["checks"]) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def save(self):
        write_json(self.box.folder / f"{self.stage}.json", self.record)

    def add(self, name, expected, found, verdict, goal=False):
        line = {"stage": self.stage, "name": name, "expected": expected, "found": str(found), "verdict": verdict, "goal": goal}
        if self.box.rehearse:
            line["note"] = REHEARSED
        self.record["checks"].append(line)
        self.save()
        mark = f" ({REHEARSED})" if self.box.rehearse else ""
        print(f"{self.stage:<9}{verdict:<9}{name}: {found}" + (f" (expected: {expected})" if expected else "") + mark, flush=True)

    def require(self, name, good, expected, found):
        self.add(name, expected, found, "pass" if good else "fail")

    def goal(self, name, good, expected, found):
        """`good` None: the goal is another GPU's."""
        verdict = "shown" if good is None or self.box.rehearse else "reached" if good else "missed"
        self.add(name, expected, found, verdict, goal=True)

    def shown(self, name, found, expected=""):
        self.add(name, expected, found, "shown")

    def refused(self, name, reason):
        self.add(name, "", reason, "refused")

    def skipped(self, name, reason):
        self.add(name, "", reason, "skipped")

    def value(self, key, number):
        """A figure that the next run is compared with."""
        self.record["values"][key] = number
        self.save()

    def data(self, key, what):
        self.record["data"][key] = what
        self.save()

    def end(self, status, seconds):
        self.record.update(status=status, seconds=round(seconds, 1))
        self.save()


# ---- the summary ----

def read_stages(folder, names, rehearsed):
    """Records of the stages that have one of this kind of run, and what is wrong with the others' files."""
    records, faults = {}, []
    for name in names:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["rehearsed"] != rehearsed:
                faults.append(f"{path.name} is of a {'run on a GPU' if rehearsed else 'rehearsal'} and left out")
                continue
            records[name] = {"status": record["status"], "seconds": record["seconds"], "values": dict(record["values"]),
                             "checks": [{key: line[key] for key in ("stage", "name", "expected", "found", "verdict", "goal")} for line in record["checks"]]}
        except (OSError, ValueError, KeyError, TypeError) as fault:
            faults.append(f"{path.name} is damaged and left out ({type(fault).__name__}: {fault}); run `scripts/gpu_check {name}` again")
    return records, faults


def last_recorded(path, gpu):
    """(values, label) of the last block of this GPU in kernels/README.md, or of any; (None, why there is none)."""
    try:
        blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
    except OSError as fault:
        return None, f"{path.name} cannot be read ({fault.strerror})"
    if not blocks:
        return None, "no earlier run is recorded in kernels/README.md"
    runs, damage = [], ""
    for text in blocks:
        try:
            run = json.loads(text)
            runs.append((str(run["gpu"]), str(run["date"]), {str(key): float(value) for key, value in run["values"].items()}))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            damage = f"a recorded run in kernels/README.md is damaged ({type(fault).__name__}: {fault})"
    if not runs:
        return None, damage
    name, date, values = next((run for run in reversed(runs) if run[0] == gpu), runs[-1])
    return values, f"{name}, {date}" + (f"; {damage}" if damage else "")


def differences(now, before):
    """Lines for what moved, appeared or is gone."""
    lines = []
    for key in sorted(set(now) & set(before)):
        if before[key] and abs(now[key] / before[key] - 1) > MOVED:
            lines.append(f"{key}: {before[key]:.6g} -> {now[key]:.6g} ({now[key] / before[key] - 1:+.1%})")
        elif not before[key] and now[key]:
            lines.append(f"{key}: {before[key]:.6g} -> {now[key]:.6g}")
    same = len(set(now) & set(before)) - len(lines)
    gone = sorted(set(before) - set(now))
    return [*lines, f"{same} figures within {MOVED:.0%}, {len(set(now) - set(before))} new, {len(gone)} not measured this time"]


def write_summary(folder, names, head, recorded=None):
    """summary.json and summary.md of what the folder holds. Returns the number of checks that failed."""
    records, faults = read_stages(folder, names, head["rehearsed"])
    checks = [line for name in names if name in records for line in records[name]["checks"]]
    values = {key: value for record in records.values() for key, value in record["values"].items()}
    counts = {}
    for line in checks:
        counts[line["verdict"]] = counts.get(line["verdict"], 0) + 1
    before, label = last_recorded(recorded or RECORD, head["gpu"])
    if head["rehearsed"]:
        moved = [REHEARSED]
    else:
        moved = differences(values, before) if before is not None else []
    goals = [line for line in checks if line["goal"]]
    write_json(folder / "summary.json", {
        "schema_version": 1, **head, "stages": {name: {key: records[name][key] for key in ("status", "seconds")} for name in records},
        "counts": counts, "goals": goals, "checks": checks, "values": values, "faults": faults, "last_run": label, "differences": moved})
    note = f" **{REHEARSED}.**" if head["rehearsed"] else ""
    text = [f"# gpu_check: {head['gpu']}, {head['date']}", "", f"Commit {head['commit']}.{note}", ""]
    text += [f"- {fault}" for fault in faults]
    text += ["| stage | status | seconds | " + " | ".join(VERDICTS) + " |", "|---" * (3 + len(VERDICTS)) + "|"]
    for name in names:
        mine = [line["verdict"] for line in checks if line["stage"] == name]
        state = records.get(name, {"status": "not run", "seconds": 0.0})
        text.append(f"| {name} | {state['status']} | {state['seconds']:.0f} | " + " | ".join(str(mine.count(verdict) or "") for verdict in VERDICTS) + " |")
    text += ["", "## Goals", ""]
    text += [f"- {line['name']}: {line['found']} (goal: {line['expected']}): **{line['verdict'] if not head['rehearsed'] else REHEARSED}**"
             for line in goals] or ["No goal was looked at."]
    text += ["", "## Checks", "", "| stage | check | expected | found | verdict |", "|---|---|---|---|---|"]
    cell = lambda value: str(value).replace("|", "/").replace("\n", " ")
    for line in checks:
        verdict = f"{line['verdict']} ({REHEARSED})" if head["rehearsed"] else line["verdict"]
        text.append(f"| {line['stage']} | {cell(line['name'])} | {cell(line['expected'])} | {cell(line['found'])} | {verdict} |")
    text += ["", f"## Beside the last recorded run ({label})", ""] + [f"- {line}" for line in moved]
    if not head["rehearsed"] and values:
        block = {"gpu": head["gpu"], "date": head["date"], "commit": head["commit"], "values": {key: float(f"{value:.6g}") for key, value in values.items()}}
        text += ["", "## To record", "", "For kernels/README.md, which the next run is compared with:", "", "```json gpu-check", json.dumps(block), "```"]
    (folder / "summary.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    return counts.get("fail", 0)


VERDICTS = ("pass", "fail", "reached", "missed", "shown", "refused", "skipped")
