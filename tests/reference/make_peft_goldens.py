"""Makes tests/reference/goldens_peft: PEFT's adapters on tiny random models, and what that library computes with them.

  make_peft_goldens.py [--family llama_gqa] [--method dora] [--seed 7] [--out tests/reference/goldens_peft]

Needs torch, transformers, peft and safetensors; run from the repository's root. The bases are those of make_goldens.py,
by a path in golden.json; one that is not among them lies in bases/. examples.jsonl and examples_classes.jsonl hold what
all train on, two rows a step: "ids" with "trained" (1: this token is a target), or "ids" with "label".

FAMILY_METHOD/ holds initial/ and trained/ (PEFT's folders before and after 30 steps of AdamW; every value of the first
is random, so that none hides a mistake; of PiSSA the first is what PEFT's SVD makes, the second turned into plain LoRA;
"full" has neither), golden.json (settings) and golden.safetensors:
  ids, lengths      the first two rows, one behind the other
  logits            of them with initial/; of a language model (their sum, V), without rows of virtual tokens
  logits_trained    with trained/
  grad.NAME         of the first step's loss, by the names of the files
  losses            (30,): the sum of the targets' cross-entropies over their count, of a step's two rows together
  losses_total      (30,): with AdaLoRA's orthogonal regularisation, which is what is minimised
  kept              (30, M, init_r) bytes of AdaLoRA: what the pattern keeps after each step, M as "modules" names them
answers.json holds, of every trained/ of a language model, the ids that PEFT's generate makes greedily of the same prompt,
and their log-probabilities; --answers writes it alone.
Of float64_difference in golden.json: the largest relative difference of the losses of the same run in double.
"""

import argparse
import copy
import json
import os
import pathlib
import shutil
import tempfile
import warnings

import peft
import torch
import transformers as hf
from make_goldens import GQA, MODELS, make, randomise
from safetensors.torch import load_file, save_file

STEPS, VOCABULARY, CLASSES = 30, 61, 3
OPTIMIZER = dict(name="AdamW", learning_rate=0.01, betas=[0.9, 0.999], epsilon=1e-8, weight_decay=0.0,
                 schedule="constant")
GOLDENS = pathlib.Path("tests/reference/goldens")

# PEFT's adaption prompt wants heads * head_dim to be the width.
MODELS["mistral_square"] = ("Mistral", GQA | dict(sliding_window=8))

# The modules of a layer's query and value, all on one module of layer 1, and IA3's where PEFT has no default.
FAMILIES = {
    "llama_gqa": (["q_proj", "v_proj"], "q_proj", r"layers\.1\.mlp\.(up|down)_proj", {}),
    "mistral_square": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "gpt2": (["c_attn"], "c_attn", r"h\.1\.mlp\.c_(fc|proj)", {}),
    "falcon_40b": (["query_key_value"], "query_key_value", "h.1.mlp.dense_4h_to_h", {}),
    "falcon_7b": (["query_key_value"], "query_key_value", "h.1.mlp.dense_4h_to_h", {}),
    "falcon_rw": (["query_key_value"], "query_key_value", "h.1.mlp.dense_4h_to_h", {}),
    "phi3": (["qkv_proj"], "qkv_proj", "layers.1.mlp.gate_up_proj",
             dict(target_modules=["qkv_proj", "gate_up_proj", "mlp.down_proj"], feedforward_modules=["mlp.down_proj"])),
    "gemma2": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "qwen3": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "mixtral": (["q_proj", "v_proj"], "q_proj", "layers.1.self_attn.o_proj", {}),
    "mistral": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "qwen2": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "gemma3": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "olmo2": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "stablelm": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
    "bloom": (["query_key_value"], "query_key_value", "h.1.mlp.dense_4h_to_h", {}),
    "gpt_neox": (["query_key_value"], "query_key_value", "layers.1.mlp.dense_4h_to_h", {}),
    "qwen2_moe": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.shared_expert.down_proj", {}),
    "qwen3_moe": (["q_proj", "v_proj"], "q_proj", "layers.1.self_attn.o_proj", {}),
    "bert_classifier": (["query", "value"], "query", "layer.1.output.dense", {}),
    "llama_classifier": (["q_proj", "v_proj"], "q_proj", "layers.1.mlp.down_proj", {}),
}
DECODERS = ["llama_gqa", "gpt2", "falcon_40b", "falcon_7b", "phi3", "gemma2", "qwen3"]
ALPHA = dict(r=4, lora_alpha=6)


