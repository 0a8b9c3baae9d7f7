"""Makes tests/reference/goldens: tiny random models of the reference library, and what it computes with them.

  make_goldens.py [--family NAME] [--seed 7] [--out tests/reference/goldens]

Needs torch, transformers and safetensors; run from the repository's root. A family is a model_type (all its models) or
one model's name. Each folder holds a model folder and golden.safetensors. Of a model that generates: input_ids (B, T),
logits, loss, the gradient of every parameter ("grad.NAME"), 20 greedy tokens after the first row's first 8 ("greedy"),
and, of some, of 50 AdamW steps the batches ("train.ids", (50, B, T + 1)) and losses. Of one that reads whole texts:
sequences one behind the other (input_ids, lengths, token_types), the last layer's output ("hidden"), the pooler's
("pooled"), and with a head targets, logits, loss and gradients. The tests read fresh ones with LLMTOOL_GOLDENS=FOLDER.
"""

import argparse
import pathlib
import shutil

import torch
import transformers as hf
from safetensors.torch import save_file

COMMON = dict(vocab_size=61, initializer_range=0.08, bos_token_id=1, eos_token_id=2, pad_token_id=None,
              attn_implementation="eager")
SHAPE = dict(hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=48)
GQA = SHAPE | dict(num_key_value_heads=2)
SCALED = GQA | dict(tie_word_embeddings=True)
YARN = dict(rope_type="yarn", rope_theta=300.0, factor=3.0, original_max_position_embeddings=16, beta_fast=4.0)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0,
              original_max_position_embeddings=24)
LONGROPE = dict(rope_type="longrope", rope_theta=500.0, original_max_position_embeddings=16,
                short_factor=[1.0, 1.1, 1.3], long_factor=[1.5, 2.5, 4.0])
FALCON = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=48,
              ffn_hidden_size=36)
