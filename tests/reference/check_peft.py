"""Holds adapters and fine-tuning against the PEFT and TRL libraries.

  check_peft.py logits BASE ADAPTER FILE [--tolerance 1e-4]
  check_peft.py train BASE DATA [--init-adapter DIR] [--batch-size 4] [--steps N] [--learning-rate 1e-3] ...
  check_peft.py tokens BASE DATA [--max-length N] [--assistant-only]

Needs torch, transformers, peft, trl and safetensors.
logits: PEFT loads ADAPTER onto BASE; FILE (safetensors) has "ids" (T) or (B, T), or rows one behind the other with
  their "lengths", and our "logits", (T, V) or (B, T, V). Says the largest difference relative to the largest logit;
  fails above the tolerance, and where a tensor of the adapter is unknown to PEFT, which would ignore it, or missing.
train: one JSON line a step: the loss (the mean over the batch's trained tokens) and the total with AdaLoRA's
  regularisation. Rows in their order, from the start again at the end; without an adapter, full fine-tuning.
tokens: one JSON line a row, "ids" and "trained" (1 for targets), as TRL prepares {"prompt", "completion"}, {"text"} and
  {"messages"}.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import warnings

import peft
import torch
import transformers as hf
from make_peft_goldens import load_base, regularisation
from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers
from safetensors.torch import load_file


def base_for(base, adapter):
    """The model the adapter was made for: with its classes, if it has a head of its own, and its number of tokens."""
    config = peft.PeftConfig.from_pretrained(adapter)
    tensors = load_file(adapter / "adapter_model.safetensors")
    head = [t for name, t in tensors.items() if name.endswith(("score.weight", "classifier.weight"))]
    if config.task_type == "SEQ_CLS" and head:
        model = hf.AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32, num_labels=len(head[0]))
    else:
        model = load_base(base)
    tokens = [t for name, t in tensors.items() if name.endswith(("embed_tokens.weight", "wte.weight"))]
    if tokens and len(tokens[0]) != model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokens[0]), mean_resizing=False)
    return model, tensors


def load_adapter(base, adapter):
    """All its tensors in their places; ends the program if one is unknown or missing."""
    model, tensors = base_for(base, adapter)
    model = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    tensors = convert_peft_adapter_state_dict_for_transformers(model, model.peft_config["default"], tensors)  # experts
    found = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    known = {name: value.shape for name, value in found.items()} | {
        name: value.shape for name, value in model.state_dict().items() if "base_layer" in name or name in tensors}
    wrong = [f"unknown to PEFT: {name}" for name in tensors if name not in known]
    wrong += [f"missing: {name}" for name in found if name not in tensors]
    wrong += [f"{name}: {tuple(tensors[name].shape)}, PEFT's is {tuple(known[name])}" for name in tensors
              if name in known and tensors[name].shape != known[name]]
    if wrong:
        sys.exit("\n".join(wrong))
    return model


def check_logits(args):
    model = load_adapter(args.base, args.adapter)
    given = load_file(args.file)
    ids, ours = given["ids"].long(), given["logits"].double()
    rows = ids.split(given["lengths"].tolist()) if "lengths" in given else list(ids[None] if ids.dim() == 1 else ids)
    theirs = []
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=row[None]).logits.double()[0]
            theirs.append(logits[-len(row):] if logits.dim() == 2 else logits[None])  # without virtual tokens
    theirs = torch.cat(theirs)
    difference = float((ours.reshape(theirs.shape) - theirs).abs().max() / theirs.abs().max())
    print(f"{len(rows)} rows, {ids.numel()} tokens, the largest relative difference of a logit is {difference:.2e}")
    sys.exit(not difference <= args.tolerance)


def prepared(base, data, max_length, assistant_only):
    """TRL's rows, "input_ids" and "labels", and its collator."""
    import datasets
    import trl
    rows = [json.loads(line) for line in data.read_text().splitlines() if line.strip()]
    tokenizer = hf.AutoTokenizer.from_pretrained(base)
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.SFTConfig(output_dir=folder, use_cpu=True, report_to="none", max_length=max_length, bf16=False,
                                 assistant_only_loss=assistant_only, gradient_checkpointing=False)
        trainer = trl.SFTTrainer(load_base(base), args=settings, train_dataset=datasets.Dataset.from_list(rows),
                                 processing_class=tokenizer)
        return list(trainer.train_dataset), trainer.data_collator


