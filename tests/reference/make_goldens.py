"""Makes tests/reference/goldens: tiny random models of the reference library, and what it computes with them.

Needs torch, transformers and safetensors; run from the repository's root. Each folder holds a model folder and
golden.safetensors: input_ids (B, T), logits, loss, the gradient of every parameter ("grad.NAME"), 20 greedy tokens after
the first row's first 8 ("greedy"), and of 50 AdamW steps the batches ("train.ids", (50, B, T + 1)) and losses.
"""

import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path("tests/reference/goldens")
COMMON = dict(vocab_size=61, initializer_range=0.08, bos_token_id=1, eos_token_id=2, attn_implementation="eager")
MODELS = {
    "llama_gqa": (LlamaForCausalLM, LlamaConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=48, tie_word_embeddings=False, rms_norm_eps=1e-5, **COMMON)),
    "llama_tied_bias": (LlamaForCausalLM, LlamaConfig(
        hidden_size=21, intermediate_size=36, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3,
        head_dim=10, max_position_embeddings=48, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
        rope_theta=500.0, rms_norm_eps=1e-6, **COMMON)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(
        n_embd=24, n_layer=2, n_head=3, n_positions=48, n_inner=50, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
        **COMMON)),
}


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


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, (cls, config) in MODELS.items():
        torch.manual_seed(7)
        model = cls(config).float().eval()
        randomise(model)
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        ids = torch.randint(0, config.vocab_size, (3, 38))
        logits, loss = loss_of(model, ids)
        loss.backward()
        golden = {"input_ids": ids.int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
        for parameter, p in model.named_parameters():
            golden["grad." + parameter] = p.grad.clone()
        greedy = model.generate(ids[:1, :8], max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0)
        golden["greedy"] = greedy[0, 8:].int()
        # A language to learn: each id mostly decides the next.
        batches = torch.zeros(50, 4, 17, dtype=torch.long)
        batches[:, :, 0] = torch.randint(0, config.vocab_size, (50, 4))
        for t in range(16):
            noise = torch.rand(50, 4) < 0.2
            follow = (batches[:, :, t] * 7 + 3) % config.vocab_size
            batches[:, :, t + 1] = torch.where(noise, torch.randint(0, config.vocab_size, (50, 4)), follow)
        golden["train.ids"] = batches.int()
        golden["train.losses"] = train(model, batches).float()
        save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
        print(name, sum(p.numel() for p in model.parameters()), float(loss), golden["train.losses"][-1].item())


main()
