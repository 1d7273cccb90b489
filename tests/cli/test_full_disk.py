"""merge and export where the disk is full: one error, exit 4, and nothing of the result is left.

The library of tests/reliability/faults counts what the folder of results takes, and lets calls on it fail.
"""
import concurrent.futures
import os
import pathlib
import sys
import unittest

import adapted
import front

sys.path.insert(0, str(front.SOURCE / "tests/reliability"))
os.environ.setdefault("PHI3TUNE_FAULTS", str(pathlib.Path(front.PROGRAM).parent / "libfaults_for_tests.so"))
import faults  # noqa: E402  (after its place is known)

RESOURCE = 4
PAGE = 4096


class FullDisk(adapted.AdaptedTest):
    def setUp(self):
        super().setUp()
        (self.adapter / "README.md").write_text("what it is\n")
        self.words = {"merge": ("merge", "--model", self.model, "--adapter", self.adapter, "--shard-size", "200KB"),
                      **{form: ("export", "--adapter", self.adapter, "--format", form)
                         for form in ("peft-fused", "peft-split", "gguf", "merged")}}

    def disk(self, name):
        disk = self.folder / "disks" / name
        disk.mkdir(parents=True)
        return disk

    def write_on(self, disk, command, unsaid=False, **fault):
        """Runs the command with its result on that disk, in folders to be made. unsaid: how much room there is."""
        env = {**faults.armed(disk, **fault), **({"PHI3TUNE_FAULTS_ROOM_UNSAID": "1"} if unsaid else {})}
        return front.run(*self.words[command], "--out", disk / "new/folders/out", env=env)

    def contents(self, disk):
        return {str(path.relative_to(disk)): path.read_bytes() for path in sorted(disk.rglob("*")) if path.is_file()}

    def pages(self, contents):
        return sum(-(-len(data) // PAGE) for data in contents.values())

    def undisturbed(self, command):
        disk = self.disk(f"{command}-whole")
        trace = self.folder / f"{command}.trace"
        done = self.write_on(disk, command, trace=trace)
        self.assertEqual(done.returncode, front.GOOD, done.stderr)
        return self.contents(disk), faults.read_trace(trace)

    def ends_well_or_leaves_nothing(self, done, disk, whole, what):
        """True where it ended well."""
        if done.returncode == front.GOOD:
            self.assertEqual(self.contents(disk), whole, what)
            return True
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual((done.returncode, len(errors), done.stdout), (RESOURCE, 1, ""), f"{what}: {done.stdout}{done.stderr}")
        self.assertEqual(list(disk.iterdir()), [], what)
        return False

    def test_too_little_room_is_said_before_a_file_is_made(self):
        for command in self.words:
            whole, _ = self.undisturbed(command)
            disk = self.disk(f"{command}-small")
            trace = self.folder / f"{command}-small.trace"
            done = self.write_on(disk, command, trace=trace, room=self.pages(whole) // 2 * PAGE)
            self.assertFalse(self.ends_well_or_leaves_nothing(done, disk, whole, command))
            self.assertRegex(done.stderr, r"error: .*/out: [\d.]+ KiB are free there, and [\d.]+ .iB will be written; make room")
            self.assertEqual(faults.read_trace(trace), [], command)

    def test_a_disk_that_fills_up_while_it_is_written(self):
        for command in ("merge", "peft-split", "gguf"):
            whole, _ = self.undisturbed(command)
            most = self.pages(whole)
            # From a page to twice of what is wanted.
            sizes = sorted({max(1, most * i // 6) for i in range(1, 6)} | {most - 1, 2 * most})

            def case(size):
                disk = self.disk(f"{command}-{size}")
                done = self.write_on(disk, command, unsaid=True, room=size * PAGE)
                return self.ends_well_or_leaves_nothing(done, disk, whole, f"{command}, {size} of {most} pages")

            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                ended = dict(zip(sizes, pool.map(case, sizes)))
            self.assertTrue(ended[sizes[-1]], command)
            self.assertFalse(any(well for size, well in ended.items() if size < most), ended)

    def test_a_model_that_does_not_fit_leaves_no_folder(self):
        disk = self.disk("init-model")
        env = {**faults.armed(disk, room=PAGE), "PHI3TUNE_FAULTS_ROOM_UNSAID": "1"}
        done = front.run("init-model", disk / "new/folders/model", "--shape", "tiny", env=env)
        self.assertFalse(self.ends_well_or_leaves_nothing(done, disk, {}, "init-model"))

    def test_a_call_on_the_disk_that_fails(self):
        for command in ("merge", "peft-split", "gguf"):
            whole, calls = self.undisturbed(command)
            self.assertGreater(len(calls), 5)

            def case(hit):
                call, what = hit
                disk = self.disk(f"{command}-{call.n}-{what}")
                done = self.write_on(disk, command, at=call.n, do=what, persist=what == "ENOSPC")
                return self.ends_well_or_leaves_nothing(done, disk, whole, f"{command}, {what} at {call}")

            # A full disk stays full; a fault of the device is met once. All calls of a short command; of a merge some of
            # those that write and all that put its folder in place.
            chosen = calls if len(calls) < 30 else calls[:-6:3] + calls[-6:]
            hits = [(call, "ENOSPC" if i % 2 else "EIO") for i, call in enumerate(chosen)]
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                ended = list(pool.map(case, hits))
            self.assertLess(sum(ended), len(hits) // 3, [hit for hit, well in zip(hits, ended) if well])


if __name__ == "__main__":
    unittest.main()
