"""Trains each type of tokenizer and checks that tokenizer.json gives the ids of tokenizer.model on 10,000 random strings.

Needs transformers; run from the repository's root: python tests/reference/check_tokenizer_json.py BIN_FOLDER TEXT_FILE
"""

import json
import random
import subprocess
import sys
import tempfile

from transformers import AutoTokenizer


def random_strings(text, n):
    rng = random.Random(1)
    planes = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x4E00, 0x4FFF), (0x1F300, 0x1F6FF), (0x20000, 0x20100),
              (0xE000, 0xE010), (0x10FF00, 0x10FFFD), (1, 0x1F), (0x300, 0x36F)]
    for i in range(n):
        parts = []
        for _ in range(rng.randint(1, 8)):
            kind = rng.random()
            if kind < 0.5:
                at = rng.randrange(len(text) - 60)
                parts.append(text[at:at + rng.randint(1, 60)])
            elif kind < 0.6:
                parts.append(rng.choice([" ", "\n", "\t", "\r\n"]) * rng.randint(1, 6))
            else:
                low, high = rng.choice(planes)
                parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8))))
        yield "".join(parts).replace("\u2581", "_").replace("</s>", "").replace("<unk>", "")


def main():
    folder, path = sys.argv[1:]
    text = open(path, encoding="utf-8").read()
    strings = list(random_strings(text, 10000))
    rows = "\n".join(json.dumps({"text": s}) for s in strings)
    failed = False
    for kind in ["unigram", "bpe", "char"]:
        for extra in [[], ["--byte-fallback", "false"]]:
            with tempfile.TemporaryDirectory() as out:
                size = "0" if kind == "char" else "1000"
                subprocess.run([f"{folder}/tokenize", "train", "--input", path, "--model-type", kind, "--vocab-size", size,
                                "--output", out, "--quiet", *extra], check=True)
                ours = subprocess.run([f"{folder}/tokenize", "encode", "--model", out, "--input-format", "jsonl", "--field",
                                       "text", "--json"], input=rows, capture_output=True, text=True, check=True).stdout
                ours = [json.loads(line)["ids"] for line in ours.splitlines()]
                lines = "\n".join(json.dumps({"ids": ids}) for ids in ours)
                back = subprocess.run([f"{folder}/tokenize", "decode", "--model", out, "--input-format", "jsonl", "--json"],
                                      input=lines, capture_output=True, text=True, check=True).stdout
                back = [json.loads(line)["text"] for line in back.splitlines()]
                theirs = AutoTokenizer.from_pretrained(out)
                wrong = [s for s, ids in zip(strings, ours) if theirs.encode(s, add_special_tokens=False) != ids]
                lost = [s for s, t in zip(strings, back) if s != t]
                print(kind, *extra, len(ours), "strings,", len(wrong), "different,", len(lost), "not decoded to themselves")
                if wrong:
                    failed = True
                    print(repr(wrong[0]))
                    i = strings.index(wrong[0])
                    print(ours[i], theirs.encode(wrong[0], add_special_tokens=False), theirs.convert_ids_to_tokens(theirs.encode(wrong[0])))
                if kind != "char" and not extra and lost:
                    failed = True
                    print(repr(lost[0]))
    sys.exit(failed)


main()
