#!/usr/bin/env python3
"""Runs bench_step and its PyTorch peers in turn, several rounds, and prints the medians and their ratios.

  benchmarks/compare.py --peer debian:/usr/bin/python3 --peer pypi:VENV/bin/python --peer compiled:VENV/bin/python

A peer is NAME:INTERPRETER. One called "debian" runs with the settings that make Debian's PyTorch fast (OpenBLAS with
OpenMP, bound threads, memory kept by malloc), one called "compiled" with torch.compile. "llmtool -m" is ours with
gradient checkpointing.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
FAST_DEBIAN = {"OMP_PROC_BIND": "true", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184",
               "MALLOC_TOP_PAD_": "268435456", "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu/openblas-openmp"}
CASES = {"gpt2-124m": ["--batch-size", "4"], "llama-6m": ["--batch-size", "16"]}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--ours", default=HERE.parent / "build/benchmark/bin/bench_step")
parser.add_argument("--peer", action="append", default=[])
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--model", action="append", choices=list(CASES))
args = parser.parse_args()

commands = {"llmtool": ([str(args.ours)], {}), "llmtool -m": ([str(args.ours), "--gradient-checkpointing"], {})}
for peer in args.peer:
    name, interpreter = peer.split(":", 1)
    command = [interpreter, str(HERE / "peer/step.py")] + (["--compile"] if name == "compiled" else [])
    commands[name] = (command, FAST_DEBIAN if name == "debian" else {})

for model in args.model or CASES:
    results = {name: [] for name in commands}
    options = ["--model", model, "--threads", str(args.threads), "--steps", str(args.steps), "--sequence-length", "256"]
    for _ in range(args.rounds):
        for name, (command, settings) in commands.items():
            out = subprocess.run(command + options + CASES[model], env=os.environ | settings, check=True,
                                 stdout=subprocess.PIPE).stdout
            results[name].append(json.loads(out.decode().strip().splitlines()[-1]))
    print(f"{model}, {args.threads} threads, medians of {args.rounds} rounds")
    medians = {name: [statistics.median(row[key] for row in rows) for key in ("tokens_per_second", "peak_mb")]
               for name, rows in results.items()}
    for name, (speed, memory) in medians.items():
        print(f"  {name:10} {speed:9.1f} tokens/s  {memory:8.1f} MB")
    for ours in ("llmtool", "llmtool -m"):
        for peer in [name for name in medians if name not in ("llmtool", "llmtool -m")]:
            print(f"  {ours:10} : {peer:8} {medians[ours][0] / medians[peer][0]:.2f} times the speed, "
                  f"{medians[ours][1] / medians[peer][1]:.2f} of the memory", flush=True)