def print_tokens(args):
    rows, _ = prepared(args.base, args.data, args.max_length, args.assistant_only)
    for row in rows:
        print(json.dumps(dict(ids=row["input_ids"], trained=[int(label != -100) for label in row["labels"]])))


def trainable(base, adapter):
    if adapter is None:
        return load_base(base), None
    model, tensors = base_for(base, adapter)
    config = peft.PeftConfig.from_pretrained(adapter)
    config.inference_mode = False
    if isinstance(config, peft.PromptLearningConfig):  # which PEFT loads for inference alone
        model = peft.get_peft_model(model, config)
        peft.set_peft_model_state_dict(model, tensors)
    else:
        model = peft.PeftModel.from_pretrained(model, str(adapter), is_trainable=True, config=config)
    return model, config


def train(args):
    rows, collate = prepared(args.base, args.data, args.max_length, args.assistant_only)
    model, config = trainable(args.base, args.init_adapter)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, betas=(args.beta1, args.beta2), eps=args.epsilon,
                                  weight_decay=args.weight_decay)
    schedule = hf.get_scheduler(args.schedule, optimizer, args.warmup_steps, args.steps)
    print(f"{len(rows)} rows, {sum(p.numel() for p in parameters)} trained parameters", file=sys.stderr)
    for step in range(args.steps):
        batch = collate([rows[i % len(rows)] for i in range(step * args.batch_size, (step + 1) * args.batch_size)])
        total = model(**batch).loss  # the mean over the labels that are not -100
        total.backward()
        loss = total - regularisation(model, config)
        if args.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
        optimizer.step()
        schedule.step()
        if getattr(config, "peft_type", None) == "ADALORA":
            model.base_model.update_and_allocate(step + 1)
        optimizer.zero_grad()
        print(json.dumps(dict(step=step + 1, loss=loss.item(), total=total.item())), flush=True)
    if args.output:
        model.save_pretrained(args.output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    logits = commands.add_parser("logits")
    logits.set_defaults(run=check_logits)
    logits.add_argument("base", type=pathlib.Path)
    logits.add_argument("adapter", type=pathlib.Path)
    logits.add_argument("file", type=pathlib.Path)
    logits.add_argument("--tolerance", type=float, default=1e-4)
    for name, run in (("train", train), ("tokens", print_tokens)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("base", type=pathlib.Path)
        command.add_argument("data", type=pathlib.Path, help="JSON lines")
        command.add_argument("--max-length", type=int, default=1024)
        command.add_argument("--assistant-only", action="store_true", help="of messages train the assistant's turns")
        if name == "train":
            command.add_argument("--init-adapter", type=pathlib.Path)
            command.add_argument("--output", type=pathlib.Path, help="a folder for what was trained")
            for option, kind, default in (("steps", int, 30), ("batch-size", int, 4), ("learning-rate", float, 1e-3),
                                          ("beta1", float, 0.9), ("beta2", float, 0.999), ("epsilon", float, 1e-8),
                                          ("weight-decay", float, 0.0), ("warmup-steps", int, 0),
                                          ("max-grad-norm", float, 1.0)):
                command.add_argument("--" + option, type=kind, default=default)
            command.add_argument("--schedule", choices=["constant", "constant_with_warmup", "linear", "cosine"],
                                 default="constant")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    args.run(args)


if __name__ == "__main__":
    main()
