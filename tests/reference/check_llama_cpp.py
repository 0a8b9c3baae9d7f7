"""Checks that llama.cpp computes what llmtool does with the GGUF files that it writes.

  check_llama_cpp.py LLMTOOL MODEL[=ADAPTER]...

Needs llama-cpp-python. Each model folder is converted to GGUF (f32) by `LLMTOOL convert`, the PEFT folder of an adapter
likewise, which is then put beside both. They continue the same ids greedily, 20 tokens or what the file's context allows,
and must agree, the log-probabilities within 1e-3, as llama.cpp keeps keys and values in f16; of a model without a head
they make vectors, by mean and by the first position, that may differ by 1e-3 of the greatest value, as llama.cpp's GELU
is an approximation by tanh from a table of f16. What convert refuses is named and passed over.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp


def ours(llmtool, model, adapter, ids, n):
    row = json.dumps({"prompt_ids": ids})
    beside = ["--adapter", adapter] if adapter else []
    out = subprocess.run([llmtool, "generate", "--model", model, *beside, "-n", str(n), "--temperature", "0",
                          "--ignore-eos", "--input-format", "jsonl", "--json"], input=row, capture_output=True, text=True,
                         check=True)
    row = json.loads(out.stdout)
    return row["ids"], row["logprobs"]


def theirs(file, lora, ids, n):
    model = llama_cpp.Llama(str(file), n_ctx=64, verbose=False, n_threads=1, flash_attn=False, lora_path=lora)
    tokens = list(ids)
    model.reset()
    model.eval(tokens)
    found, logprobs = [], []
    for _ in range(n):
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)[:model.n_vocab()]
        best = max(range(model.n_vocab()), key=lambda i: logits[i])
        found.append(best)
        logprobs.append(-math.log(sum(math.exp(x - logits[best]) for x in logits)))
        model.eval([best])
    return found, logprobs


def our_vector(llmtool, model, ids, pooling):
    row = json.dumps({"prompt_ids": ids})
    out = subprocess.run([llmtool, "embed", "--model", model, "--pooling", pooling, "--input-format", "jsonl"], input=row,
                         capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["embedding"]


def their_vector(file, ids, pooling):
    kind = {"mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN, "cls": llama_cpp.LLAMA_POOLING_TYPE_CLS}[pooling]
    model = llama_cpp.Llama(str(file), n_ctx=48, verbose=False, n_threads=1, flash_attn=False, embedding=True,
                            pooling_type=kind)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    if llama_cpp.llama_encode(model.ctx, batch):
        raise RuntimeError("llama_encode failed")
    return llama_cpp.llama_get_embeddings_seq(model.ctx, 0)[:model.n_embd()]


def compare_vectors(llmtool, file, ids):
    """An empty text where they agree."""
    for pooling in ("mean", "cls"):
        expected, found = their_vector(file, ids, pooling), our_vector(llmtool, file, ids, pooling)
        difference = max(abs(a - b) for a, b in zip(expected, found, strict=True)) / max(map(abs, expected))
        print(f"{pooling}: {difference:.1e} of the greatest value apart")
        if difference > 1e-3:
            return f"{pooling}: {difference:.1e} of the greatest value apart"
    return ""


def compare_tokens(llmtool, file, adapter, lora, ids, context):
    n = min(20, context - len(ids))  # a lost window ends the context
    (expected, their_logprobs), (found, our_logprobs) = theirs(file, lora, ids, n), ours(llmtool, file, adapter, ids, n)
    if found != expected:
        return f"{found} here, {expected} there"
    difference = max(abs(a - b) for a, b in zip(our_logprobs, their_logprobs, strict=True))
    print(f"log-probabilities: {difference:.1e} apart")
    return "" if difference < 1e-3 else f"log-probabilities: {difference:.1e} apart"


def main():
    llmtool, failed = sys.argv[1], 0
    for argument in sys.argv[2:]:
        model, _, adapter = argument.partition("=")
        with tempfile.TemporaryDirectory() as place:
            file = pathlib.Path(place) / "model.gguf"
            done = subprocess.run([llmtool, "convert", model, str(file), "--dtype", "f32"], capture_output=True, text=True)
            if done.returncode:
                print(f"{argument}: not converted: {done.stderr.strip().splitlines()[-1]}")
                continue
            lora = str(pathlib.Path(place) / "adapter.gguf") if adapter else None
            if adapter:
                done = subprocess.run([llmtool, "convert", adapter, lora, "--model", model], capture_output=True, text=True)
                if done.returncode:
                    print(f"{argument}: not converted: {done.stderr.strip().splitlines()[-1]}")
                    continue
            info = json.loads(subprocess.run([llmtool, "info", str(file), "--json"], capture_output=True, text=True,
                                             check=True).stdout)
            ids = [1, 7, 20, 33]
            try:
                apart = (compare_vectors(llmtool, file, ids) if info["head"] == "none"
                         else compare_tokens(llmtool, file, adapter, lora, ids, info["context"]))
            except Exception as e:
                apart = f"llama.cpp does not open it: {e}"
            failed += bool(apart)
            print(f"{argument}: {apart or 'equal'}", flush=True)
    sys.exit(failed > 0)


main()
