"""Scripts and build files outside their usual place: they say what is missing."""
import os
import shutil
import subprocess
import unittest

import front


class Scripts(front.FrontTest):
    def test_check_format_outside_a_checkout_fails_at_once(self):
        shutil.copytree(front.SOURCE / "scripts", self.folder / "tree/scripts")
        done = subprocess.run([self.folder / "tree/scripts/check_format"], stdin=subprocess.PIPE, capture_output=True, text=True,
                              env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder)}, timeout=30, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("is no git checkout", done.stderr)

    def test_the_environment_names_libtorch(self):
        for names, used in ((["TORCH_ROOT"], "TORCH_ROOT"), (["LIBTORCH_ROOT"], "LIBTORCH_ROOT"),
                            (["TORCH_ROOT", "LIBTORCH_ROOT"], "TORCH_ROOT")):
            clean = {name: value for name, value in os.environ.items() if name not in ("TORCH_ROOT", "LIBTORCH_ROOT")}
            clean.update({name: f"/nowhere/{name}" for name in names})
            done = subprocess.run(["cmake", "-P", front.SOURCE / "cmake/FindLibtorch.cmake"], capture_output=True, text=True, env=clean,
                                  check=False, cwd=self.folder)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"/nowhere/{used} (from the environment's {used})", " ".join(done.stderr.split()))


if __name__ == "__main__":
    unittest.main()
