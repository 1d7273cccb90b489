"""A small model, and an adapter of it made by hand: what merge and export start from."""
import front
import weights


class AdaptedTest(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.good("init-model", self.model, "--shape", "tiny-gqa", "--dtype", "float32")
        self.adapter = weights.write_adapter(self.folder / "adapter", self.model)
