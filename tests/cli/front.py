"""Runs the built program for the tests of this folder. Standard library only.

PHI3TUNE_PROGRAM names the program (ctest sets it).
"""
import os
import pathlib
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("PHI3TUNE_PROGRAM", str(SOURCE / "build/bin/phi3-tune"))

GOOD = 0
USAGE = 2
INPUT = 3


def run(*words, env=None, cwd=None, timeout=120):
    """Runs the program; returns what subprocess.run returns, with text."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PHI3_TUNE__")}
    settings.update(env or {})
    return subprocess.run([PROGRAM, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=settings,
                          cwd=cwd, timeout=timeout, check=False)


class FrontTest(unittest.TestCase):
    """A test with a folder of its own and the checks that every command shares."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="phi3-tune-test-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def good(self, *words, **options):
        """Standard output of a run that ends well."""
        done = run(*words, **options)
        self.assertEqual(done.returncode, GOOD, f"{words}: {done.stderr}")
        return done.stdout

    def refused(self, code, *words, **options):
        """The lines of the report of a run that is refused: on standard error, nothing on standard output."""
        done = run(*words, **options)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "")
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertTrue(errors, done.stderr)
        return errors
