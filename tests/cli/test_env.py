"""env: facts for a bug report, with the engine or without."""
import ctypes
import json
import re
import subprocess
import unittest

import front


class Env(front.FrontTest):
    def test_facts_as_text_and_as_json(self):
        facts = json.loads(self.good("env", "--json"))
        for name in ("phi3-tune", "program", "compiler", "system", "cpu", "cpu features", "cores", "memory", "engine"):
            self.assertTrue(facts.get(name), name)
        self.assertTrue(any("libphi3tune_base.so" in path for path in facts["libraries"]))
        self.assertRegex(facts["cores"], r"^\d+ ")
        self.assertRegex(self.good("env"), r"(?m)^phi3-tune +" + re.escape(facts["phi3-tune"]) + "$")

    def test_a_missing_engine_is_said(self):
        base = subprocess.run(["ldd", front.PROGRAM], capture_output=True, text=True, check=True).stdout
        library = re.search(r"libphi3tune_base\.so => (\S+)", base)[1]
        for path in (front.PROGRAM, library):
            subprocess.run(["cp", path, self.folder], check=True)
        program = self.folder / "phi3-tune"
        done = subprocess.run([program, "env"], capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"engine +none: the engine cannot be loaded")

    def test_a_gpu_is_listed_or_its_absence_explained(self):
        facts = json.loads(self.good("env", "--json"))
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            self.assertEqual(facts["CUDA"], "no NVIDIA driver (libcuda.so.1) on this machine: computing on the CPU")
            self.assertFalse(any("libphi3tune_cuda" in path for path in facts["libraries"]))
            return
        if facts["CUDA"] == "ready":
            self.assertIn("compute capability", facts["GPU 0"])
        else:
            self.assertRegex(facts["CUDA"], ": computing on the CPU$")


if __name__ == "__main__":
    unittest.main()