BERT = SHAPE | dict(type_vocab_size=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
LABELS = dict(id2label={0: "bad", 1: "fair", 2: "good"}, label2id=dict(bad=0, fair=1, good=2))

# name: the classes' name, settings, and the class's end where it is not ForCausalLM
MODELS = {
    "llama_gqa": ("Llama", GQA | dict(intermediate_size=40, tie_word_embeddings=False, rms_norm_eps=1e-5)),
    "llama_tied_bias": ("Llama", SHAPE | dict(
        hidden_size=21, num_attention_heads=3, num_key_value_heads=3, head_dim=10, tie_word_embeddings=True,
        attention_bias=True, mlp_bias=True, rope_theta=500.0, rms_norm_eps=1e-6)),
    "gpt2": ("GPT2", dict(n_embd=24, n_layer=2, n_head=3, n_positions=48, n_inner=50, embd_pdrop=0.0, attn_pdrop=0.0,
                          resid_pdrop=0.0)),
    "llama_linear": ("Llama", SCALED | dict(rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=3.0))),
    "llama_dynamic": ("Llama", SCALED | dict(
        max_position_embeddings=16, rope_parameters=dict(rope_type="dynamic", rope_theta=500.0, factor=4.0))),
    "llama_llama3": ("Llama", SCALED | dict(rope_parameters=LLAMA3)),
    "llama_yarn": ("Llama", SCALED | dict(rope_parameters=YARN)),
    "mistral": ("Mistral", GQA | dict(sliding_window=8, head_dim=8)),
    "qwen2": ("Qwen2", GQA | dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)),
    "qwen3": ("Qwen3", GQA | dict(head_dim=8, attention_bias=True)),
    "gemma": ("Gemma", GQA | dict(num_key_value_heads=1, head_dim=8)),
    "gemma2": ("Gemma2", GQA | dict(head_dim=8, sliding_window=8, query_pre_attn_scalar=12, attn_logit_softcapping=2.0,
                                    final_logit_softcapping=3.0)),
    "gemma3": ("Gemma3Text", GQA | dict(num_hidden_layers=3, head_dim=8, sliding_window=8, query_pre_attn_scalar=12,
                                        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                                        rope_parameters=dict(full_attention=dict(rope_type="linear", factor=2.0,
                                                                                 rope_theta=3000.0),
                                                             sliding_attention=dict(rope_type="default",
                                                                                    rope_theta=100.0)))),
    "phi3": ("Phi3", GQA | dict(hidden_size=32, sliding_window=8, partial_rotary_factor=0.5)),
    # Beyond the trained context, which the greedy tokens cross on their way, and within it.
    "phi3_longrope": ("Phi3", GQA | dict(rope_parameters=LONGROPE, original_max_position_embeddings=16)),
    "phi3_short": ("Phi3", GQA | dict(rope_parameters=LONGROPE | dict(original_max_position_embeddings=40),
                                      original_max_position_embeddings=40)),
    "falcon_7b": ("Falcon", FALCON | dict()),
    "falcon_40b": ("Falcon", FALCON | dict(new_decoder_architecture=True, num_kv_heads=2)),
    "falcon_11b": ("Falcon", FALCON | dict(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1)),
    # Its eager attention adds the bias twice, once within the mask.
    "falcon_rw": ("Falcon", FALCON | dict(alibi=True, multi_query=False, parallel_attn=False, bias=True,
                                          attn_implementation="sdpa")),
    "bloom": ("Bloom", dict(hidden_size=24, n_layer=2, n_head=3, seq_length=48)),
    "gpt_neox": ("GPTNeoX", SHAPE | dict(hidden_size=32, rotary_pct=0.5, hidden_act="gelu")),
    "gpt_neox_sequential": ("GPTNeoX", SHAPE | dict(rotary_pct=1.0, use_parallel_residual=False)),
    "olmo2": ("Olmo2", GQA),
    "stablelm": ("StableLm", GQA | dict(use_qkv_bias=True, partial_rotary_factor=0.5, hidden_size=32)),
    "stablelm_parallel": ("StableLm", GQA | dict(use_parallel_residual=True, partial_rotary_factor=1.0)),
    "mixtral": ("Mixtral", GQA | dict(intermediate_size=12, num_local_experts=3, num_experts_per_tok=2, head_dim=8)),
    "qwen2_moe": ("Qwen2Moe", GQA | dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12,
                                         shared_expert_intermediate_size=16, decoder_sparse_step=2, use_sliding_window=True,
                                         sliding_window=8, max_window_layers=2)),
    "qwen3_moe": ("Qwen3Moe", GQA | dict(head_dim=8, num_experts=4, num_experts_per_tok=3, moe_intermediate_size=8,
                                         norm_topk_prob=True, mlp_only_layers=[0], use_sliding_window=True,
                                         sliding_window=8)),
    # As llama.cpp knows them: experts in every layer, no windows.
    "qwen2_moe_plain": ("Qwen2Moe", GQA | dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=8,
                                               shared_expert_intermediate_size=12)),
    "qwen3_moe_plain": ("Qwen3Moe", GQA | dict(head_dim=8, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=8,
                                               norm_topk_prob=True)),
    "bert": ("Bert", BERT, "Model"),
    "bert_masked": ("Bert", BERT, "ForMaskedLM"),
    "bert_masked_untied": ("Bert", BERT | dict(tie_word_embeddings=False, hidden_act="relu"), "ForMaskedLM"),
    "bert_classifier": ("Bert", BERT | LABELS, "ForSequenceClassification"),
    "llama_classifier": ("Llama", GQA | LABELS, "ForSequenceClassification"),
    "gpt2_classifier": ("GPT2", dict(n_embd=24, n_layer=2, n_head=3, n_positions=48, embd_pdrop=0.0, attn_pdrop=0.0,
                                     resid_pdrop=0.0) | LABELS, "ForSequenceClassification"),
}
FILE_NAMES = {"lm_head.weight": "embed_out.weight"}  # of GPT-NeoX, whose files keep the older name
TRAINED = ("llama_gqa", "llama_tied_bias", "gpt2")


def make(kind, settings, end="ForCausalLM"):
    config = getattr(hf, kind + "Config")(**COMMON | settings)
    if end != "ForCausalLM":
        return getattr(hf, kind + end)(config).float().eval()
    name = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(kind, kind + "ForCausalLM")
    return getattr(hf, name)(config).float().eval()


def randomise(model):
    """Norm weights and biases that matter: fresh ones are ones and zeros."""
    for name, p in model.named_parameters():
        if p.dim() == 1:
            p.data += 0.2 * torch.randn_like(p)


