"""Checks that llama.cpp computes what llmtool does with the GGUF files that it writes.

  check_llama_cpp.py LLMTOOL [MODEL[=ADAPTER]...] [--tokenizer FILE]...

Needs llama-cpp-python. Each model folder is converted to GGUF (f32) by `LLMTOOL convert`, the PEFT folder of an adapter
likewise, which is then put beside both. They continue the same ids greedily, 20 tokens or what the file's context allows,
and must agree, the log-probabilities within 1e-3, as llama.cpp keeps keys and values in f16; of a model without a head
they make vectors, by mean and by the first position, that may differ by 1e-3 of the greatest value, as llama.cpp's GELU
is an approximation by tanh from a table of f16. What convert refuses is named and passed over.

Each --tokenizer (a folder or a file) goes into a GGUF file beside a golden's weights, of which llama.cpp reads the vocabulary
alone. Random strings must get the same ids there as from the tokenizer itself, but for what llama.cpp does otherwise with
every such file: it takes texts that are not in normal form C as they are, and its BERT drops all marks (not nonspacing ones
alone), takes other blanks for the line's, has a newer Unicode and no longest word. Such strings are counted, not held to
anything.
"""

import argparse
import json
import math
import pathlib
import random
import subprocess
import tempfile
import unicodedata

import llama_cpp

from check_tokenizers import random_text


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


def excepted(text, kind, normalizes):
    """Whether llama.cpp reads this text otherwise than the tokenizer does, whatever the file says."""
    if kind != "WordPiece":
        return normalizes and unicodedata.normalize("NFC", text) != text
    odd = any(unicodedata.category(c) in ("Mc", "Me", "Mn", "Cc", "Cf", "Cn", "Co") and c not in "\t\n\r" for c in text)
    new = any(unicodedata.category(c)[0] == "P" and c > "\u0900" for c in text)  # what Unicode calls so lately
    return odd or new or any(len(word) > 100 for word in text.split())


def our_ids(llmtool, model, texts, add_special, parse_special):
    rows = "\n".join(json.dumps({"text": text}) for text in texts)
    out = subprocess.run([llmtool, "tokenize", "encode", "--model", str(model), "--input-format", "jsonl",
                          "--add-special-tokens" if add_special else "--no-special-tokens",
                          "--parse-special" if parse_special else "--no-parse-special"], input=rows, capture_output=True,
                         text=True, check=True)
    return [[int(id) for id in line.split()] for line in out.stdout.split("\n")[:-1]]


def compare_tokenizer(llmtool, tokenizer, count):
    """What is wrong, or an empty text."""
    about = json.loads(subprocess.run([llmtool, "tokenize", "inspect", "--model", tokenizer, "--json"], capture_output=True,
                                      text=True, check=True).stdout)
    weights = pathlib.Path(__file__).parent / "goldens" / "llama_gqa"
    with tempfile.TemporaryDirectory() as place:
        file = pathlib.Path(place) / "vocabulary.gguf"
        done = subprocess.run([llmtool, "convert", str(weights), str(file), "--tokenizer", tokenizer], capture_output=True,
                              text=True, check=True)
        if "cannot hold" in done.stderr:
            print(f"{tokenizer}: not converted: {done.stderr.strip().splitlines()[0]}")
            return ""
        theirs = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
        rng = random.Random(1)
        special = list(about["special_tokens"])
        texts = [random_text(rng, special if i % 4 == 0 else []) for i in range(count)]
        texts = [text for text in texts if text and "\0" not in text]
        document = pathlib.Path(tokenizer, "tokenizer.json") if pathlib.Path(tokenizer).is_dir() else pathlib.Path(tokenizer)
        normalizes = document.suffix == ".json" and json.loads(document.read_text())["normalizer"] is not None
        held = [text for text in texts if not excepted(text, about["type"], normalizes)]
        wrong = []
        for add_special, parse_special in ((True, True), (False, False)):
            for text, found in zip(held, our_ids(llmtool, tokenizer, held, add_special, parse_special), strict=True):
                expected = theirs.tokenize(text.encode(), add_bos=add_special, special=parse_special)
                if found != expected:
                    wrong.append(f"{text!r}: {found} here, {expected} there")
        print(f"{tokenizer}: {len(held)} strings compared, {len(texts) - len(held)} of those that llama.cpp reads otherwise left out")
        return f"{len(wrong)} differ: {min(wrong, key=len)}" if wrong else ""


def convert(llmtool, *arguments):
    """Whether it did."""
    done = subprocess.run([llmtool, "convert", *arguments], capture_output=True, text=True)
    if done.returncode:
        print(f"{arguments[0]}: not converted: {done.stderr.strip().splitlines()[-1]}")
    return done.returncode == 0


def compare_model(llmtool, argument):
    """Whether they disagree."""
    model, _, adapter = argument.partition("=")
    with tempfile.TemporaryDirectory() as place:
        file, lora = pathlib.Path(place) / "model.gguf", None
        if not convert(llmtool, model, str(file), "--dtype", "f32"):
            return False
        if adapter:
            lora = str(pathlib.Path(place) / "adapter.gguf")
            if not convert(llmtool, adapter, lora, "--model", model):
                return False
        info = json.loads(subprocess.run([llmtool, "info", str(file), "--json"], capture_output=True, text=True,
                                         check=True).stdout)
        ids = [1, 7, 20, 33]
        try:
            apart = (compare_vectors(llmtool, file, ids) if info["head"] == "none"
                     else compare_tokens(llmtool, file, adapter, lora, ids, info["context"]))
        except Exception as e:
            apart = f"llama.cpp does not open it: {e}"
        print(f"{argument}: {apart or 'equal'}", flush=True)
        return bool(apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llmtool")
    parser.add_argument("model", nargs="*")
    parser.add_argument("--tokenizer", action="append", default=[])
    parser.add_argument("--count", type=int, default=1000, help="strings for each tokenizer")
    a = parser.parse_args()
    failed = 0
    for model in a.model:
        failed += compare_model(a.llmtool, model)
    for tokenizer in a.tokenizer:
        apart = compare_tokenizer(a.llmtool, tokenizer, a.count)
        failed += bool(apart)
        print(f"{tokenizer}: {apart or 'equal'}", flush=True)
    raise SystemExit(failed > 0)


main()
