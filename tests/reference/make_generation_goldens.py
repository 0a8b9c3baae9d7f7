#!/usr/bin/env python3
"""Writes tests/reference/goldens_generation.json: what transformers generates with the models of goldens/.

Of every model, greedy ids behind prompts of several lengths: the script itself holds that they are the same
with and without a cache, alone and in a batch padded on the left, and names models where the library's own
are not. And beam search: ids of all beams and their scores, for several settings, and for one within a form, by
prefix_allowed_tokens_fn, where every id but the stop id stands for a short text.
"""
import argparse
import itertools
import json
import pathlib

import regex
import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
LENGTHS, NEW = (3, 8, 21), 12
BEAMS = [dict(num_beams=3, length_penalty=1.0, early_stopping=False),
         dict(num_beams=4, length_penalty=0.3, early_stopping="never"),
         dict(num_beams=2, length_penalty=-1.0, early_stopping=True),
         dict(num_beams=5, length_penalty=2.0, early_stopping=True)]
HELD = dict(num_beams=3, form="([ab]{1,4}(c|dd)){2,3}d?")


def prompts_of(vocabulary):
    return [[(7 * i * i + 3 * i + 5 * n) % vocabulary for i in range(n)] for n in LENGTHS]


def run(model, ids, mask=None, **options):
    ids = torch.tensor(ids)
    mask = torch.ones_like(ids) if mask is None else torch.tensor(mask)
    return model.generate(ids, attention_mask=mask, pad_token_id=0, **{"max_new_tokens": NEW, "do_sample": False}, **options)


def greedy(name, model, prompts):
    model.generation_config.eos_token_id = None
    alone = [run(model, [p])[0, len(p):].tolist() for p in prompts]
    uncached = [run(model, [p], use_cache=False)[0, len(p):].tolist() for p in prompts]
    most = max(LENGTHS)
    padded = [[0] * (most - len(p)) + p for p in prompts]
    masks = [[0] * (most - len(p)) + [1] * len(p) for p in prompts]
    batched = run(model, padded, masks)[:, most:].tolist()
    for what, found in (("without a cache", uncached), ("in a batch", batched)):
        if found != alone:
            print(f"{name}: the library's ids differ {what}")
    return alone


def beams(model, prompts, answers):
    found = []
    for number, settings in enumerate(BEAMS):
        prompt = prompts[number % len(prompts)]
        # Ids that end answers: of those that come early, so that beams end at different lengths.
        answer = answers[number % len(prompts)]
        eos = sorted({answer[3], answer[5], (answer[0] + 1) % model.config.vocab_size})[: 1 + number % 3]
        r = run(model, [prompt], eos_token_id=eos, num_return_sequences=settings["num_beams"],
                output_scores=True, return_dict_in_generate=True, **settings)
        lists = []
        for row, score in zip(r.sequences[:, len(prompt):].tolist(), r.sequences_scores.tolist()):
            end = next((i for i, id in enumerate(row) if id in eos), len(row))
            lists.append(dict(ids=row[:end], stopped=end < len(row), score=round(score, 6)))
        found.append(dict(settings, prompt=number % len(prompts), stop_ids=eos, answers=lists))
    return found


def held_beams(model, prompts):
    # The stop id is 0; the others are texts of one letter, then of two, and so on.
    texts = ("".join(t) for n in range(1, 9) for t in itertools.product("abcd", repeat=n))
    pieces = [None] + list(itertools.islice(texts, model.config.vocab_size - 1))
    form, prompt = regex.compile(HELD["form"]), prompts[1]

    def allowed(_, ids):
        text = "".join(pieces[i] for i in ids[len(prompt):].tolist() if i)
        if 0 in ids[len(prompt):].tolist():
            return [0]
        goes_on = [i for i, p in enumerate(pieces) if p and form.fullmatch(text + p, partial=True)]
        return goes_on + ([0] if form.fullmatch(text) else [])

    r = run(model, [prompt], eos_token_id=[0], num_return_sequences=HELD["num_beams"], output_scores=True,
            return_dict_in_generate=True, prefix_allowed_tokens_fn=allowed, num_beams=HELD["num_beams"],
            length_penalty=1.0, early_stopping=False)
    answers = []
    for row, score in zip(r.sequences[:, len(prompt):].tolist(), r.sequences_scores.tolist()):
        end = next((i for i, id in enumerate(row) if id == 0), len(row))
        over = end < len(row) or allowed(0, torch.tensor(prompt + row)) == [0]  # by the form, at the limit
        answers.append(dict(ids=row[:end], stopped=over, score=round(score, 6)))
    return dict(HELD, prompt=1, answers=answers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", type=pathlib.Path, default=HERE / "goldens")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "goldens_generation.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    golden = {}
    for folder in sorted(args.goldens.iterdir()):
        config = AutoConfig.from_pretrained(folder)
        if not any("CausalLM" in a or "LMHead" in a for a in config.architectures):
            continue
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        prompts = prompts_of(model.config.vocab_size)
        answers = greedy(folder.name, model, prompts)
        golden[folder.name] = dict(prompts=prompts, greedy=answers, beams=beams(model, prompts, answers),
                                   held_beams=held_beams(model, prompts))
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in golden.items())
    args.out.write_text("{\n" + rows + "\n}\n")


if __name__ == "__main__":
    main()