def lora(family, **settings):
    return peft.LoraConfig(**ALPHA | dict(target_modules=list(FAMILIES[family][0])) | settings)


def lora_all(family):
    _, first, second, _ = FAMILIES[family]
    return lora(family, target_modules="all-linear", rank_pattern={first: 3, second: 2}, alpha_pattern={second: 5},
                bias="lora_only")


def lora_experts(family):
    return lora(family, target_parameters=["mlp.experts.gate_up_proj", "experts.down_proj"],
                rank_pattern={"experts.gate_up_proj": 3}, alpha_pattern={r"layers\.1\..*down_proj": 4})


def lora_old_experts(family):
    layers = {"mixtral": ["gate", "w1", "w2", "w3"], "qwen3_moe": ["gate_proj", "up_proj", "down_proj"]}
    return lora(family, r=2, target_modules=["v_proj"] + layers[family])


def adalora(family):
    return peft.AdaLoraConfig(target_modules=list(FAMILIES[family][0]), init_r=4, target_r=2, tinit=5, tfinal=8,
                              deltaT=2, total_step=STEPS, lora_alpha=6, orth_reg_weight=0.1)


def prefix_tuning(family):
    # PEFT does not see that a Falcon has one key-value head, and fails unless it is told.
    one_head = dict(num_attention_heads=1, token_dim=6) if family == "falcon_7b" else {}
    return peft.PrefixTuningConfig(num_virtual_tokens=3, **one_head)


# method: what makes its configuration, and the families it is made for unless asked
METHODS = {
    "full": (lambda family: None, ["llama_gqa", "gpt2", "llama_classifier"]),
    "lora": (lora, DECODERS + ["mixtral", "qwen3_moe", "bert_classifier", "llama_classifier"]),
    "lora_all": (lora_all, ["llama_gqa", "gpt2", "phi3", "falcon_7b", "mistral", "qwen2", "gemma3", "olmo2", "stablelm",
                            "bloom", "gpt_neox", "mixtral", "qwen2_moe", "qwen3_moe", "bert_classifier"]),
    "lora_experts": (lora_experts, ["mixtral", "qwen2_moe", "qwen3_moe"]),
    # One of an expert's parameters alone in one layer, both in another; and the router.
    "rslora_experts": (lambda family: lora(family, use_rslora=True, target_modules=[], target_parameters=[
        "layers.1.mlp.experts.gate_up_proj", "experts.down_proj", "gate.weight"]), ["mixtral", "qwen3_moe"]),
    "lora_bias_all": (lambda family: lora(family, bias="all"), ["gpt2"]),
    "lora_layers": (lambda family: lora(family, layers_to_transform=[1], layers_pattern="layers"), ["llama_gqa"]),
    "lora_embedding": (lambda family: lora(family, target_modules=["embed_tokens", "q_proj", "lm_head"]),
                       ["llama_gqa"]),
    "lora_embedding_only": (lambda family: lora(family, target_modules=["embed_tokens"]), ["gemma2"]),
    "lora_modules_to_save": (lambda family: lora(family, modules_to_save=["embed_tokens", "lm_head"]), ["llama_gqa"]),
    "lora_tied": (lambda family: lora(family, modules_to_save=["embed_tokens"], ensure_weight_tying=True), ["gemma2"]),
    # Experts as transformers 4 had them: initial/ is of that form, trained/ as PEFT writes it now.
    "lora_old_experts": (lora_old_experts, ["mixtral", "qwen3_moe"]),
    "rslora": (lambda family: lora(family, use_rslora=True), ["llama_gqa", "gpt2"]),
    "dora": (lambda family: lora(family, use_dora=True), ["llama_gqa", "gpt2", "falcon_40b", "phi3"]),
    "pissa": (lambda family: lora(family, init_lora_weights="pissa"), ["llama_gqa", "gpt2"]),
    "adalora": (adalora, ["llama_gqa", "gpt2", "falcon_40b", "qwen3", "bert_classifier"]),
    "adaption_prompt": (lambda family: peft.AdaptionPromptConfig(adapter_len=3, adapter_layers=1),
                        ["llama_gqa", "mistral_square", "gpt2"]),
    "ia3": (lambda family: peft.IA3Config(**copy.deepcopy(FAMILIES[family][3])), DECODERS + ["bert_classifier"]),
    "prompt_tuning": (lambda family: peft.PromptTuningConfig(num_virtual_tokens=3), ["llama_gqa", "gpt2", "gemma2"]),
    "prefix_tuning": (prefix_tuning,
                      ["llama_gqa", "gpt2", "gemma2", "qwen3", "falcon_40b", "falcon_7b", "falcon_rw"]),
}


