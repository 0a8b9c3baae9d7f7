"""Checks that llama.cpp computes what llmtool does with the GGUF files that it writes.

  check_llama_cpp.py LLMTOOL MODEL...

Needs llama-cpp-python. Each model folder is converted to GGUF (f32) by `LLMTOOL convert`; both then continue the same ids
greedily, 20 tokens or what the file's context allows, and must agree. A model that convert refuses is named and passed over.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp


def ours(llmtool, model, ids, n):
    row = json.dumps({"prompt_ids": ids})
    out = subprocess.run([llmtool, "generate", "--model", model, "-n", str(n), "--temperature", "0", "--ignore-eos",
                          "--input-format", "jsonl", "--json"], input=row, capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["ids"]


def theirs(file, ids, n):
    model = llama_cpp.Llama(str(file), n_ctx=64, verbose=False, n_threads=1, flash_attn=False)
    tokens = list(ids)
    model.reset()
    model.eval(tokens)
    found = []
    for _ in range(n):
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        best = max(range(model.n_vocab()), key=lambda i: logits[i])
        found.append(best)
        model.eval([best])
    return found


def main():
    llmtool, failed = sys.argv[1], 0
    for model in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as place:
            file = pathlib.Path(place) / "model.gguf"
            done = subprocess.run([llmtool, "convert", model, str(file), "--dtype", "f32"], capture_output=True, text=True)
            if done.returncode:
                print(f"{model}: not converted: {done.stderr.strip().splitlines()[-1]}")
                continue
            info = subprocess.run([llmtool, "info", str(file), "--json"], capture_output=True, text=True, check=True)
            ids = [1, 7, 20, 33]
            n = min(20, json.loads(info.stdout)["context"] - len(ids))  # a lost window ends the context
            try:
                expected = theirs(file, ids, n)
            except Exception as e:
                print(f"{model}: llama.cpp does not open it: {e}")
                failed += 1
                continue
            found = ours(llmtool, model, ids, n)
            same = found == expected
            failed += not same
            print(f"{model}: {'equal' if same else f'{found} here, {expected} there'}", flush=True)
    sys.exit(failed > 0)


main()
