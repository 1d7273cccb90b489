"""Every file of configs/ trains, on a tiny model with random weights in its base's place."""
import json
import unittest

import front

CONFIGS = sorted((front.SOURCE / "configs").glob("*.yaml"))


class Configs(front.FrontTest):
    def test_every_file_trains(self):
        self.assertEqual([c.name for c in CONFIGS], ["lora.yaml", "qlora.yaml", "quickstart.yaml", "smoke.yaml"])
        model = self.folder / "model"
        self.good("init-model", model, "--shape", "tiny")
        environment = {"PHI3TUNE_DEMO_MODEL": str(model), "PHI3TUNE_SMOKE_MODEL": str(model)}
        for config in CONFIGS:
            with self.subTest(config.name):
                words = ["--config", config, "--base_model", model, "--output_dir", self.folder / config.stem]
                self.good("config", "check", *words, env=environment)
                self.good(*words, "--max_steps", "2", "--eval_on_start", "false", env=environment)
                record = json.loads((self.folder / config.stem / "run.json").read_text())
                self.assertEqual((record["status"], record["results"]["steps"]), ("finished", 2))

    def test_every_file_says_what_it_is_for_and_the_command_that_runs_it(self):
        for config in CONFIGS:
            text = config.read_text(encoding="utf-8")
            self.assertTrue(text.startswith("# "), config.name)
            self.assertIn(f"phi3-tune --config configs/{config.name}", text)


if __name__ == "__main__":
    unittest.main()
