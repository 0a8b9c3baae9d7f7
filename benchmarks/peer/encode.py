"""Encoding speed of the tokenizers library, or of tiktoken, on one thread, in pieces as bench_tokenize cuts them."""
import argparse
import base64
import json
import os
import statistics
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True, help="tokenizer.json, or a .tiktoken file of GPT-2's words")
parser.add_argument("--text", required=True)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--piece", type=int, default=4096)
args = parser.parse_args()

if args.model.endswith(".tiktoken"):
    import tiktoken
    with open(args.model, "rb") as file:
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in file if line.strip())}
    words = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    encode = tiktoken.Encoding("ranks", pat_str=words, mergeable_ranks=ranks, special_tokens={}).encode_ordinary
else:
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(args.model)
    encode = lambda text: tokenizer.encode(text).ids

text = open(args.text, encoding="utf-8", newline="").read()
pieces, start = [], 0
while start < len(text):
    end = text.find("\n", min(start + args.piece, len(text)))
    end = len(text) if end < 0 else end + 1
    pieces.append(text[start:end])
    start = end
size = len(text.encode())
speeds = []
for repeat in range(args.rounds + 1):
    begin = time.perf_counter()
    tokens = sum(len(encode(piece)) for piece in pieces)
    if repeat:
        speeds.append(size / (time.perf_counter() - begin) / 1e6)
print(json.dumps({"tokens": tokens, "mb_per_second": round(statistics.median(speeds), 2)}))
