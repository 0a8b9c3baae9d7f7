"""Loads a model folder with transformers and compares logits (as log-probabilities) and ids with ours.

Needs torch and transformers: python tests/reference/check_hf_load.py BIN_FOLDER MODEL_FOLDER TEXT_FILE
"""

import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    folder, path, text_file = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    lines = [line for line in open(text_file, encoding="utf-8").read().splitlines() if len(line) > 20][:20]
    rows = "\n".join(json.dumps({"prompt": line[:60]}) for line in lines)
    out = subprocess.run([f"{folder}/generate", "--model", path, "--input-format", "jsonl", "-n", "0", "--echo",
                          "--logprobs", "1", "--json"], input=rows, capture_output=True, text=True, check=True).stdout
    worst = 0.0
    for line, row in zip(lines, map(json.loads, out.splitlines())):
        ids = row["prompt_ids"]
        assert tokenizer.encode(line[:60]) == ids, (line, ids)
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for i, value in enumerate(row["prompt_logprobs"][1:]):
            worst = max(worst, abs(logprobs[i, ids[i + 1]].item() - value))
    print(f"{len(lines)} texts, the largest difference of a log-probability is {worst:.2e}")
    sys.exit(worst > 1e-4)


main()
