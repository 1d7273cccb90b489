"""inspect on what a user may point it at."""
import json
import unittest

import front

CHECKPOINT = 6


class Inspect(front.FrontTest):
    def test_the_folder_of_a_run_leads_to_its_adapter(self):
        self.write("run/run.json", "{}")
        (self.folder / "run/adapter").mkdir()
        line = self.refused(CHECKPOINT, "inspect", f"{self.folder}/run/")[0]
        self.assertIn(f"the folder of a run; its adapter is {self.folder}/run/adapter", line)

    def test_a_run_without_an_adapter_is_named_as_such(self):
        self.write("run/run.json", "{}")
        self.assertIn("saved no adapter", self.refused(CHECKPOINT, "inspect", self.folder / "run")[0])
        done = front.run("inspect", self.folder / "run", "--json")
        self.assertIs(json.loads(done.stdout)["sound"], False)

    def test_a_model_folder_with_a_stray_record_is_a_model(self):
        self.good("init-model", self.folder / "model", "--shape", "tiny")
        self.write("model/run.json", "{}")
        self.assertIn("model folder", self.good("inspect", self.folder / "model"))


if __name__ == "__main__":
    unittest.main()
