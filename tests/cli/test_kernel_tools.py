"""kernel_report and mutate.py go red where they must. cuobjdump is played by a script with prepared answers."""
import json
import subprocess
import sys
import unittest

import front

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
NAME = "_ZN8phi3tune7kernels12_GLOBAL__N_111norm_kernelIfLi4EEEvPT_"
WIDE = ("LDG.E.128 R4, [R2.64] ;", "STG.E.128 [R6.64], R4 ;")


class Report(front.FrontTest):
    def report(self, limits, instructions=WIDE, registers=32, stack=0, threads=256, architectures=ARCHITECTURES, shared=1024):
        """kernel_report --check over one kernel."""
        usage, attributes, code = "", "", ""
        for architecture in architectures:
            head = f"\nFatbin elf code:\n================\narch = sm_{architecture}\n"
            usage += f"{head} Function {NAME}:\n  REG:{registers} STACK:{stack} SHARED:{shared} LOCAL:0 CONSTANT[0]:400\n"
            attributes += f"{head}.nv.info.{NAME}\n"
            if threads:
                attributes += f"\tAttribute:\tEIATTR_MAX_THREADS\n\tFormat:\tEIFMT_SVAL\n\tValue:\t{threads:#x} 0x1 0x1 \n"
            code += f"{head}\t\tFunction : {NAME}\n" + "".join(f"        /*{16 * i:04x}*/    {text}   /* 0x0 */\n" for i, text in enumerate(instructions))
        for name, text in (("-res-usage", usage), ("-elf", attributes), ("-sass", code)):
            self.write(name, text)
        cuobjdump = self.write("cuobjdump", f'#!/bin/sh\ncat "{self.folder}/$1"\n')
        cuobjdump.chmod(0o755)
        table = self.write("limits.json", json.dumps({"occupancy": 0.5, "kernels": limits}))
        return subprocess.run([sys.executable, front.SOURCE / "scripts/kernel_report", "--check", "--cuobjdump", cuobjdump, "--limits", table,
                               self.folder / "norm.cu.o"], capture_output=True, text=True, timeout=60, check=False)

    def assert_fault(self, text, *words, **settings):
        done = self.report(*words, **settings)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(text, done.stderr)

    def test_a_kernel_within_its_limits_passes(self):
        done = self.report({"norm_kernel<*>": {"wide_loads": 1, "wide_stores": 1, "narrow": 0, "no_ffma": True}})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("norm_kernel<float, 4>", done.stdout)
        self.assertIn("100% to 100% resident", done.stdout)
        self.assertIn("2 of 2 global accesses are 16 bytes wide", done.stdout)

    def test_a_missed_wide_access_is_a_fault(self):
        narrow = ("LDG.E.64 R4, [R2.64] ;", "@P0 LDG.E.64 R6, [R2.64+0x8] ;", WIDE[1])
        self.assert_fault("sm_90: 0 16-byte loads, at least 1 wanted", {"norm_kernel<*>": {"wide_loads": 1}}, narrow)
        self.assert_fault("2 accesses of global memory narrower than 16 bytes, at most 1 wanted", {"norm_kernel<*>": {"narrow": 1}}, narrow)
        self.assert_fault("0 16-byte stores, at least 1 wanted", {"norm_kernel<*>": {"wide_stores": 1}}, WIDE[:1])

    def test_a_spill_is_a_fault(self):
        self.assert_fault("16 bytes of stack", {"*": {}}, stack=16)
        self.assert_fault("1 LDL and 0 STL", {"*": {}}, (*WIDE, "LDL R4, [R1] ;"))

    def test_few_resident_threads_are_a_fault(self):
        self.assert_fault("sm_86: 33% of an SM's threads resident, 50% wanted", {"*": {}}, shared=40000)
        self.assert_fault("25% of an SM's threads resident", {"*": {}}, registers=128)
        self.assert_fault("33% of an SM's threads resident", {"*": {"dynamic_shared": 40000}})
        self.assert_fault("no __launch_bounds__", {"*": {}}, threads=0)
        self.assertEqual(self.report({"*": {"occupancy": 0.25}}, registers=128).returncode, 0)

    def test_a_fused_operation_where_bits_are_promised_is_a_fault(self):
        self.assert_fault("1 fused multiply-adds", {"*": {"no_ffma": True}}, (*WIDE, "FFMA R4, R5, R6, R7 ;"))

    def test_kernels_and_entries_match_one_to_one(self):
        self.assert_fault("norm_kernel<float, 4>: no entry", {"other_kernel": {}})
        self.assert_fault("other_kernel is no kernel", {"*norm*": {}, "other_kernel": {}})
        self.assert_fault("not compiled for sm_100", {"*": {}}, architectures=(80, 86, 89, 90, 120))


class Mutants(front.FrontTest):
    def check(self, *mutants, kernel="rows.cu"):
        self.write("lists/one.json", json.dumps({"kernel": kernel, "mutants": list(mutants)}))
        done = subprocess.run([sys.executable, front.SOURCE / "scripts/mutate.py", "--check", "--lists", self.folder / "lists"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)  # the other kernels have no list here
        return done.stdout

    def test_the_lists_fit_the_kernels(self):
        done = subprocess.run([sys.executable, front.SOURCE / "scripts/mutate.py", "--check"], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r"^\d{2,} mutants fit the kernels")

    def test_what_is_wrong_with_a_list_is_said(self):
        good = {"breaks": "includes", "find": '#include "row_tiles.cuh"', "replace": "", "expect": "red"}
        self.assertNotIn("rows.cu, ", self.check(good))
        self.assertIn("'nowhere' occurs 0 times, wanted once", self.check({**good, "find": "nowhere"}))
        self.assertIn("occurs 2 times", self.check({**good, "find": '#include "'}))
        self.assertIn("replaces text by itself", self.check({**good, "replace": good["find"]}))
        self.assertIn("expect is 'green', wanted one of red, equivalent, gpu-only", self.check({**good, "expect": "green"}))
        self.assertIn("gpu-only needs a reason", self.check({**good, "expect": "gpu-only"}))
        self.assertIn("kernels/rows.cu: 1 mutants that must be red, at least 3 wanted", self.check(good))
        self.assertIn("there is no kernels/gone.cu", self.check(good, kernel="gone.cu"))


if __name__ == "__main__":
    unittest.main()
