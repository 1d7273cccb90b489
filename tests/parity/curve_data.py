"""The rows of a loss curve, their order and their groups: shared by loss_curve.py and trl_loss_curve.py.

Order and arithmetic are those of the Trainer of transformers: epoch e goes through the rows in the order
torch.randperm(n) of a generator seeded with seed + e; --micro rows make a micro-batch (the last of an epoch may be
shorter), --accumulate micro-batches a step (the last group of an epoch takes what is left; groups never span epochs).
"""
import json
import torch


def add_arguments(ap):
    ap.add_argument("--model", required=True)
    ap.add_argument("--adapter", required=True, help="PEFT folder with the initial adapter")
    ap.add_argument("--data", help='JSONL of {"input_ids": [...], "labels": [...]?}; default: seeded random rows')
    ap.add_argument("--steps", type=int, default=50)
    ap.add_argument("--epochs", type=int, help="as many steps as these epochs have, instead of --steps")
    ap.add_argument("--shuffle-seed", type=int, help="default: every epoch in file order")
    ap.add_argument("--micro", type=int, default=2)
    ap.add_argument("--accumulate", type=int, default=4)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--warmup", type=int, default=5)
    ap.add_argument("--weight-decay", type=float, default=0.0)
    ap.add_argument("--clip", type=float, default=1.0)
    ap.add_argument("--dtype", choices=["float64", "float32", "bfloat16"], default="float32")
    ap.add_argument("--attn", choices=["eager", "sdpa"], default="sdpa")
    ap.add_argument("--packed", action="store_true", help="join a micro-batch into one row with restarted positions")
    ap.add_argument("--save-adapter", help="folder for the trained adapter")
    ap.add_argument("--seed", type=int, default=11, help="of the random rows")


def rows(args, vocab):
    if args.data:
        return [json.loads(line) for line in open(args.data) if line.strip()]
    g = torch.Generator().manual_seed(args.seed)
    lengths = torch.randint(8, 33, (34,), generator=g).tolist()
    return [{"input_ids": torch.randint(3, min(vocab, 32000), (n,), generator=g).tolist()} for n in lengths]


def chunks(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]


def groups(args, count):
    """One list a step, of one list a micro-batch, of row numbers; endless."""
    epoch = 0
    while True:
        order = list(range(count))
        if args.shuffle_seed is not None:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(args.shuffle_seed + epoch)).tolist()
        yield from chunks(chunks(order, args.micro), args.accumulate)
        epoch += 1


def total_steps(args, count):
    batches = -(-count // args.micro)
    return args.steps if args.epochs is None else args.epochs * -(-batches // args.accumulate)
