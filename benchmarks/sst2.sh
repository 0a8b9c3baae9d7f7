#!/bin/bash
# The real task: a small Llama pretrained here in minutes, then taught SST-2's sentiment by full fine-tuning and by
# LoRA, as a classifier and as a completion; each beside the majority class and the same model prompted.
#
#   benchmarks/sst2.sh BIN SST2 TEXT OUT
#
# BIN holds llmtool; SST2 holds train.tsv and dev.tsv (sentence, label); TEXT is a book for the pretraining beside the
# sentences of train.tsv; OUT gets models, logs and the table, which is printed at the end; what it
# holds already is not trained again.
set -euo pipefail
bin=$1 sst2=$2 text=$3 out=$4
mkdir -p "$out/text"
cp "$text" "$out/text/book.txt"
cut -f1 "$sst2/train.tsv" > "$out/text/sentences.txt"

pretrain() {
  "$bin/llmtool" pretrain --data "$out/text" --output "$out/base" --quiet \
    --set model.model_type=llama --set model.hidden_size=128 --set model.intermediate_size=336 \
    --set model.num_hidden_layers=4 --set model.num_attention_heads=4 --set model.max_position_embeddings=128 \
    --set model.tie_word_embeddings=true --set tokenizer.model_type=bpe --set tokenizer.vocab_size=2000 \
    --set tokenizer.byte_fallback=true --set training.max_steps=1800 --set training.batch_size=16 \
    --set training.sequence_length=96 --set training.learning_rate=3e-3 --set training.min_learning_rate=3e-4 \
    --set training.warmup_steps=40 --set training.save_steps=0 --set evaluation.steps=600
}

# finetune NAME ARGUMENTS...
finetune() {
  local name=$1
  shift
  if [ -e "$out/$name/report.html" ]; then return; fi
  "$bin/llmtool" finetune --model "$out/base/model" --data "$sst2/train.tsv" --output "$out/$name" \
    --set "data.validation=[\"$sst2/dev.tsv\"]" --set 'data.columns=["sentence","label"]' \
    --set data.label_column=label --set 'data.labels=["negative","positive"]' \
    --set training.batch_size=16 --set training.sequence_length=128 --set training.lr_scheduler_type=linear \
    --set training.warmup_steps=40 --set training.save_steps=0 --set evaluation.steps=0 \
    --allow duplicate --allow leak "$@" > "$out/$name.log" 2>&1
}
full=(--full --set training.learning_rate=5e-4 --set training.num_train_epochs=2)
lora=(--lora --set 'adapter.target_modules=["embed_tokens","q_proj","v_proj"]' --set adapter.r=4
      --set adapter.lora_alpha=16 --set training.learning_rate=2e-3 --set training.num_train_epochs=3)
completion=(--set data.label_as=completion --set 'data.prompt_template="{sentence}\nSentiment:"')

[ -d "$out/base/model" ] || pretrain
finetune classifier-full "${full[@]}"
finetune classifier-lora "${lora[@]}"
finetune completion-full "${full[@]}" "${completion[@]}"
finetune completion-lora "${lora[@]}" "${completion[@]}"

# accuracy NAME SPACE ...: how often the likelier label behind the prompt is the right one. A completion is taught as it
# stands, right behind the prompt; a model that is only prompted expects a space.
printf 'Review: {sentence}\nSentiment:' > "$out/asked.txt"
printf '{sentence}\nSentiment:' > "$out/taught.txt"
{ printf 'sentence\tlabel\n'; cat "$sst2/dev.tsv"; } > "$out/dev.tsv"
{ printf 'sentence\tlabel\n'; sed -e 's/\t1$/\t positive/' -e 's/\t0$/\t negative/' "$sst2/train.tsv"; } > "$out/shots.tsv"
accuracy() {
  local name=$1 space=$2
  shift 2
  "$bin/llmtool" generate --input "$out/dev.tsv" --output "$out/$name.jsonl" --overwrite --quiet \
    --choices "${space}negative,${space}positive" "$@"
  awk -v name="$name" '{ right += /"label":"?0"?,/ ? /"choice":" ?negative"/ : /"choice":" ?positive"/ }
    END { printf "%-28s %.4f of %d\n", name, right / NR, NR }' "$out/$name.jsonl"
}
classifier() {
  printf '%-28s %s, trained %s\n' "$1" "$(grep -o 'accuracy [0-9.]*' "$out/$1.log" | tail -1)" \
    "$(grep -o 'trained: .*' "$out/$1.log" | cut -d' ' -f2-)"
}

{
  awk -F'\t' '{ n[$2]++ } END { m = n[0] > n[1] ? n[0] : n[1]; printf "%-28s %.4f of %d\n", "majority", m / NR, NR }' \
    "$sst2/dev.tsv"
  accuracy prompted " " --model "$out/base/model" --template "$out/asked.txt"
  accuracy prompted-2-shots " " --model "$out/base/model" --template "$out/taught.txt" --shots "$out/shots.tsv" \
    --num-shots 2 --shot-selection bm25 --truncate left
  accuracy completion-full-answers "" --model "$out/completion-full" --template "$out/taught.txt"
  accuracy completion-lora-answers "" --model "$out/base/model" --adapter "$out/completion-lora/adapter" \
    --template "$out/taught.txt"
  classifier classifier-full
  classifier classifier-lora
} | tee "$out/table.txt"