def examples(seed, classes):
    """Rows of unequal lengths of a language to learn, each id mostly deciding the next; the first ids are the prompt."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=generator))
    rows = []
    for _ in range(2 * STEPS):
        length, ids = draw(6, 19), [draw(0, VOCABULARY)]
        while len(ids) < length:
            ids.append(draw(0, VOCABULARY) if draw(0, 5) == 0 else (ids[-1] * 7 + 3) % VOCABULARY)
        prompt = draw(1, length - 2)
        rows.append(dict(ids=ids) | (dict(label=ids[0] % CLASSES) if classes else
                                     dict(trained=[0] * prompt + [1] * (length - prompt))))
    return rows


def load_base(path):
    config = json.loads((path / "config.json").read_text())
    # Falcon's eager attention adds ALiBi's bias twice.
    attention = "sdpa" if config.get("alibi") else "eager"
    return getattr(hf, config["architectures"][0]).from_pretrained(
        path, dtype=torch.float32, attn_implementation=attention, experts_implementation="eager")


def find_base(family, seed, out):
    """The committed base, or one made now."""
    if (GOLDENS / family).exists():
        return GOLDENS / family
    path = out / "bases" / family
    if not path.exists():
        torch.manual_seed(seed)
        model = make(*MODELS[family])
        randomise(model)
        model.save_pretrained(path)
    return path


def random_values(model):
    """Every trained value random: fresh ones are zeros and ones for the most part."""
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        noise = torch.randn_like(p)
        if "lora_B" in name or "lora_embedding_A" in name:
            p.data = 0.1 * noise  # with more, all-linear models are so rough that rounding grows through the 30 steps
        elif "lora_E" in name:
            p.data = 0.3 * noise
        elif "adaption_gate" in name:
            p.data = 1 + 0.3 * noise
        elif "lora_magnitude" in name or "ia3_l" in name:
            p.data *= 1 + 0.2 * noise
        elif "lora_A" in name or "lora_embedding_B" in name:
            p.data = 0.2 * noise
        elif "prompt" in name:
            p.data = 0.5 * noise
        else:  # biases and whole modules
            p.data += 0.05 * noise


def file_names(model):
    """The trained parameters by their names in the file."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    names = {}
    for name, p in trained.items():
        if name.startswith("prompt_encoder."):
            name = "prompt_embeddings"
        name = name.replace(".modules_to_save.default.", ".").removesuffix(".default").replace(".default.", ".")
        names[name.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")] = p
    return names


def logits_of(model, ids):
    """(T, V), or (1, classes): of the row alone, without the rows of virtual tokens."""
    logits = model(input_ids=torch.tensor([ids])).logits[0]
    return logits[-len(ids):] if logits.dim() == 2 else logits[None]


def row_loss(model, row):
    """The sum over the targets, and their count."""
    logits = logits_of(model, row["ids"])
    if "label" in row:
        return torch.nn.functional.cross_entropy(logits, torch.tensor([row["label"]])), 1
    targets = torch.tensor([t if on else -100 for t, on in zip(row["ids"], row["trained"])])[1:]
    return torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="sum"), int((targets >= 0).sum())


def regularisation(model, config):
    """AdaLoRA's: the mean Frobenius norm of what keeps the rows of A and the columns of B from being orthonormal."""
    if getattr(config, "peft_type", None) != "ADALORA":
        return torch.zeros(())
    factors = [p if "lora_A" in name else p.T for name, p in model.named_parameters()
               if "lora_A" in name or "lora_B" in name]
    norms = [torch.linalg.norm(f @ f.T - torch.eye(len(f), dtype=f.dtype)) for f in factors]
    return config.orth_reg_weight * torch.stack(norms).mean()