def loss_of(model, ids):
    logits = model(ids[:, :-1]).logits
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def train(model, batches):
    """Fifty steps as llmtool takes them: decay on matrices alone, gradients clipped to 1."""
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for ids in batches:
        optimizer.zero_grad()
        _, loss = loss_of(model, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def language(vocabulary):
    """Batches of a language to learn: each id mostly decides the next."""
    batches = torch.zeros(50, 4, 17, dtype=torch.long)
    batches[:, :, 0] = torch.randint(0, vocabulary, (50, 4))
    for t in range(16):
        noise = torch.rand(50, 4) < 0.2
        follow = (batches[:, :, t] * 7 + 3) % vocabulary
        batches[:, :, t + 1] = torch.where(noise, torch.randint(0, vocabulary, (50, 4)), follow)
    return batches


def in_files(model_type, name, gradient):
    """A parameter's gradient under the names that files have: experts one by one there, all in one tensor here."""
    mixtral = model_type == "mixtral"
    renamed = {".experts.gate_up_proj": ("w1", "w3") if mixtral else ("gate_proj", "up_proj"),
               ".experts.down_proj": ("w2",) if mixtral else ("down_proj",)}
    if mixtral:
        name = name.replace(".mlp.", ".block_sparse_moe.")
    if model_type == "gpt_neox":
        name = FILE_NAMES.get(name, name)
    for end, parts in renamed.items():
        if name.endswith(end):
            prefix = name.removesuffix(end) + ".experts"
            return {f"{prefix}.{i}.{part}.weight": value.clone() for i, expert in enumerate(gradient)
                    for part, value in zip(parts, expert.chunk(len(parts)))}
    return {name: gradient.clone()}


def write(golden, model, name, folder):
    save_file({k: v.detach().contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    print(name, sum(p.numel() for p in model.parameters()), "parameters, loss", float(golden.get("loss", torch.tensor(torch.nan)).detach()))


def write_encoder_golden(name, model, folder):
    """Each sequence alone, as no other influences it."""
    bert = model.config.model_type == "bert"
    lengths = [13, 1, 30, 7]
    sequences = [torch.randint(0, model.config.vocab_size, (1, n)) for n in lengths]
    types = [torch.randint(0, 3, (1, n)) for n in lengths]
    golden = {"input_ids": torch.cat(sequences, 1)[0].int(), "lengths": torch.tensor(lengths).int()}
    if bert:
        golden["token_types"] = torch.cat(types, 1)[0].int()
    inputs = [dict(input_ids=ids) | (dict(token_type_ids=t) if bert else {}) for ids, t in zip(sequences, types)]
    base = [model.base_model(**row) for row in inputs]
    golden["hidden"] = torch.cat([b.last_hidden_state[0] for b in base])
    if bert and base[0].pooler_output is not None:
        golden["pooled"] = torch.cat([b.pooler_output for b in base])
    if model.base_model is not model:
        logits = torch.cat([model(**row).logits.flatten(0, -2) for row in inputs])
        if logits.shape[0] == len(lengths):  # one per sequence
            targets = torch.tensor([2, 0, 1, 2])
        else:
            targets = torch.where(torch.rand(sum(lengths)) < 0.3, golden["input_ids"].long(), -1)
        loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1)
        loss.backward()
        golden |= {"logits": logits, "targets": targets.int(), "loss": loss.reshape(1)}
        golden |= {"grad." + parameter: p.grad for parameter, p in model.named_parameters() if p.grad is not None}
    write(golden, model, name, folder)


def write_golden(name, folder, seed):
    torch.manual_seed(seed)
    model = make(*MODELS[name])
    randomise(model)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if len(MODELS[name]) == 3:
        return write_encoder_golden(name, model, folder)
    vocabulary = model.config.vocab_size
    ids = torch.randint(0, vocabulary, (3, 38) if name in TRAINED else (2, 30))
    logits, loss = loss_of(model, ids)
    loss.backward()
    golden = {"input_ids": ids.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for parameter, p in model.named_parameters():
        for file_name, gradient in in_files(model.config.model_type, parameter, p.grad).items():
            golden["grad." + file_name] = gradient
    model.generation_config.eos_token_id = None
    # With a mask of its own: else ids that equal the padding's would be masked.
    greedy = model.generate(ids[:1, :8], attention_mask=torch.ones(1, 8, dtype=torch.long), max_new_tokens=20,
                            do_sample=False, pad_token_id=0)
    golden["greedy"] = greedy[0, 8:].int()
    if name in TRAINED:
        batches = language(vocabulary)
        golden["train.ids"] = batches.int()
        golden["train.losses"] = train(model, batches).float()
    write(golden, model, name, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/reference/goldens"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    chosen = [name for name, row in MODELS.items()
              if args.family in (None, name, getattr(hf, row[0] + "Config").model_type)]
    if not chosen:
        parser.error(f"no family {args.family}; there are {', '.join(MODELS)}")
    for name in chosen:
        write_golden(name, args.out / name, args.seed)


if __name__ == "__main__":
    main()
