"""Makes tests/reference/goldens_byte_bpe from its corpus.txt: what the reference library learns on it.

Needs tokenizers; run from the repository's root. For each case of cases.json (vocab_size, min_frequency and user symbols)
NAME.merges has a merge a line, as "left right"; smallest.json is the whole file of the first case.
"""

import json
import os
import pathlib

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, decoders, processors
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

FOLDER = pathlib.Path("tests/reference/goldens_byte_bpe")
CASES = {
    "smallest": dict(vocab_size=290, min_frequency=0, user_symbols=[]),
    "whole": dict(vocab_size=8000, min_frequency=0, user_symbols=[]),  # ends when no pair is left
    "frequent": dict(vocab_size=8000, min_frequency=3, user_symbols=[]),
    # Symbols that merges come to, one that a byte has already, two that none can.
    "symbols": dict(vocab_size=400, min_frequency=2, user_symbols=["the", "a", "aaaa", "<|user|>", "日本"]),
}


def train(path, vocab_size, min_frequency, user_symbols):
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False,
                         special_tokens=["<|endoftext|>"] + user_symbols, initial_alphabet=ByteLevel.alphabet())
    tokenizer.train([str(path)], trainer)
    return tokenizer


def main():
    for name, case in CASES.items():
        tokenizer = train(FOLDER / "corpus.txt", **case)
        model = json.loads(tokenizer.to_str())["model"]
        text = "".join(f"{left} {right}\n" for left, right in model["merges"])
        (FOLDER / f"{name}.merges").write_text(text, encoding="utf-8", newline="\n")
        if name == "smallest":
            tokenizer.save(str(FOLDER / "smallest.json"))
        print(name, len(model["vocab"]), "tokens,", len(model["merges"]), "merges")
    (FOLDER / "cases.json").write_text(json.dumps(CASES, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


main()
