"""The fault library itself, under a small program in Python: counted, recorded, hit, and where not."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import faults
import power_loss

WRITER = """
import os, sys
folder = sys.argv[1]
os.mkdir(folder + "/new")
fd = os.open(folder + "/new/file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
done = os.write(fd, b"0123456789")
print(done)
os.fsync(fd)
os.close(fd)
os.rename(folder + "/new/file", folder + "/new/other")
fd = os.open(folder + "/new", os.O_RDONLY)
os.fsync(fd)
os.close(fd)
os.truncate(folder + "/new/other", 4)
os.listdir(folder)
os.unlink(folder + "/new/other")
os.rmdir(folder + "/new")
"""
CALLS = ["mkdir", "open", "write", "fsync", "close", "rename", "fsync", "truncate", "unlink", "rmdir"]


class Faults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="phi3-tune-faults-")
        self.addCleanup(folder.cleanup)
        self.base = pathlib.Path(folder.name).resolve()
        self.folder = self.base / "under"
        self.trace = self.base / "trace"

    def python(self, text, *, cwd=None, where=None, **fault):
        self.folder.mkdir(exist_ok=True)
        environment = {**os.environ, **faults.armed(self.folder, trace=self.trace, **fault)}
        return subprocess.run([sys.executable, "-c", text, str(where or self.folder)], env=environment, cwd=cwd, capture_output=True,
                              text=True, timeout=60, check=False)

    def calls(self):
        return [call.call for call in faults.read_trace(self.trace)]

    def test_every_call_that_changes_or_syncs_is_seen_in_its_order(self):
        done = self.python(WRITER)
        self.assertEqual((done.returncode, done.stdout), (0, "10\n"), done.stderr)
        self.assertEqual(self.calls(), CALLS)
        calls = faults.read_trace(self.trace)
        self.assertEqual((calls[2].path, calls[2].offset, calls[2].bytes), (f"{self.folder}/new/file", 0, b"0123456789"))
        self.assertEqual((calls[5].path, calls[5].to), (f"{self.folder}/new/file", f"{self.folder}/new/other"))
        self.assertEqual((calls[6].path, calls[7].offset), (f"{self.folder}/new", 4))

    def test_relative_paths_are_seen_and_other_folders_are_not(self):
        self.folder.mkdir()
        done = self.python(WRITER, cwd=self.folder, where=".")
        self.assertEqual((done.returncode, self.calls()), (0, CALLS), done.stderr)
        self.trace.unlink()
        other = self.base / "under-not"
        other.mkdir()
        self.assertEqual(self.python(WRITER, where=other).returncode, 0)
        self.assertEqual(self.calls(), [])

    def test_each_call_can_be_the_last(self):
        for n in range(1, len(CALLS) + 1):
            self.trace.unlink(missing_ok=True)
            done = self.python(WRITER, at=n)
            self.assertEqual(done.returncode, -signal.SIGKILL)
            self.assertEqual(self.calls(), CALLS[:n])
            left = power_loss.read_tree(self.folder)
            self.assertEqual("new" in left, 1 < n)
            self.assertEqual(left.get("new/file"), None if not 2 < n < 7 else b"0123456789"[:10 if n > 3 else 0])
            for path in ("new/file", "new/other"):
                (self.folder / path).unlink(missing_ok=True)
            if "new" in left:
                (self.folder / "new").rmdir()

    def test_each_call_can_fail_and_only_closes_and_syncs_are_done_all_the_same(self):
        for n, call in enumerate(CALLS, 1):
            for error in ("EIO", "ENOSPC", "EDQUOT"):
                done = self.python(WRITER, at=n, do=error)
                self.assertEqual(done.returncode, 1)
                self.assertIn({"EIO": "Errno 5", "ENOSPC": "Errno 28", "EDQUOT": "Errno 122"}[error], done.stderr)
                left = power_loss.read_tree(self.folder)
                if call == "mkdir":
                    self.assertEqual(left, {})
                for path in ("new/file", "new/other"):
                    (self.folder / path).unlink(missing_ok=True)
                if "new" in left:
                    (self.folder / "new").rmdir()

    def test_a_write_is_cut_short_or_torn(self):
        self.assertEqual(self.python(WRITER, at=3, do="short").stdout, "5\n")
        done = self.python(WRITER, at=3, do="tear")
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.assertEqual((self.folder / "new/file").read_bytes(), b"01234")

    def test_a_signal_comes_in_the_call(self):
        self.assertEqual(self.python(WRITER, at=4, do="term").returncode, -signal.SIGTERM)

    def test_a_full_disk_stays_full_for_what_wants_room(self):
        text = """
import errno, os, sys
def attempt(what, *given):
    try:
        what(*given)
        return "done"
    except OSError as fault:
        return errno.errorcode[fault.errno]
folder = sys.argv[1]
open(folder + "/old", "w").close()
print(attempt(os.mkdir, folder + "/a"), attempt(os.mkdir, folder + "/b"), attempt(os.unlink, folder + "/old"))
"""
        self.assertEqual(self.python(text, at=1, do="ENOSPC", persist=True, calls=["mkdir", "unlink"]).stdout.split(), ["ENOSPC", "ENOSPC", "done"])
        self.assertEqual(self.python(text, at=1, do="EIO", persist=True, calls=["mkdir", "unlink"]).stdout.split(), ["EIO", "EIO", "EIO"])

    def test_a_listing_fails_only_when_asked(self):
        text = "import os, sys; open(sys.argv[1] + '/x', 'w').close(); print(os.listdir(sys.argv[1]))"
        self.assertIn("x", self.python(text).stdout)
        for call in ("opendir", "readdir"):
            done = self.python(text, at=1, do="EIO", calls=[call])
            self.assertIn("Errno 5", done.stderr, call)

    def test_a_small_disk_takes_what_fits_and_what_is_deleted_gives_room(self):
        text = """
import os, sys
folder = sys.argv[1]
def put(name, size):
    fd = os.open(folder + "/" + name, os.O_WRONLY | os.O_CREAT, 0o644)
    done = 0
    try:
        while done < size:
            done += os.write(fd, b"x" * (size - done))
    except OSError as fault:
        print(fault.errno, end=" ")
    os.close(fd)
    return done
print(os.statvfs(folder).f_bavail, put("a", 8192), put("b", 8192), os.statvfs(folder).f_bavail)
os.unlink(folder + "/a")
print(os.statvfs(folder).f_bavail, put("c", 100), os.statvfs(folder).f_bavail)
os.truncate(folder + "/c", 0)
print(os.statvfs(folder).f_bavail)
"""
        done = self.python(text, room=3 * 4096)
        self.assertEqual(done.stdout.split(), ["28", "3", "8192", "4096", "0", "2", "100", "1", "2"], done.stderr)

    def test_an_allocation_fails_after_the_folder_came_into_use(self):
        text = """
import sys
big = bytearray(1 << 20)
open(sys.argv[1] + "/x", "w").close()
for i in range(3):
    try:
        big = bytearray(1 << 20)
        print("had", end=" ")
    except MemoryError:
        print("none", end=" ")
"""
        self.assertEqual(self.python(text, allocate=(2, 1 << 20)).stdout.split(), ["had", "none", "had"])
        os.environ["PHI3TUNE_FAULTS_ALLOCATE_COUNT"] = str(self.base / "count")
        self.addCleanup(os.environ.pop, "PHI3TUNE_FAULTS_ALLOCATE_COUNT")
        self.assertEqual(self.python(text, allocate=(0, 1 << 20)).stdout.split(), ["had", "had", "had"])
        self.assertEqual((self.base / "count").read_text(), "...")
        self.assertEqual(self.python(text, allocate=(2, 1 << 20), persist=True).stdout.split(), ["had", "none", "none"])


if __name__ == "__main__":
    unittest.main()
