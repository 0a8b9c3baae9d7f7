#!/usr/bin/env python3
"""Holds llmtool's ids and texts against the tokenizers library, on random strings, for every type of model.

    check_tokenizers.py --llmtool build/dev/bin/llmtool [--seed 1] [--count 10000] [--tokenizer FILE]...
    check_tokenizers.py --text README.md --goldens tests/reference/goldens_tokenizers

Small tokenizers of each type are trained on the texts given by --text (and kept in --work). With --goldens, nothing is
checked, but smaller ones and their rows are written there.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)


def random_text(rng, special):
    parts = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.randrange(14)
        if kind == 0:
            parts.append("".join(chr(rng.randrange(0x20, 0x7F)) for _ in range(rng.randint(1, 20))))
        elif kind == 1:
            parts.append(rng.choice([" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2003", "\u180e", "\x85"])
                         * rng.randint(1, 9))
        elif kind == 2:
            parts.append("".join(chr(rng.randrange(0, 0x20)) for _ in range(rng.randint(1, 3))))
        elif kind == 3:  # any plane
            parts.append("".join(any_character(rng) for _ in range(rng.randint(1, 8))))
        elif kind == 4:
            parts.append("".join(chr(rng.randrange(0x4E00, 0xA000)) for _ in range(rng.randint(1, 6))))
        elif kind == 5:
            parts.append(rng.choice(["👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "🦢", "e\u0301", "ﬁ", "Å", "Ǆ", "İ", "ß", "ſ"]))
        elif kind == 6:
            parts.append(rng.choice(["for (int i = 0; i < n; ++i) {\n\t x[i] += 1.0f;\n}", "def f(x):\n    return x\n",
                                     "<s>text</s>", "it's we're I'LL don't 'tis", "http://a.b/c?d=e&f=%20"]))
        elif kind == 7:
            parts.append(str(rng.randrange(10 ** rng.randint(1, 12))))
        elif kind == 8:
            parts.append("".join(chr(rng.choice([0x300, 0x301, 0x327, 0x5B0, 0x94D, 0x1AB0, 0x20D0])) for _ in
                                 range(rng.randint(1, 3))))
        elif kind == 9:
            parts.append("".join(chr(rng.randrange(0x600, 0xE00)) for _ in range(rng.randint(1, 8))))
        elif kind == 10:
            parts.append(rng.choice("abcxyzé") * rng.randint(1, 40))
        elif kind == 11 and special:
            parts.append(rng.choice(special))
        else:
            parts.append(" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 8))))
    return "".join(parts)


def any_character(rng):
    while True:
        c = rng.randrange(0x110000)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


WORDS = ("the The THE of and to in a is that it for was on are as with his they at be this from I have or by one had "
         "not but what all were when we there can an your which their said if do will each about how up out them then "
         "she many some so these would other into has more her two like him see time could no make than first been its "
         "who now people my made over did down only way find use may water long little very after words called just "
         "where most know naïve façade Größe über Привет мир こんにちは 世界 안녕 مرحبا שלום").split()


def character_map():
    """The compiled rules of nmt_nfkc, as SentencePiece's trainer writes them."""
    import io
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["some words to train on"] * 10), model_writer=model,
                                             vocab_size=20, hard_vocab_limit=False, normalization_rule_name="nmt_nfkc", minloglevel=2)
    parsed = sentencepiece_model_pb2.ModelProto()
    parsed.ParseFromString(model.getvalue())
    return parsed.normalizer_spec.precompiled_charsmap


