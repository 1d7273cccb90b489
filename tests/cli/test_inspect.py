"""inspect on what a user may point it at: what is wrong, and what can be used all the same."""
import json
import shutil
import struct
import subprocess
import unittest

import checkpoints
import front
import weights

CHECKPOINT = 6
WHOLE = "the adapter itself is whole: lora_model_dir can go on from it"


class Inspect(front.FrontTest):
    def inspected(self, path):
        """The exit code and the object of --json."""
        done = front.run("inspect", path, "--json")
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def test_a_model_folder_with_a_stray_record_is_a_model(self):
        self.good("init-model", self.folder / "model", "--shape", "tiny")
        self.write("model/run.json", "{}")
        self.assertIn("model folder", self.good("inspect", self.folder / "model"))


class ForeignText(Inspect):
    """Names inside a file are another's text: none of it reaches the terminal as it is."""

    NASTY = "red\x1b[31m\nerror: all is lost\r\x07\x9b2J\u202ee"
    PLAIN = "red\\x1b[31m\\nerror: all is lost"

    INVISIBLE = "turned\u202e\x9b2J"  # a name may hold these; the control characters of ASCII are refused there

    def check(self, path, times):
        done = subprocess.run([front.PROGRAM, "inspect", str(path)], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        text = done.stdout.decode("utf-8")
        self.assertEqual([c for c in text if c != "\n" and not c.isprintable()], [])
        self.assertEqual(text.count(self.PLAIN), times, text)
        self.assertEqual([line for line in text.splitlines() if line.startswith("error")], [])
        code, value = self.inspected(path)
        self.assertEqual(code, 0)
        return value

    def test_in_a_safetensors_file(self):
        path = self.folder / "a.safetensors"
        weights.write_safetensors(path, {self.INVISIBLE: ("F32", [1], bytes(4))}, {self.NASTY: self.NASTY})
        value = self.check(path, 2)
        self.assertEqual((value["tensors"][0]["name"], value["metadata"]), (self.INVISIBLE, {self.NASTY: self.NASTY}))
        weights.write_safetensors(path, {self.NASTY: ("F32", [1], bytes(4))})
        lines = self.refused(front.INPUT, "inspect", path)
        self.assertEqual((len(lines), [c for c in lines[0] if not c.isprintable()]), (1, []))

    def test_in_a_gguf_file(self):
        def text(value):
            return struct.pack("<Q", len(value)) + value
        nasty = self.NASTY.encode()
        head = b"GGUF" + struct.pack("<IQQ", 3, 2, 2)
        head += text(nasty) + struct.pack("<I", 8) + text(nasty) + text(b"\xff\xfe") + struct.pack("<I", 8) + text(b"\xc3(")
        head += text(nasty) + struct.pack("<IQIQ", 1, 1, 0, 0)
        head += text(b"\xff" + nasty) + struct.pack("<IQIQ", 1, 1, 0, 32)
        path = self.folder / "a.gguf"
        path.write_bytes(head + bytes(-len(head) % 32) + bytes(64))
        value = self.check(path, 4)
        self.assertEqual((value["tensors"][0]["name"], value["metadata"][self.NASTY]), (self.NASTY, self.NASTY))

    def test_in_an_adapter_folder(self):
        self.good("init-model", self.folder / "model", "--shape", "tiny")
        adapter = weights.write_adapter(self.folder / "adapter", self.folder / "model", base_model_name_or_path=self.NASTY)
        self.check(adapter, 1)


class Checkpoint(Inspect):
    def setUp(self):
        super().setUp()
        self.path = checkpoints.make(self.folder, 200)

    def faults(self, *expected):
        """Checks the report's lines, of which the last says what can be used; returns that."""
        lines = self.refused(CHECKPOINT, "inspect", self.path)
        self.assertEqual(lines[:-1], [f"error: {self.path}/{line}" for line in expected])
        code, value = self.inspected(self.path)
        self.assertEqual((code, value["sound"]), (CHECKPOINT, False))
        self.assertEqual([f"error: {fault}" for fault in value["faults"]], lines[:-1])
        self.assertEqual(lines[-1], f"error: {self.path}: {value['usable']}")
        return value["usable"]

    def test_a_sound_one_is_described(self):
        text = self.good("inspect", f"{self.path}/")
        self.assertIn("checkpoint", text)
        self.assertIn("200", text)
        code, value = self.inspected(self.path)
        self.assertEqual(code, 0)
        self.assertIs(value["sound"], True)
        self.assertNotIn("faults", value)
        self.assertEqual((value["kind"], value["step"], value["run_name"]), ("checkpoint", 200, "tickets"))
        self.assertEqual((value["epoch"], value["last_loss"], value["training_seconds"]), (1.5, 2.25, 3.5))
        self.assertIsNone(value["best_step"])
        self.assertEqual(value["bytes"], sum(p.stat().st_size for p in self.path.iterdir() if p.name != "manifest.json"))

    def test_a_damaged_optimizer_leaves_the_adapter(self):
        checkpoints.flip(self.path / "optimizer.safetensors")
        usable = self.faults("optimizer.safetensors: damaged: its bytes are not those that were written")
        self.assertEqual(usable, f"only the optimizer's state is damaged; {WHOLE}")

    def test_a_missing_state_leaves_the_adapter(self):
        (self.path / "training_state.json").unlink()
        self.assertEqual(self.faults("training_state.json: there is no such file"), WHOLE)

    def test_a_damaged_adapter_leaves_nothing(self):
        checkpoints.flip(self.path / "adapter_model.safetensors")
        checkpoints.flip(self.path / "optimizer.safetensors")
        usable = self.faults("adapter_model.safetensors: damaged: its bytes are not those that were written",
                             "optimizer.safetensors: damaged: its bytes are not those that were written")
        self.assertEqual(usable, "nothing of it can be used")

    def test_truncation_is_told_in_bytes(self):
        path = self.path / "adapter_config.json"
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[:-1])
        usable = self.faults(f"adapter_config.json: {size - 1} bytes, the manifest says {size}")
        self.assertEqual(usable, "nothing of it can be used")

    def test_without_its_manifest_nothing_vouches_for_the_adapter(self):
        checkpoints.flip(self.path / "manifest.json", 40)
        lines = self.refused(CHECKPOINT, "inspect", self.path)
        self.assertEqual(len(lines), 2, lines)
        self.assertIn(f"{self.path}/manifest.json", lines[0])
        self.assertIn("nothing says that its bytes are those that were written", lines[1])
        (self.path / "manifest.json").unlink()
        self.assertIn("at your own risk", self.faults("manifest.json: there is no such file"))

    def test_a_renamed_folder_is_of_the_step_that_the_manifest_says(self):
        self.path = self.path.rename(self.folder / "step-000300")
        usable = self.faults("manifest.json: of step 200, whose folder is named step-000200, not step-000300")
        self.assertEqual(usable, WHOLE)

    def test_a_link_in_place_of_a_file_is_refused(self):
        (self.path / "adapter_model.safetensors").rename(self.folder / "elsewhere")
        (self.path / "adapter_model.safetensors").symlink_to("../elsewhere")
        self.assertEqual(self.faults("adapter_model.safetensors: a link, wanted a regular file"),
                         "nothing of it can be used")

    def test_an_adapter_that_is_as_written_and_wrong_is_named(self):
        shutil.copyfile(self.path / "optimizer.safetensors", self.path / "adapter_model.safetensors")
        checkpoints.write_manifest(self.path, 200)
        lines = self.refused(CHECKPOINT, "inspect", self.path)
        self.assertIn("adapter_model.safetensors", lines[0])
        self.assertIn("nothing of it can be used", lines[-1])

    def test_a_manifest_of_something_else_is_refused(self):
        checkpoints.write_manifest(self.path, 200, kind="result")
        self.assertEqual(self.faults('manifest.json: of kind "result", wanted checkpoint'), WHOLE)


