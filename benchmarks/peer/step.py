"""The training step of bench_step in PyTorch 1.13 or newer: the same models, fp32, random weights and tokens.

Everything is set to PyTorch's advantage: fused attention where it exists, the fastest AdamW of its version, no work
that the step does not need. Prints one JSON object.
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

parser = argparse.ArgumentParser()
parser.add_argument("--model", choices=["gpt2-124m", "llama-6m"], default="gpt2-124m")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--sequence-length", type=int, default=256)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--compile", action="store_true")
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(1)

FUSED_ATTENTION = hasattr(F, "scaled_dot_product_attention")
MASK = torch.full((args.sequence_length, args.sequence_length), -math.inf).triu(1)


def attention(q, k, v):
    if FUSED_ATTENTION:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = (q * (1 / math.sqrt(q.size(-1)))) @ k.transpose(-2, -1) + MASK
    return torch.softmax(scores, -1) @ v


class Gpt2Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, rope):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(b, t, 3 * self.heads, c // self.heads).transpose(1, 2).chunk(3, 1)
        x = x + self.out(attention(q, k, v).transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, (x.size(-1),), self.weight, 1e-5)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, rope):
    cos, sin = rope
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class LlamaBlock(nn.Module):
    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = RmsNorm(width), RmsNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x, rope):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(b, t, 3 * self.heads, c // self.heads).transpose(1, 2).chunk(3, 1)
        x = x + self.out(attention(rotate(q, rope), rotate(k, rope), v).transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, name):
        super().__init__()
        if name == "gpt2-124m":
            vocabulary, width, layers = 50257, 768, 12
            self.positions = nn.Embedding(1024, width)
            self.blocks = nn.ModuleList(Gpt2Block(width, 12) for _ in range(layers))
            self.norm = nn.LayerNorm(width)
        else:
            vocabulary, width, layers = 4096, 256, 6
            self.positions = None
            self.blocks = nn.ModuleList(LlamaBlock(width, 8, 704) for _ in range(layers))
            self.norm = RmsNorm(width)
            angles = torch.outer(torch.arange(args.sequence_length), 10000 ** (-torch.arange(0, 32, 2) / 32))
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())
        self.tokens = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.tokens.weight, 0, 0.02)

    def forward(self, ids, targets):
        x = self.tokens(ids)
        rope = None
        if self.positions is None:
            rope = (self.cos, self.sin)
        else:
            x = x + self.positions(torch.arange(ids.size(1)))
        for block in self.blocks:
            x = block(x, rope)
        logits = self.norm(x) @ self.tokens.weight.t()
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


model = Model(args.model)
vocabulary = model.tokens.num_embeddings
ids, targets = torch.randint(vocabulary, (2, args.batch_size, args.sequence_length))
modern = int(torch.__version__.split(".")[0]) >= 2
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                              **({"fused": True} if modern else {}))
forward = torch.compile(model) if args.compile else model
times = []
for step in range(args.steps + 1):
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=False) if not modern else optimizer.zero_grad()
    loss = forward(ids, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step > 0:
        times.append(time.perf_counter() - began)
print(json.dumps({"model": args.model, "parameters": sum(p.numel() for p in model.parameters()), "threads": args.threads,
                  "tokens_per_second": round(args.batch_size * args.sequence_length / statistics.median(times), 1),
                  "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024 / 1000, 1),
                  "loss": round(loss.item(), 4), "torch": torch.__version__}))
