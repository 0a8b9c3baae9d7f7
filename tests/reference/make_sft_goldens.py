"""Makes tests/reference/goldens_sft: rows for fine-tuning, and the ids and masks that TRL's SFTTrainer makes of them.

  make_sft_goldens.py [--seed 1] [--rows 6] [--out tests/reference/goldens_sft]

tests/golden/sft_test.cpp makes the same of them. To compare many rows, write them elsewhere and run the test on that
folder: make_sft_goldens.py --seed 7 --rows 500 --out DIR; LLMTOOL_SFT_GOLDENS=DIR golden_tests --gtest_filter='Sft*'.
Needs trl 1.16, transformers 5, datasets and torch.
"""

import argparse
import json
import pathlib
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

HERE = pathlib.Path(__file__).parent

# What an assistant says is marked, its end of turn with it.
CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

INST = """{{ bos_token }}{% for message in messages %}
{%- if message.role == 'assistant' %}{% generation %}{{ ' ' + message.content | trim + eos_token }}{% endgeneration %}
{%- elif message.role == 'system' %}{{ '<<SYS>>' + message.content + '<</SYS>>' }}
{%- else %}{{ '[INST] ' + message.content | trim + ' [/INST]' }}{% endif %}{% endfor %}"""

# Space behind <|end|> is the token's; the generation prompt is longer than what a conversation has there.
TAGS = """{% for message in messages %}{{ '<|' + message.role + '|>\\n' }}{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|end|>\\n' }}{% endgeneration %}{% else %}{{ message.content + '<|end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n<think>' }}{% endif %}"""

WORDS = ["the", "tide", "rises", "Größe", "12", "3.5", "?", "\n", "\n\n", "  ", "it's", "日本", "a", "b)", "<s>", "x" * 9,
         "🐟", "end.", "\t", "Don't", "–"]


def tokenizers():
    def make(base, bos, eos, extra, template):
        made = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "goldens_tokenizers" / base / "tokenizer.json"),
                                       bos_token=bos, eos_token=eos, pad_token=eos)
        made.add_special_tokens({"additional_special_tokens": extra})
        made.chat_template = template
        return made

    tags = [AddedToken(f"<|{role}|>", rstrip=True, normalized=False) for role in ("user", "assistant", "system")]
    end = AddedToken("<|end|>", rstrip=True, normalized=False)
    return {
        "chatml": make("byte_level_bpe", None, "<|endoftext|>", ["<|im_start|>", "<|im_end|>"], CHATML),
        "inst": make("llama_bpe", "<s>", "</s>", [], INST),
        "tags": make("metaspace_bpe", "<s>", "</s>", tags + [end], TAGS),
    }


def words(rng, least=0):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, 9)))


def turns(rng, pairs):
    made = [{"role": "system", "content": words(rng)}] if rng.random() < 0.3 else []
    for _ in range(pairs):
        made.append({"role": "user", "content": words(rng, 1)})
        made.append({"role": "assistant", "content": words(rng, 1)})
    return made


def text_row(rng, eos):
    return {"text": words(rng, 2) + (eos if rng.random() < 0.2 else "")}


def pair_row(rng, eos):
    joint = rng.choice(["", " ", "\n", ": "])
    completion = rng.choice(["", " "]) + words(rng, 1) + (eos if rng.random() < 0.2 else "")
    return {"prompt": words(rng, 1) + joint, "completion": completion}


def chat_pair_row(rng, eos):
    messages = turns(rng, rng.randint(1, 3))
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def messages_row(rng, eos):
    return {"messages": turns(rng, rng.randint(1, 3))}


def trl_examples(model, tokenizer, rows, assistant, max_length):
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(output_dir=folder, assistant_only_loss=assistant, max_length=max_length, use_cpu=True,
                             report_to="none", bf16=False)
        trainer = SFTTrainer(model=model, args=settings, train_dataset=Dataset.from_list(rows),
                             processing_class=tokenizer)
    made = []
    for example in trainer.train_dataset:
        mask = [int(label != -100) for label in example["labels"]]
        mask[0] = 0  # nothing predicts the first
        made.append({"ids": example["input_ids"], "trained": "".join(map(str, mask))})
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "goldens_sft")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    kinds = [("text", text_row, "completion", False), ("pair", pair_row, "completion", False),
             ("chat_pair", chat_pair_row, "completion", False), ("chat_pair", chat_pair_row, "assistant", True),
             ("messages", messages_row, "all", False), ("messages", messages_row, "assistant", True)]
    for name, tokenizer in tokenizers().items():
        rng = random.Random(f"{arguments.seed} {name}")
        model = LlamaForCausalLM(LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                             num_attention_heads=1, vocab_size=len(tokenizer)))
        cases = []
        for kind, make_row, loss_on, assistant in kinds:
            for max_length in (None, 24):
                rows = [make_row(rng, tokenizer.eos_token) for _ in range(arguments.rows)]
                examples = trl_examples(model, tokenizer, rows, assistant, max_length)
                cases.append({"kind": kind, "loss_on": loss_on, "max_length": max_length or 0, "rows": rows,
                              "examples": examples})
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder)
        (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
