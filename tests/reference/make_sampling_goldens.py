"""Makes tests/reference/goldens_sampling/sampling.json: what llama.cpp's samplers and transformers' logits processors leave
of random logits.

  make_sampling_goldens.py [--gguf FILE] [--seed 11] [--out FILE]

Needs torch, transformers and llama-cpp-python; FILE is a GGUF file whose vocabulary stands behind DRY's breakers (that of
stories260K). A case holds the settings by generate's keys, logits, the tokens before (all of them an answer's), and the
probabilities that are left by id, computed in double from the logits that are left. DRY's cases with `breaker_texts` are
for that vocabulary. A case of mirostat is a chain of steps, each with the token that llama.cpp chose.
"""

import argparse
import ctypes
import json
import math
import pathlib
import random

import llama_cpp
import torch
from transformers.generation import logits_process as hf

ROWS = 30


def probabilities(logits):
    most = max(logits.values())
    weights = {i: math.exp(x - most) for i, x in logits.items() if x > -math.inf}
    total = sum(weights.values())
    return {i: w / total for i, w in sorted(weights.items())}


def single(values):
    """As the nearest float32, which both sides then read."""
    return [ctypes.c_float(v).value for v in values]


class LlamaCpp:
    def __init__(self, gguf):
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def dry(self, multiplier, base, allowed, last_n, breakers):
        texts = (ctypes.c_char_p * max(1, len(breakers)))(*[b.encode() for b in breakers])
        return llama_cpp.llama_sampler_init_dry(self.vocab, multiplier, base, allowed, last_n if last_n >= 0 else 4096,
                                                texts, len(breakers))

    @staticmethod
    def apply(sampler, logits, history=(), free=True):
        """The logits that are left, and the token that was selected."""
        for token in history:
            llama_cpp.llama_sampler_accept(sampler, token)
        data = (llama_cpp.llama_token_data * len(logits))(
            *[llama_cpp.llama_token_data(i, x, 0.0) for i, x in enumerate(logits)])
        array = llama_cpp.llama_token_data_array(data, len(logits), -1, False)
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        left = {array.data[i].id: array.data[i].logit for i in range(array.size)}
        chosen = array.data[array.selected].id if array.selected >= 0 else -1
        if free:
            llama_cpp.llama_sampler_free(sampler)
        return left, chosen


def hf_left(processor, logits, history=()):
    scores = torch.tensor([logits], dtype=torch.float64)
    left = processor(torch.tensor([list(history)], dtype=torch.long), scores)[0]
    return {i: x for i, x in enumerate(left.tolist())}


