"""The optimizer steps of loss_curve.py by TRL's SFTTrainer on rows that are tokenised already; the same JSON lines.

Same arguments, same order of rows, masks, accumulation, clipping, schedule and normalisation, nothing of the loop ours:
the losses of the two agree to 1e-5 in fp32. (--shuffle-seed becomes the trainer's data_seed.)
"""
import argparse, json, tempfile
import torch
import curve_data
import dump_forward_backward as fb


def bare_tokenizer(pad_id):
    """The trainer asks for a tokenizer even where nothing is tokenised; it reads the pad id from it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    words = {f"t{i}": i for i in range(pad_id)} | {"<pad>": pad_id}
    inner = Tokenizer(models.WordLevel(words, unk_token="t0"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<pad>", unk_token="t0")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    curve_data.add_arguments(ap)
    args = ap.parse_args()
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer
    disable_progress_bars()
    torch.use_deterministic_algorithms(True)
    model = fb.load_base(args.model, getattr(torch, args.dtype), args.attn)
    model = fb.with_adapter(model, args.adapter)
    data = curve_data.rows(args, model.config.vocab_size)
    data = [{"input_ids": d["input_ids"], "labels": d.get("labels", d["input_ids"])} for d in data]
    steps = curve_data.total_steps(args, len(data))
    lines = []

    class Report(TrainerCallback):
        def on_log(self, _, state, control, logs=None, **unused):
            if "grad_norm" in logs:
                lines.append({"step": state.global_step, "loss": logs["loss"], "grad_norm": logs["grad_norm"],
                              "lr": logs["learning_rate"]})
                print(json.dumps(lines[-1]), flush=True)

    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(
            output_dir=out, max_steps=steps, per_device_train_batch_size=args.micro, seed=42, data_seed=args.shuffle_seed,
            gradient_accumulation_steps=args.accumulate, learning_rate=args.lr, warmup_steps=args.warmup,
            weight_decay=args.weight_decay, max_grad_norm=args.clip, lr_scheduler_type="cosine", optim="adamw_torch",
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, bf16=False,
            gradient_checkpointing=False, max_length=None, packing=False, padding_free=args.packed,
            train_sampling_strategy="sequential" if args.shuffle_seed is None else "random")
        trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(data), callbacks=[Report()],
                             processing_class=bare_tokenizer(model.config.pad_token_id))
        trainer.pop_callback(next(c for c in trainer.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"))
        trainer.train()
    if args.save_adapter:
        trainer.model.save_pretrained(args.save_adapter)


if __name__ == "__main__":
    main()
