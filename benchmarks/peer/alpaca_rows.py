"""Tokens of alpaca rows for bench_finetune and peer/lora.py: alpaca_rows.py ALPACA.json SENTENCEPIECE.model OUT.jsonl

A line is {"ids": [...], "trained": [...]}: prompt and completion between the model's begin and end tokens, where 1 marks
a target: the completion and the end. Needs sentencepiece.
"""
import json
import sys

import sentencepiece

LONGEST = 1024

source, model, out = sys.argv[1:]
tokenizer = sentencepiece.SentencePieceProcessor(model_file=model)
with open(source, encoding="utf-8") as file, open(out, "w", encoding="utf-8") as rows:
    for row in json.load(file):
        given = f"\n\n### Input:\n{row['input']}" if row.get("input") else ""
        prompt = f"### Instruction:\n{row['instruction']}{given}\n\n### Response:\n"
        ids = [tokenizer.bos_id()] + tokenizer.encode(prompt)
        completion = tokenizer.encode(row["output"]) + [tokenizer.eos_id()]
        trained = [0] * len(ids) + [1] * len(completion)
        rows.write(json.dumps({"ids": (ids + completion)[:LONGEST], "trained": trained[:LONGEST]}) + "\n")