def check_regularisation(model, config, row):
    """Ours is PEFT's, which adds it to the loss it is asked for; and the loss itself is the one models compute."""
    ids = torch.tensor([row["ids"]])
    labels = (torch.tensor([row["label"]]) if "label" in row else
              torch.where(torch.tensor([row["trained"]]) > 0, ids, -100))
    loss, count = row_loss(model, row)
    with torch.no_grad():
        theirs = model(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(theirs, loss / count + regularisation(model, config), rtol=1e-5, atol=1e-6)


def train(model, config, rows):
    """Thirty steps; the losses, the first gradients and what AdaLoRA keeps."""
    trained = file_names(model)
    optimizer = torch.optim.AdamW(trained.values(), lr=OPTIMIZER["learning_rate"], betas=OPTIMIZER["betas"],
                                  eps=OPTIMIZER["epsilon"], weight_decay=OPTIMIZER["weight_decay"])
    result = dict(losses=[], losses_total=[])
    kept = []
    for step in range(STEPS):
        parts = [row_loss(model, row) for row in rows[2 * step:2 * step + 2]]
        loss = sum(part for part, _ in parts) / sum(count for _, count in parts)
        total = loss + regularisation(model, config)
        total.backward()
        if step == 0:
            result |= {"grad." + name: p.grad.clone() for name, p in trained.items()}
        optimizer.step()
        if getattr(config, "peft_type", None) == "ADALORA":
            model.base_model.update_and_allocate(step + 1)
            pattern = model.peft_config["default"].rank_pattern or {}
            names = sorted(name.removesuffix(".default") for name, _ in model.base_model.model.named_parameters()
                           if "lora_E" in name)
            kept.append([pattern.get(name + ".default", [True] * config.init_r) for name in names])
        optimizer.zero_grad()
        result["losses"].append(loss.item())
        result["losses_total"].append(total.item())
    result["losses"] = torch.tensor(result["losses"], dtype=torch.float64)
    result["losses_total"] = torch.tensor(result["losses_total"], dtype=torch.float64)
    if kept:
        result["kept"] = torch.tensor(kept).to(torch.uint8)
    return result


def tidy(folder, family):
    """No model card, no path, lists in one order."""
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | dict(base_model_name_or_path=family)
    for key in ("target_modules", "feedforward_modules", "target_parameters"):
        if isinstance(config.get(key), list):
            config[key].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save(model, folder, family, initial=None):
    """`initial` of PiSSA: the adapter before training, by which the trained one is turned into plain LoRA."""
    with tempfile.TemporaryDirectory() as scratch:
        other = {}
        if initial is not None:
            shutil.copytree(initial, pathlib.Path(scratch) / "initial")
            other = dict(path_initial_model_for_weight_conversion=scratch + "/initial")
        model.save_pretrained(folder, **other)
    tidy(folder, family)


def check_folder(base, folder, rows, expected):
    """What was saved gives the same when PEFT loads it."""
    model = peft.PeftModel.from_pretrained(load_base(base), str(folder)).eval()
    with torch.no_grad():
        found = torch.cat([logits_of(model, row["ids"]) for row in rows])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def write_old(base, family, config, folder):
    """Of experts, their router and v_proj, each layer of the base's file by itself."""
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        module = name.removesuffix(".weight")
        expert = ".experts." in module or module.endswith(("block_sparse_moe.gate", "v_proj"))
        if expert and module.rpartition(".")[2] in config.target_modules:
            prefix = "base_model.model." + module
            tensors[prefix + ".lora_A.weight"] = 0.2 * torch.randn(config.r, weight.shape[1])
            tensors[prefix + ".lora_B.weight"] = 0.1 * torch.randn(weight.shape[0], config.r)
    config.task_type = "CAUSAL_LM"
    config.save_pretrained(folder)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").touch()
    tidy(folder, family)


def initial_model(base, family, method, seed):
    """And its configuration; the base itself where there is no adapter. Every base is without dropout."""
    config = METHODS[method][0](family)
    if config is None:
        return load_base(base).train(), None
    config.task_type = "SEQ_CLS" if family.endswith("_classifier") else "CAUSAL_LM"
    torch.manual_seed(seed)
    if method == "lora_old_experts":
        with tempfile.TemporaryDirectory() as folder:
            write_old(base, family, config, pathlib.Path(folder))
            return peft.PeftModel.from_pretrained(load_base(base), folder, is_trainable=True).train(), config
    model = peft.get_peft_model(load_base(base), config)
    if method != "pissa":
        random_values(model)
    return model.train(), config


def in_double(model):
    model.config.dtype = torch.float64  # to which PEFT casts a prefix
    return model.double()


def write_golden(family, method, seed, out):
    base, folder = find_base(family, seed, out), out / f"{family}_{method}"
    examples_file = "examples_classes.jsonl" if family.endswith("_classifier") else "examples.jsonl"
    rows = examples(seed, family.endswith("_classifier"))
    (out / examples_file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model, config = initial_model(base, family, method, seed)

    def answers():
        with torch.no_grad():
            return torch.cat([logits_of(model, row["ids"]) for row in rows[:2]])

    golden = dict(ids=torch.tensor(rows[0]["ids"] + rows[1]["ids"]).int(),
                  lengths=torch.tensor([len(row["ids"]) for row in rows[:2]]).int(), logits=answers())
    if config is not None:
        if method == "lora_old_experts":
            (folder / "initial").mkdir()
            torch.manual_seed(seed)
            write_old(base, family, METHODS[method][0](family), folder / "initial")
        else:
            save(model, folder / "initial", family)
        check_folder(base, folder / "initial", rows[:2], golden["logits"])
        check_regularisation(model, config, rows[0])
    golden |= train(model, config, rows)
    golden["logits_trained"] = answers()
    if config is None:
        golden = {name: value for name, value in golden.items() if not name.startswith("grad.")}  # of make_goldens.py
    else:
        save(model, folder / "trained", family, folder / "initial" if method == "pissa" else None)
        check_folder(base, folder / "trained", rows[:2], golden["logits_trained"])

    double, double_config = initial_model(base, family, method, seed)
    again = train(in_double(double), double_config, rows)
    difference = float(((golden["losses"] - again["losses"]) / again["losses"]).abs().max())
    assert difference < 1e-5, f"{folder}: rounding alone moves the losses by {difference:.1e}: too rough for a golden"
    about = dict(family=family, method=method, base=os.path.relpath(base, folder), examples="../" + examples_file,
                 steps=STEPS, batch_size=2, optimizer=OPTIMIZER, trained_parameters=sum(
                     p.numel() for p in file_names(model).values()), float64_difference=float(f"{difference:.1e}"),
                 peft=peft.__version__, transformers=hf.__version__, torch=torch.__version__)
    if "kept" in golden:
        assert torch.equal(golden["kept"], again["kept"])
        about["modules"] = sorted(json.loads((folder / "trained/adapter_config.json").read_text())["rank_pattern"])
        about["first_step"] = 1  # the number given to update_and_allocate after the first step
        about["ranks"] = golden["kept"][-1].sum(-1).tolist()
    about |= {name: golden.pop(name).tolist() for name in ("losses", "losses_total")}
    (folder / "golden.json").write_text(json.dumps(about, indent=2) + "\n")
    save_file({k: v.detach().contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    largest = max(path.stat().st_size for path in folder.rglob("*"))
    print(f"{family}_{method}: loss {about['losses'][0]:.3f} to {about['losses'][-1]:.3f}, in double within "
          f"{difference:.1e}, largest file {largest / 1000:.0f} KB", flush=True)


def write_answers(out):
    """Twelve greedy tokens behind the same prompt, by every folder of a language model that is there."""
    prompt, answers = [5, 17, 42, 8], {}
    for folder in sorted(out.glob("*/trained")):
        about = json.loads((folder.parent / "golden.json").read_text())
        if about["family"].endswith("_classifier"):
            continue
        model = peft.PeftModel.from_pretrained(load_base(folder.parent / about["base"]), str(folder)).eval()
        made = model.generate(input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=int),
                              do_sample=False, max_new_tokens=12, min_new_tokens=12, eos_token_id=None, pad_token_id=0,
                              return_dict_in_generate=True, output_logits=True)
        ids = made.sequences[0, -12:].tolist()
        logprobs = [float(logits[0].log_softmax(-1)[i]) for logits, i in zip(made.logits, ids, strict=True)]
        answers[folder.parent.name] = dict(ids=ids, logprobs=[round(x, 6) for x in logprobs])
    lines = [f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()]
    (out / "answers.json").write_text(
        f'{{"prompt": {json.dumps(prompt)}, "answers": {{\n' + ",\n".join(lines) + "\n}}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=list(FAMILIES))
    parser.add_argument("--method", choices=list(METHODS))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/reference/goldens_peft"))
    parser.add_argument("--answers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    warnings.simplefilter("ignore")
    hf.utils.logging.disable_progress_bar()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.answers:
        return write_answers(args.out)
    for method, (_, families) in METHODS.items():
        for family in [args.family] if args.family and args.method else families:
            if args.method in (None, method) and args.family in (None, family):
                write_golden(family, method, args.seed, args.out)
    write_answers(args.out)


if __name__ == "__main__":
    main()
