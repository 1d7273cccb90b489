"""The rebuilding of disks after a power cut, on a toy that saves as a checkpoint should be saved, and on its broken sisters."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import faults
import power_loss

WRITER = """
import hashlib, json, os, shutil, sys
folder, without = sys.argv[1], set(sys.argv[2:])
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
def put(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for part in (data[:len(data) // 2], data[len(data) // 2:]):
        os.write(fd, part)
    if "file" not in without:
        os.fsync(fd)
    os.close(fd)
for step in (1, 2, 3):
    data = os.urandom(100)
    stage, final = f"{folder}/.step-{step}.partial", f"{folder}/step-{step}"
    os.mkdir(stage)
    put(stage + "/data", data)
    put(stage + "/manifest", json.dumps({"step": step, "sha": hashlib.sha256(data).hexdigest()}).encode())
    if "folder" not in without:
        sync(stage)
    os.rename(stage, final)
    if "parent" not in without:
        sync(folder)
    old = f"{folder}/step-{step - 1}"
    if os.path.exists(old):
        os.rename(old, old + ".trash")
        sync(folder)
        for name in ("manifest", "data"):
            os.unlink(old + ".trash/" + name)
        os.rmdir(old + ".trash")
"""


def sound_steps(tree):
    """Steps of the checkpoints that are whole."""
    found = []
    for step in (1, 2, 3):
        try:
            manifest = json.loads(tree[f"step-{step}/manifest"])
            if manifest["sha"] == hashlib.sha256(tree[f"step-{step}/data"]).hexdigest():
                found.append(manifest["step"])
        except (KeyError, ValueError):
            pass
    return found


def torn_steps(tree):
    """Checkpoints that are not whole under a final name: what a reader that does not verify would take."""
    named = [step for step in (1, 2, 3) if f"step-{step}" in tree]
    return [step for step in named if step not in sound_steps(tree)]


class PowerLoss(unittest.TestCase):
    def judge(self, *without):
        """(states, states that lost an announced checkpoint, states with a torn one under its final name)"""
        with tempfile.TemporaryDirectory(prefix="phi3-tune-power-") as base:
            folder, trace = pathlib.Path(base).resolve() / "run", pathlib.Path(base) / "trace"
            folder.mkdir()
            subprocess.run([sys.executable, "-c", WRITER, str(folder), *without], check=True, timeout=60,
                           env={**os.environ, **faults.armed(folder, trace=trace)})
            calls = faults.read_trace(trace)
            disk, announced, renamed = power_loss.Disk(folder), 0, 0
            states, lost, torn = set(), set(), set()
            for call in calls:
                disk.take(call)
                if call.call != "fsync":
                    announced = max(announced, renamed)  # whoever does something else takes the last save for durable
                if call.call == "rename" and call.to.endswith(("1", "2", "3")):
                    renamed = int(call.to[-1])
                for key, tree in disk.states():
                    states.add((key, announced))
                    if max(sound_steps(tree), default=0) < announced:
                        lost.add(key)
                    if torn_steps(tree):
                        torn.add(key)
            self.assertEqual(disk.tree(disk.changes, lambda number: disk.inodes[number].now()), power_loss.read_tree(folder))
            return len(states), len(lost), len(torn)

    def test_a_save_in_the_right_order_survives_every_state(self):
        states, lost, torn = self.judge()
        self.assertGreater(states, 60)
        self.assertEqual((lost, torn), (0, 0))

    def test_bytes_that_were_not_synced_are_torn_and_lost(self):
        _, lost, torn = self.judge("file")
        self.assertGreater(lost, 0)
        self.assertGreater(torn, 0)

    def test_names_in_a_folder_that_was_not_synced_are_lost(self):
        _, lost, torn = self.judge("folder")
        self.assertGreater(lost, 0)
        self.assertGreater(torn, 0)

    def test_a_rename_that_was_not_synced_is_lost(self):
        _, lost, _ = self.judge("parent")
        self.assertGreater(lost, 0)


if __name__ == "__main__":
    unittest.main()
