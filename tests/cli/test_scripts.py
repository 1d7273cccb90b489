"""Scripts and build files outside their usual place: they say what is missing."""
import os
import shutil
import subprocess
import sys
import unittest
import zipfile

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

    def setup_in(self, cache, *words, **environment):
        """scripts/setup with another cache, the machine's toolkit out of sight."""
        wanted = {**os.environ, "PHI3TUNE_CACHE": str(cache), "TORCH_ROOT": os.environ.get("TORCH_ROOT") or self.torch_root(), **environment}
        return subprocess.run([front.SOURCE / "scripts/setup", *words], capture_output=True, text=True, env=wanted, timeout=120, check=False)

    @staticmethod
    def torch_root():
        paths = 'set --; . "$0"; echo "$torch_root"'
        return subprocess.run(["bash", "-c", paths, front.SOURCE / "scripts/paths.sh"], capture_output=True, text=True, check=True).stdout.strip()

    @staticmethod
    def toolkit(folder, version=13000):
        """As much of a toolkit as setup looks at."""
        for name, text in (("bin/nvcc", ""), ("bin/cuobjdump", ""), ("include/cublasLt.h", ""), ("include/cuda.h", f"#define CUDA_VERSION {version}\n")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return folder

    def test_setup_says_that_the_cuda_compiler_is_missing(self):
        done = self.setup_in(self.folder, "--check", PHI3TUNE_CUDA_ROOT="cache")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"no CUDA 13 toolkit found, and none in {self.folder}/cuda-13.0.88; --cpu-only does without", done.stderr)

    def test_setup_for_the_cpu_only_wants_no_cuda_compiler(self):
        done = self.setup_in(self.folder, "--check", "--cpu-only", PHI3TUNE_CUDA_ROOT="cache")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_setup_takes_the_toolkit_it_is_given_if_it_is_13(self):
        good, old = self.toolkit(self.folder / "good"), self.toolkit(self.folder / "old", 12080)
        done = self.setup_in(self.folder, "--check", PHI3TUNE_CUDA_ROOT=str(good))
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.setup_in(self.folder, PHI3TUNE_CUDA_ROOT=str(old))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"PHI3TUNE_CUDA_ROOT={old} is no CUDA 13 toolkit", done.stderr)

    def test_headers_are_taken_from_a_wheel_and_nothing_else(self):
        wheel = self.folder / "links/thing-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in ("nvidia/cu13/include/thing.h", "nvidia/cu13/include/thing/part.hpp", "nvidia/cu13/lib/libthing.so",
                         "nvidia/cu13/include/../../escape.h", "thing-1.0.dist-info/RECORD"):
                archive.writestr(name, name)
            archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
            archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out = self.folder / "include"
        done = subprocess.run([sys.executable, front.SOURCE / "scripts/fetch_headers.py", out, "thing==1.0"], capture_output=True, text=True,
                              env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()), ["thing.h", "thing/part.hpp"])
        self.assertIn("thing==1.0: 2 headers", done.stderr)

    def test_cmake_looks_for_the_toolkit_where_setup_does(self):
        toolkit = self.toolkit(self.folder / "cuda-13.9.9")
        probe = self.folder / "probe.cmake"
        probe.write_text(f"set(PHI3TUNE_CUDA OFF)\ninclude({front.SOURCE}/cmake/CudaToolkit.cmake)\nmessage(\"at ${{PHI3TUNE_CUDA_INCLUDE}}\")\n")
        for where in ("cache", str(toolkit)):
            done = subprocess.run(["cmake", "-P", probe], capture_output=True, text=True, check=False,
                                  env={**os.environ, "PHI3TUNE_CACHE": str(self.folder), "PHI3TUNE_CUDA_ROOT": where})
            self.assertIn(f"at {toolkit}/include", done.stderr)


if __name__ == "__main__":
    unittest.main()
