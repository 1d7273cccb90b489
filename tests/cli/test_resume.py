"""How a run starts in a folder that an earlier session left: what is gone on with, what is refused, what is said."""
import json
import shutil
import unittest

import front
import test_train
import weights

CHECKPOINT = 6


class Resume(test_train.Train):
    # The tests of the parent run with its own class.
    def steps(self, out="out"):
        return sorted(int(p.name[5:]) for p in (self.folder / out / "checkpoints").glob("step-*"))

    def half(self, out="out", **settings):
        """A run that lacks its last steps: those of a longer one of the same settings, cut."""
        self.train(output_dir=str(self.folder / out), save_steps=2, save_best=False, save_total_limit=0, **settings)
        for step in self.steps(out):
            if step > 4:
                shutil.rmtree(self.folder / out / f"checkpoints/step-{step:06}")
        shutil.rmtree(self.folder / out / "adapter")
        record = self.record(out)
        record["status"] = "failed"
        (self.folder / out / "run.json").write_text(json.dumps(record))

    def again(self, *words, out="out", **settings):
        return front.run("--config", self.config(output_dir=str(self.folder / out), save_steps=2, save_best=False,
                                                 save_total_limit=0, **settings), *words)

    def files(self, out):
        return {p.name: p.read_bytes() for p in (self.folder / out / "adapter").iterdir()}

    def losses(self, out):
        return [(m["step"], m.get("loss", m.get("eval_loss"))) for m in self.metrics(out)]

    def test_it_goes_on_to_the_same_bytes_with_the_same_figures(self):
        self.train(output_dir=str(self.folder / "whole"), save_steps=2, save_best=False, save_total_limit=0)
        self.half()
        done = self.again()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("going on from", done.stderr)
        self.assertIn("step-000004", done.stderr)
        self.assertEqual(self.files("out"), self.files("whole"))
        self.assertEqual(self.losses("out"), self.losses("whole"))

    def test_the_newest_that_is_sound_is_taken_and_the_others_are_named(self):
        self.half()
        path = self.folder / "out/checkpoints/step-000004/optimizer.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        done = self.again()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"passed over: .*step-000004.*optimizer\.safetensors")
        self.assertIn("step-000002", done.stderr)
        self.train(output_dir=str(self.folder / "whole"), save_steps=2, save_best=False, save_total_limit=0)
        self.assertEqual(self.files("out"), self.files("whole"))

    def test_with_no_sound_checkpoint_nothing_is_started(self):
        self.half()
        for manifest in (self.folder / "out/checkpoints").glob("*/manifest.json"):
            manifest.write_text(manifest.read_text()[:-20])
        errors = self.refused(CHECKPOINT, "--config", self.config(save_steps=2, save_best=False, save_total_limit=0))
        self.assertEqual(len([e for e in errors if "manifest.json" in e]), 2, errors)
        self.assertEqual(self.again(overwrite_output_dir=True, resume_from_checkpoint="never").returncode, 0)

    def test_other_settings_and_other_data_are_refused_with_a_list(self):
        self.half()
        before = {p: p.read_bytes() for p in (self.folder / "out").rglob("*") if p.is_file()}
        lines = self.data.read_text().splitlines()
        self.data.write_text("\n".join(lines[1:]) + "\n")
        done = self.again(learning_rate=1e-3, lora_dropout=0.2)
        self.assertEqual(done.returncode, front.USAGE)
        for text in ("learning_rate: 0.01 then, 0.001 now", "lora_dropout: 0.1 then, 0.2 now", "the examples of datasets"):
            self.assertIn(text, done.stderr)
        self.assertEqual({p: p.read_bytes() for p in (self.folder / "out").rglob("*") if p.is_file()}, before)

    def test_the_base_may_lie_elsewhere_and_may_not_be_another(self):
        self.half()
        shutil.move(self.model, self.folder / "moved")
        done = self.again(base_model="moved")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.half(out="two", base_model="moved")
        self.good("init-model", self.model, "--shape", "tiny-gqa", "--seed", 8)
        done = self.again(out="two")
        self.assertEqual(done.returncode, front.USAGE)
        self.assertIn("the weights or config.json of base_model", done.stderr)

    def test_more_steps_go_on_with_a_finished_run(self):
        self.train(save_steps=2)
        before = self.files("out")
        done = front.run("--config", self.config(save_steps=2, max_steps=9))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("max_steps: 6 then, 9 now", done.stderr)
        self.assertNotEqual(self.files("out")["adapter_model.safetensors"], before["adapter_model.safetensors"])
        self.assertEqual([m["step"] for m in self.metrics() if "loss" in m], list(range(1, 10)))
        self.refused(front.USAGE, "--config", self.config(save_steps=2, max_steps=7))

    def test_overwriting_starts_a_finished_run_again_and_leaves_an_unfinished_one(self):
        self.half()
        done = self.again(overwrite_output_dir=True)
        self.assertIn("going on from", done.stderr)
        done = self.again(overwrite_output_dir=True)
        self.assertNotIn("going on from", done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("is deleted", done.stderr)

    def test_a_damaged_checkpoint_ahead_costs_nothing_that_is_sound(self):
        self.half()
        whole = self.folder / "out/checkpoints/step-000004"
        shutil.copytree(whole, self.folder / "out/checkpoints/step-000006")
        (self.folder / "out/checkpoints/step-000006/optimizer.safetensors").write_bytes(b"")
        done = front.run("--config", self.config(save_best=False, save_steps=100, save_total_limit=1, max_steps=100000), "--max_time", "4s")
        self.assertEqual(done.returncode, test_train.INTERRUPTED, done.stderr)
        saved = done.stdout.split("saved: ")[1].split(";")[0]
        self.good("inspect", saved)

    def test_what_the_run_reads_is_not_deleted_for_it(self):
        self.train()
        before = self.files("out")
        for settings in (dict(resume_from_checkpoint=str(self.folder / "out/checkpoints/step-000006")),
                         dict(lora_model_dir="out/adapter", lora_r=None), dict(tokenizer_path="out/adapter")):
            errors = self.refused(front.USAGE, "--config", self.config(overwrite_output_dir=True, **settings))
            self.assertIn("lies in output_dir", errors[0])
        # A fault of the settings that is found late deletes nothing either.
        self.refused(front.USAGE, "--config", self.config(overwrite_output_dir=True, seed=9, metric_for_best_model="eval_vaildation_loss"))
        self.assertEqual(self.files("out"), before)

    def test_something_foreign_beside_the_result_is_refused_before_the_run(self):
        self.train(save_steps=2)
        note = self.write("out/adapter/note.txt", "mine")
        errors = self.refused(front.USAGE, "--config", self.config(save_steps=2, max_steps=8))
        self.assertIn("note.txt", errors[0])
        self.assertEqual(note.read_text(), "mine")

    def test_a_record_of_another_version_is_started_over_on_demand_alone(self):
        self.train()
        record = self.record()
        del record["requested"]
        (self.folder / "out/run.json").write_text(json.dumps(record))
        self.assertIn("requested", self.refused(front.USAGE, "--config", self.config())[0])
        self.train(overwrite_output_dir=True)
        self.assertEqual(self.record()["status"], "finished")

    def test_a_finished_run_without_its_checkpoints_is_not_made_again(self):
        self.train()
        shutil.rmtree(self.folder / "out/checkpoints")
        before = self.files("out")
        errors = self.refused(CHECKPOINT, "--config", self.config(max_steps=9))
        self.assertIn("lora_model_dir", errors[0])
        self.assertEqual(self.files("out"), before)

    def test_a_named_checkpoint_begins_a_run_of_its_own_folder(self):
        self.train(output_dir=str(self.folder / "whole"), save_steps=2, save_best=False, save_total_limit=0)
        named = str(self.folder / "whole/checkpoints/step-000004")
        done = self.again(out="other", resume_from_checkpoint=named)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.files("other"), self.files("whole"))
        for number in range(2):  # the same command again, when it had saved nothing and when it had
            shutil.rmtree(self.folder / "other/adapter")
            if number == 0:
                shutil.rmtree(self.folder / "other/checkpoints")
            record = self.record("other")
            record["status"] = "failed"
            (self.folder / "other/run.json").write_text(json.dumps(record))
            done = self.again(out="other", resume_from_checkpoint=named)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.files("other"), self.files("whole"))
        done = self.again(out="whole", resume_from_checkpoint=named)
        self.assertEqual(done.returncode, front.USAGE)
        self.assertIn("not the newest sound one of its run", done.stderr)
        done = self.again(out="third", resume_from_checkpoint=str(self.folder / "nowhere"))
        self.assertEqual(done.returncode, CHECKPOINT)

    def test_what_was_settled_is_settled_again(self):
        self.half(micro_batch_size="auto", gradient_accumulation_steps=4)
        first = self.record()
        self.assertEqual(first["requested"]["micro_batch_size"], "auto")
        done = self.again(micro_batch_size="auto", gradient_accumulation_steps=4)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("device", "threads", "dtype", "gradient_checkpointing"):
            self.assertEqual(self.record()["compute"][name], first["compute"][name])
        self.assertEqual(self.record()["settings"]["micro_batch_size"], first["settings"]["micro_batch_size"])

    def test_another_number_of_threads_is_named(self):
        self.half(threads=1)
        done = self.again(threads=2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not exact to the last bit: threads: 1 then, 2 now", done.stderr)

    def test_the_best_can_be_the_result(self):
        # The loss falls, so by this measure the first evaluation is the best.
        self.train(load_best_model_at_end=True, max_steps=8, eval_steps=1, greater_is_better=True, save_total_limit=2)
        evaluations = {m["step"]: m["eval_loss"] for m in self.metrics() if m.get("eval_loss") and m["step"] > 0}
        best = max(evaluations, key=lambda step: evaluations[step])
        self.assertLess(best, 8)
        self.assertEqual(self.steps(), [best, 8])
        checkpoint = self.folder / f"out/checkpoints/step-{best:06}/adapter_model.safetensors"
        # The result's header also says which base it is for.
        result = self.folder / "out/adapter/adapter_model.safetensors"
        (found, data), (wanted, best_data) = weights.read_safetensors(result), weights.read_safetensors(checkpoint)
        found.pop("__metadata__"), wanted.pop("__metadata__")
        self.assertEqual(found, wanted)
        self.assertTrue(data == best_data)

    def test_early_stopping_ends_a_run(self):
        self.train(max_steps=40, eval_steps=1, learning_rate=0.3, lr_scheduler="constant", warmup_ratio=0, early_stopping_patience=2)
        self.assertEqual(self.record()["status"], "finished")
        self.assertLess(self.record()["results"]["steps"], 40)
        self.assertIn("finished already", self.train(max_steps=40, eval_steps=1, learning_rate=0.3, lr_scheduler="constant",
                                                     warmup_ratio=0, early_stopping_patience=2))


def load_tests(loader, tests, pattern):
    """Only the tests of this file, not the parent's again."""
    own = [name for name in vars(Resume) if name.startswith("test_")]
    return unittest.TestSuite(Resume(name) for name in own)


if __name__ == "__main__":
    unittest.main()