def trained(kind, files, size):
    if kind == "byte_level_bpe":
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        t.decoder = decoders.ByteLevel()
        t.post_processor = processors.ByteLevel(trim_offsets=False)
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|endoftext|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    elif kind == "split_bpe":  # Llama 3, Qwen
        t = Tokenizer(models.BPE(ignore_merges=True))
        t.normalizer = normalizers.NFC()
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|begin|>", "<|end|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    elif kind == "falcon_bpe":
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(False), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
        t.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|endoftext|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    elif kind in ("llama_bpe", "metaspace_bpe"):
        t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if kind == "llama_bpe":
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                       decoders.Strip(" ", 1, 0)])
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"] +
                                      [f"<0x{i:02X}>" for i in range(256)], limit_alphabet=200, max_token_length=16)
        t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                         special_tokens=[("<s>", 1)])
        t2 = Tokenizer(models.BPE(unk_token="<unk>"))
        t2.pre_tokenizer = pre_tokenizers.Metaspace()
        t2.train(files, trainer)
        state, learnt = json.loads(t.to_str()), json.loads(t2.to_str())
        state["model"]["vocab"], state["model"]["merges"] = learnt["model"]["vocab"], learnt["model"]["merges"]
        state["added_tokens"] = learnt["added_tokens"][:3]
        return Tokenizer.from_str(json.dumps(state))
    elif kind == "unk_bpe":  # characters that are not known; a suffix for the end of a word
        t = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
        t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
        t.pre_tokenizer = pre_tokenizers.Whitespace()
        t.decoder = decoders.WordPiece("##", False)
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["[UNK]"], end_of_word_suffix="</w>",
                                      limit_alphabet=80)
    elif kind in ("bert", "bert_cased"):
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=kind == "bert")
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=size,
                                            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    elif kind in ("unigram", "unigram_bytes", "t5"):
        t = Tokenizer(models.Unigram())
        t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
                                             normalizers.Replace(Regex(" {2,}"), " ")])
        t.pre_tokenizer = pre_tokenizers.Metaspace()
        if kind == "t5":
            t.normalizer = normalizers.Sequence([normalizers.Precompiled(character_map()), normalizers.Strip(False, True),
                                                 normalizers.Replace(Regex(" {2,}"), "▁")])
            t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        t.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>",
                                          special_tokens=["<unk>", "<s>", "</s>"])
    else:
        sys.exit(f"unknown kind {kind}")
    t.train(files, trainer)
    if kind.startswith("bert"):
        t.post_processor = processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")),
                                                     ("[CLS]", t.token_to_id("[CLS]")))
    if kind == "unigram_bytes":
        state = json.loads(t.to_str())
        state["model"]["byte_fallback"] = True
        known = {piece for piece, _ in state["model"]["vocab"]}
        state["model"]["vocab"] += [[f"<0x{i:02X}>", -20.0] for i in range(256) if f"<0x{i:02X}>" not in known]
        state["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}
        t = Tokenizer.from_str(json.dumps(state))
    if kind == "split_bpe":
        t.add_tokens([AddedToken("New York", single_word=True), AddedToken("<l>", lstrip=True),
                      AddedToken("<r>", rstrip=True, normalized=False)])
    if kind == "bert":
        t.add_tokens([AddedToken("Paris", normalized=True)])
    return t


KINDS = ["byte_level_bpe", "split_bpe", "falcon_bpe", "llama_bpe", "metaspace_bpe", "unk_bpe", "bert", "bert_cased",
         "unigram", "unigram_bytes", "t5"]


def rows_of(tokenizer, rng, count, add_special, parse_special):
    special = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    tokenizer.encode_special_tokens = not parse_special
    size = max(list(tokenizer.get_vocab().values()) + [0]) + 1
    known = [i for i in range(size) if tokenizer.id_to_token(i) is not None]
    for i in range(count):
        text = random_text(rng, special)
        ids = tokenizer.encode(text, add_special_tokens=add_special).ids
        yield {"text": text, "ids": ids, "decoded": tokenizer.decode(ids)}


def check(llmtool, model, tokenizer, seed, count, work, name):
    bad = 0
    for add_special, parse_special in ((True, True), (False, False)):
        rows = work / f"{name}.{int(add_special)}{int(parse_special)}.jsonl"
        with open(rows, "w", encoding="utf-8") as out:
            for row in rows_of(tokenizer, random.Random(seed), count, add_special, parse_special):
                out.write(json.dumps(row) + "\n")
        command = [llmtool, "tokenize", "check", str(model), "--against", str(rows),
                   "--add-special-tokens" if add_special else "--no-special-tokens",
                   "--parse-special" if parse_special else "--no-parse-special"]
        result = subprocess.run(command, capture_output=True, text=True)
        print(name, "with" if add_special else "without", "special tokens:", (result.stdout + result.stderr).strip()[-1500:], flush=True)
        bad += result.returncode != 0
    return bad


def write_goldens(folder, texts, seed):
    for kind in KINDS:
        if kind == "t5":
            continue  # its map of characters is larger than all else together
        place = folder / kind
        place.mkdir(parents=True, exist_ok=True)
        small = {"llama_bpe": 700, "metaspace_bpe": 700}.get(kind, 450)
        tokenizer = trained(kind, texts, small)
        tokenizer.save(str(place / "tokenizer.json"), pretty=False)
        for name, flag in (("with_special", True), ("without_special", False)):
            with open(place / f"{name}.jsonl", "w", encoding="utf-8") as out:
                for row in rows_of(tokenizer, random.Random(seed), 40, flag, flag):
                    out.write(json.dumps(row) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmtool", default="build/dev/bin/llmtool")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--tokenizer", action="append", default=[], help="a tokenizer.json")
    parser.add_argument("--text", action="append", default=[], help="a text to train the small tokenizers on")
    parser.add_argument("--work", help="folder for tokenizers and rows (default: a temporary one)")
    parser.add_argument("--goldens", help="folder to write goldens into")
    a = parser.parse_args()
    if a.goldens:
        return write_goldens(pathlib.Path(a.goldens), a.text, a.seed)
    work = pathlib.Path(a.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    bad = 0
    for file in a.tokenizer:
        bad += check(a.llmtool, file, Tokenizer.from_file(file), a.seed, a.count, work, pathlib.Path(file).name)
    if a.text:
        for kind in a.kind or KINDS:
            model = work / kind / "tokenizer.json"
            model.parent.mkdir(exist_ok=True)
            if not model.exists():
                trained(kind, a.text, 3000).save(str(model))
            bad += check(a.llmtool, model, Tokenizer.from_file(str(model)), a.seed, a.count, work, kind)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
