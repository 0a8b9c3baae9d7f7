#!/usr/bin/env python3
"""Runs bench_finetune and its PyTorch peers in turn, several rounds, and prints the medians and their ratios.

  benchmarks/compare_lora.py --peer peft:VENV/bin/python --peer debian:/usr/bin/python3 \\
      --alpaca ALPACA.json --tokenizer LLAMA2/tokenizer.model

LoRA of rank 8 on query and value of a Llama of 134 M parameters, batches of 4 x 256 random tokens; with --alpaca also
rows of that file as they are, 4 a batch, for which the first peer's Python needs sentencepiece. A peer is
NAME:INTERPRETER. "peft" is PEFT on PyTorch. "plain" is the same model written by hand, "debian" that one with the
settings that make Debian's PyTorch fast, which has no PEFT; "compiled" is PEFT with torch.compile. "llmtool q8_0" is
ours over weights in q8_0.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FAST_DEBIAN = {"OMP_PROC_BIND": "true", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184",
               "MALLOC_TOP_PAD_": "268435456", "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu/openblas-openmp"}
PEER_OPTIONS = {"peft": [], "plain": ["--plain"], "debian": ["--plain"], "compiled": ["--compile"]}


def run(command, settings):
    out = subprocess.run(command, env=os.environ | settings, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out.decode().strip().splitlines()[-1])


def compare(title, commands, ours, options, rounds):
    results = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (command, settings) in commands.items():
            results[name].append(run(command + options, settings))
    print(f"{title}, medians of {rounds} rounds")
    medians = {name: [statistics.median(row[key] for row in rows) for key in ("tokens_per_second", "peak_mb")]
               for name, rows in results.items()}
    for name, (speed, memory) in medians.items():
        print(f"  {name:12} {speed:9.1f} tokens/s  {memory:8.1f} MB  loss {results[name][-1]['loss']}")
    for one in ours:
        for other in medians:
            if other not in (one, "llmtool q8_0"):
                print(f"  {one:12} : {other:8} {medians[one][0] / medians[other][0]:.2f} times the speed, "
                      f"{medians[one][1] / medians[other][1]:.2f} of the memory", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default=HERE.parent / "build/benchmark/bin/bench_finetune", help='"" for none')
    parser.add_argument("--peer", action="append", default=[], metavar="NAME:INTERPRETER")
    parser.add_argument("--alpaca", help="JSON, a list of instruction, input, output")
    parser.add_argument("--tokenizer", help="a SentencePiece model of 32,000 tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of random tokens; of rows ten times as many")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    peers = [peer.split(":", 1) for peer in args.peer]
    if any(name not in PEER_OPTIONS for name, *_ in peers) or any(len(peer) != 2 for peer in peers):
        parser.error(f"a peer is NAME:INTERPRETER, NAME one of {', '.join(PEER_OPTIONS)}")
    if args.alpaca and not (args.tokenizer and peers):
        parser.error("--alpaca wants --tokenizer and a --peer")

    ours = {"llmtool": [], "llmtool q8_0": ["--base", "q8_0"]} if args.ours else {}
    commands = {name: ([str(args.ours)] + options, {}) for name, options in ours.items()}
    for name, interpreter in peers:
        commands[name] = ([interpreter, str(HERE / "peer/lora.py")] + PEER_OPTIONS[name],
                          FAST_DEBIAN if name == "debian" else {})
    common = ["--threads", str(args.threads), "--batch-size", "4"]
    compare(f"4 x 256 random tokens, {args.threads} threads", commands, ours,
            common + ["--sequence-length", "256", "--steps", str(args.steps)], args.rounds)
    if args.alpaca:
        with tempfile.TemporaryDirectory() as folder:
            rows = folder + "/rows.jsonl"
            subprocess.run([peers[0][1], str(HERE / "peer/alpaca_rows.py"), args.alpaca, args.tokenizer, rows],
                           check=True)
            compare(f"rows of {pathlib.Path(args.alpaca).name}, {args.threads} threads", commands, ours,
                    common + ["--rows", rows, "--steps", str(10 * args.steps)], args.rounds)


main()
