#!/usr/bin/env python3
"""Trains byte-level BPE on a text with bench_byte_bpe and with Hugging Face's tokenizers in turn, several rounds; prints
the medians and whether both write the same tokenizer.json.

  benchmarks/compare_byte_bpe.py --peer VENV/bin/python TEXT

TEXT should be some 50 MB of what a model would be trained on: a short text many times over has too few words.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("text")
parser.add_argument("--ours", default=HERE.parent / "build/benchmark/bin/bench_byte_bpe")
parser.add_argument("--peer", required=True, help="Python with tokenizers")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--vocab-size", type=int, action="append")
args = parser.parse_args()

commands = {"llmtool": [str(args.ours)], "tokenizers": [args.peer, str(HERE / "peer/byte_bpe.py")]}
for vocab_size in args.vocab_size or [8000, 32000]:
    results = {name: [] for name in commands}
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for name, command in commands.items():
                output = pathlib.Path(folder) / f"{name}.json"
                options = ["--vocab-size", str(vocab_size), "--output", str(output)]
                out = subprocess.run(command + [args.text] + options, check=True, stdout=subprocess.PIPE).stdout
                results[name].append(json.loads(out.decode().strip().splitlines()[-1]))
                files[name] = output.read_bytes()
    print(f"{pathlib.Path(args.text).stat().st_size / 1e6:.1f} MB, vocabulary of {vocab_size}, one thread, medians of "
          f"{args.rounds} rounds")
    medians = {name: [statistics.median(row[key] for row in rows) for key in ("seconds", "peak_mb")]
               for name, rows in results.items()}
    for name, (seconds, memory) in medians.items():
        print(f"  {name:10} {seconds:7.2f} s  {memory:8.1f} MB")
    print(f"  {medians['tokenizers'][0] / medians['llmtool'][0]:.1f} times the speed, "
          f"{medians['llmtool'][1] / medians['tokenizers'][1]:.2f} of the memory, "
          f"{'the same file' if files['llmtool'] == files['tokenizers'] else 'OTHER FILES'}", flush=True)
