"""The step of bench_finetune in PyTorch: LoRA of rank 8 on query and value of a Llama with random weights, fp32.

With PEFT and transformers, or, by --plain, without either: the same model by hand, for a PyTorch that has neither (1.13
or newer). Everything is set to PyTorch's advantage: fused attention where it exists, no mask (padding on the right is
never seen by what comes before it), the fastest AdamW of its version. Prints one JSON object; only real tokens count.
"""
import argparse
import json
import math
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, WIDTH, LAYERS, HEADS, INNER = 32000, 768, 12, 12, 2048
RANK, ALPHA = 8, 16
IGNORED = -100

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--sequence-length", type=int, default=256, help="of random tokens, all of them targets")
parser.add_argument("--rows", help='lines of {"ids", "trained"} in place of random tokens, a batch padded to its longest')
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--plain", action="store_true")
parser.add_argument("--compile", action="store_true")
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(1)


class LoraLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH, bias=False)
        self.lora_a, self.lora_b = nn.Linear(WIDTH, RANK, bias=False), nn.Linear(RANK, WIDTH, bias=False)
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x):
        return self.base(x) + self.lora_b(self.lora_a(x)) * (ALPHA / RANK)


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, (WIDTH,), self.weight, 1e-5)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, rope):
    cos, sin = rope
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attention(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = (q * (1 / math.sqrt(q.size(-1)))) @ k.transpose(-2, -1)
    return torch.softmax(scores + torch.full(scores.shape[-2:], -math.inf).triu(1), -1) @ v


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = RmsNorm(), RmsNorm()
        self.q, self.k, self.v = LoraLinear(), nn.Linear(WIDTH, WIDTH, bias=False), LoraLinear()
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate_up, self.down = nn.Linear(WIDTH, 2 * INNER, bias=False), nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x, rope):
        b, t, c = x.shape
        n = self.norm_1(x)
        q, k, v = (part(n).view(b, t, HEADS, c // HEADS).transpose(1, 2) for part in (self.q, self.k, self.v))
        x = x + self.out(attention(rotate(q, rope), rotate(k, rope), v).transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class PlainModel(nn.Module):
    """The head sees the targets' positions alone, as whoever writes a model by hand would have it."""

    def __init__(self):
        super().__init__()
        self.tokens, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), RmsNorm()
        nn.init.normal_(self.tokens.weight, 0, 0.02)
        for name, p in self.named_parameters():
            p.requires_grad = "lora_" in name

    def forward(self, ids, labels):
        half = WIDTH // HEADS // 2
        angles = torch.outer(torch.arange(ids.size(1)), 10000.0 ** (-torch.arange(half) / half))
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, (angles.cos(), angles.sin()))
        targets = labels[:, 1:]
        return F.cross_entropy(self.head(self.norm(x[:, :-1][targets != IGNORED])), targets[targets != IGNORED])


class PeftModel(nn.Module):
    def __init__(self):
        super().__init__()
        import peft
        import transformers
        config = transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=INNER, max_position_embeddings=2048, use_cache=False, attn_implementation="sdpa")
        lora = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        self.model = peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)

    def forward(self, ids, labels):
        return self.model(input_ids=ids, labels=labels).loss


def random_batches():
    ids = torch.randint(VOCABULARY, (args.batch_size, args.sequence_length))
    return [(ids, ids, ids.numel())] * (args.steps + 1)


def row_batches():
    """In their order, from the start again at the end."""
    with open(args.rows, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    batches = []
    for step in range(args.steps + 1):
        batch = [rows[i % len(rows)] for i in range(step * args.batch_size, (step + 1) * args.batch_size)]
        longest = max(len(row["ids"]) for row in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        for i, row in enumerate(batch):
            ids[i, :len(row["ids"])] = torch.tensor(row["ids"])
            targets = [t if on else IGNORED for t, on in zip(row["ids"], row["trained"])]
            labels[i, :len(targets)] = torch.tensor(targets)
        batches.append((ids, labels, sum(len(row["ids"]) for row in batch)))
    return batches


model = PlainModel() if args.plain else PeftModel()
trained = [p for p in model.parameters() if p.requires_grad]
modern = int(torch.__version__.split(".")[0]) >= 2
optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                              **({"fused": True} if modern else {}))
forward = torch.compile(model, dynamic=bool(args.rows)) if args.compile else model
times, tokens = [], []
for step, (ids, labels, count) in enumerate(row_batches() if args.rows else random_batches()):
    began = time.perf_counter()
    optimizer.zero_grad()
    loss = forward(ids, labels)
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    if step > 0:  # the first touches fresh memory
        times.append(time.perf_counter() - began)
        tokens.append(count)
speed = sum(tokens) / sum(times) if args.rows else tokens[0] / statistics.median(times)
print(json.dumps({"model": "llama-134m", "parameters": sum(p.numel() for p in model.parameters()),
                  "trained_parameters": sum(p.numel() for p in trained), "threads": args.threads,
                  "tokens_per_second": round(speed, 1),
                  "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024 / 1000, 1),
                  "loss": round(loss.item(), 4), "torch": torch.__version__}))