class RunFolder(Inspect):
    def setUp(self):
        super().setUp()
        self.run_folder = self.folder / "out"
        self.older = checkpoints.make(self.run_folder / "checkpoints", 100)
        self.newer = checkpoints.make(self.run_folder / "checkpoints", 200)
        self.record("stopped")

    def record(self, status, **results):
        value = {"schema_version": 1, "program": "phi3-tune", "status": status, "run_name": "tickets",
                 "started_at": "2026-01-01T00:00:00Z", "results": results, "files": []}
        self.write("out/run.json", json.dumps(value))

    def finish(self):
        """The result, and the record that lists it."""
        adapter = self.run_folder / "adapter"
        shutil.copytree(checkpoints.ADAPTER, adapter)
        self.record("finished", adapter_files={p.name: checkpoints.measured(p) for p in adapter.iterdir()})
        return adapter

    def test_a_stopped_run_says_what_a_resume_takes(self):
        code, value = self.inspected(self.run_folder)
        self.assertEqual(code, 0)
        self.assertEqual((value["kind"], value["run_name"]), ("run folder", "tickets"))
        self.assertEqual(value["status"], "stopped: the same command goes on with it")
        self.assertEqual(value["resumes_from"], str(self.newer))
        self.assertEqual([(c["step"], c["sound"]) for c in value["checkpoints"]], [(200, True), (100, True)])
        self.assertIsNone(value["adapter"])
        text = self.good("inspect", f"{self.run_folder}/")
        self.assertIn(f"  {self.older}: sound", text)

    def test_a_damaged_checkpoint_is_said_and_the_older_one_taken(self):
        checkpoints.flip(self.newer / "optimizer.safetensors")
        (self.run_folder / "checkpoints/.step-000300.partial").mkdir()
        done = front.run("inspect", self.run_folder)
        self.assertEqual(done.returncode, CHECKPOINT)
        self.assertIn(f"  {self.newer}: damaged; only the optimizer's state is damaged; {WHOLE}", done.stdout)
        self.assertIn(f"  {self.older}: sound", done.stdout)
        self.assertEqual(done.stderr.splitlines(), [
            f"error: {self.newer}/optimizer.safetensors: damaged: its bytes are not those that were written",
            f"error: {self.run_folder}: the same command goes on from {self.older}"])
        code, value = self.inspected(self.run_folder)
        self.assertEqual((code, value["resumes_from"]), (CHECKPOINT, str(self.older)))
        self.assertEqual(value["leftovers"], [".step-000300.partial"])

    def test_none_sound_leaves_nothing(self):
        for path in (self.older, self.newer):
            (path / "manifest.json").unlink()
        code, value = self.inspected(self.run_folder)
        self.assertEqual((code, value["resumes_from"], value["usable"]), (CHECKPOINT, None, "nothing of it can be used"))
        self.assertEqual(len(value["faults"]), 2)

    def test_a_finished_run_has_its_adapter(self):
        adapter = self.finish()
        code, value = self.inspected(self.run_folder)
        self.assertEqual((code, value["status"], value["adapter"], value["adapter_sound"]), (0, "finished", str(adapter), True))

    def test_a_result_that_is_not_as_it_was_written_is_said(self):
        adapter = self.finish()
        checkpoints.flip(adapter / "adapter_model.safetensors")
        code, value = self.inspected(self.run_folder)
        self.assertEqual((code, value["adapter_sound"]), (CHECKPOINT, False))
        self.assertIn(f"{adapter}/adapter_model.safetensors: damaged", value["faults"][0])
        self.assertEqual(value["usable"], f"the same command goes on from {self.newer}")

    def test_a_result_that_is_gone_is_said(self):
        shutil.rmtree(self.finish())
        lines = front.run("inspect", self.run_folder).stderr.splitlines()
        self.assertIn("the run finished, and its adapter is not there", lines[0])

    def test_a_run_of_nothing_yet_is_no_fault(self):
        shutil.rmtree(self.run_folder / "checkpoints")
        self.record("running")
        code, value = self.inspected(self.run_folder)
        self.assertEqual((code, value["checkpoints"], value["resumes_from"]), (0, [], None))

    def test_a_record_of_something_else_is_refused(self):
        for text in ("{}", "[]", "{", '{"program": "phi3-tune"}', '{"program": "other", "status": "finished"}'):
            self.write("out/run.json", text)
            self.assertIn("out/run.json", self.refused(CHECKPOINT, "inspect", self.run_folder)[0])

    def test_a_record_that_names_files_elsewhere_reads_none_of_them(self):
        self.finish()
        self.record("finished", adapter_files={"../../secret": {"bytes": 1, "xxh3_128": checkpoints.ZEROS}})
        code, value = self.inspected(self.run_folder)
        self.assertEqual(code, CHECKPOINT)
        self.assertIn('"../../secret" is no file of it', value["faults"][0])


if __name__ == "__main__":
    unittest.main()