def cases_of(rng, llama):
    def logits(n=ROWS, width=2.5):
        return single([rng.gauss(0, width) for _ in range(n)])

    def history(n=24, kinds=8):
        return [rng.randrange(kinds) for _ in range(n)]

    def case(source, options, x, left, before=(), **more):
        p = {str(i): round(v, 9) for i, v in probabilities(left).items()}
        return {"source": source, "options": options, "logits": x, "history": list(before), "left": p, **more}

    def both(options, sampler, processor, x=None, before=()):
        x = x or logits()
        if sampler is not None:
            yield case("llama.cpp", options, x, llama.apply(sampler, x, before)[0], before)
        if processor is not None:
            yield case("transformers", options, x, hf_left(processor, x, before), before)

    for t in (0.3, 0.8, 1.7):
        yield from both({"temperature": t}, llama_cpp.llama_sampler_init_temp(t), hf.TemperatureLogitsWarper(t))
    for t, spread, exponent in ((1.0, 0.5, 1.0), (0.7, 0.7, 2.0), (0.4, 0.9, 0.5)):
        yield from both({"temperature": t, "dynatemp_range": spread, "dynatemp_exponent": exponent},
                        llama_cpp.llama_sampler_init_temp_ext(t, spread, exponent), None)
    for k in (1, 5, 29):
        yield from both({"top_k": k}, llama_cpp.llama_sampler_init_top_k(k), hf.TopKLogitsWarper(k))
    for p in (0.3, 0.8, 0.97):
        yield from both({"top_p": p}, llama_cpp.llama_sampler_init_top_p(p, 1), hf.TopPLogitsWarper(p))
        yield from both({"typical_p": p}, llama_cpp.llama_sampler_init_typical(p, 1), hf.TypicalLogitsWarper(p))
    for p in (0.02, 0.1, 0.6):
        yield from both({"min_p": p}, llama_cpp.llama_sampler_init_min_p(p, 1), hf.MinPLogitsWarper(p))
    for n in (0.5, 1.0, 2.0):
        yield from both({"top_n_sigma": n}, llama_cpp.llama_sampler_init_top_n_sigma(n), None)
    for threshold in (0.02, 0.1, 0.3):
        yield from both({"xtc_probability": 1, "xtc_threshold": threshold},
                        llama_cpp.llama_sampler_init_xtc(1.0, threshold, 1, 0), None)
    for p in (0.8, 1.3, 5.0):
        yield from both({"repetition_penalty": p}, llama_cpp.llama_sampler_init_penalties(ROWS, 64, p, 0, 0),
                        hf.RepetitionPenaltyLogitsProcessor(p), before=history())
    for last, repeat, frequency, presence in ((-1, 1.0, 0.3, 0.0), (64, 1.2, 0.2, 0.7), (9, 1.3, 0.4, 0.1)):
        yield from both({"repeat_last_n": last, "repetition_penalty": repeat, "frequency_penalty": frequency,
                         "presence_penalty": presence},
                        llama_cpp.llama_sampler_init_penalties(ROWS, 64 if last < 0 else last, repeat, frequency,
                                                               presence),
                        None, before=history())
    for words in ([[3]], [[0, 1], [2, 2, 3], [5]]):
        before = history(12, 3) + [2, 2]
        yield from both({"bad_words": words}, None, hf.NoBadWordsLogitsProcessor(words), before=before)
    bias = [(2, 1.5), (7, -3.0)]
    yield from both({"logit_bias": bias}, None, hf.SequenceBiasLogitsProcessor({(i,): b for i, b in bias}))
    for kinds, allowed, last, texts in ((2, 2, -1, []), (3, 1, -1, []), (2, 3, 10, []), (400, 1, -1, ["."]),
                                        (400, 1, -1, ["the", "a ", "\n"])):
        for _ in range(3 if texts else 1):
            before = history(40, kinds)
            if texts:  # parts of it come again, so that breakers matter
                before = [rng.choice(range(410, 430)) for _ in range(6)] + before[:6]
                before = before + [rng.choice([426, 261, 262, 430, 425])] + before
            x = logits(512 if texts else ROWS)
            left = llama.apply(llama.dry(0.8, 1.75, allowed, last, texts), x, before)[0]
            if texts:  # what changed is what matters
                options_left = {i: v for i, v in left.items() if v != x[i] or i < ROWS}
                x = {i: x[i] for i in options_left}
                left = options_left
            else:
                x = dict(enumerate(x))
            # Logits of the tokens that are listed; the others are -infinity.
            item = case("llama.cpp", {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": allowed,
                                      "dry_penalty_last_n": last}, {str(i): v for i, v in x.items()}, left, before)
            item["breaker_texts"] = texts
            yield item
    for tau, eta in ((2.0, 0.3), (1.0, 0.1)):
        sampler = llama_cpp.llama_sampler_init_mirostat_v2(5, tau, eta)
        steps = []
        for _ in range(6):
            x = logits(20)
            left, chosen = llama.apply(sampler, x, free=False)
            steps.append({"logits": x, "left": {str(i): round(v, 9) for i, v in probabilities(left).items()},
                          "chosen": chosen})
        yield {"source": "llama.cpp", "options": {"mirostat": 2, "mirostat_tau": tau, "mirostat_eta": eta},
               "steps": steps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", default="../shared/data/weights/stories260K/stories260K.gguf")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", default="tests/reference/goldens_sampling/sampling.json")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    cases = list(cases_of(rng, LlamaCpp(args.gguf)))
    text = "[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n"
    pathlib.Path(args.out).write_text(text)
    print(len(cases), "cases,", len(text), "bytes")


if __name__ == "__main__":
    main()
