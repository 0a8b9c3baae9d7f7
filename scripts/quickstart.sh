#!/usr/bin/env bash
# From a fresh clone to a model that writes: installs, builds, makes a corpus of the King James Bible, trains a
# tokenizer and a small Llama-shaped model on it (about three minutes on two cores), and lets it write. What is done
# already is used again.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release
bin=build/release/bin
run=runs/kjv
mkdir -p runs

corpus=runs/kjv.jsonl
if [ ! -s "$corpus" ]; then
  echo "== the corpus: a chapter a document" >&2
  # "Ge1:1 In the beginning ..." a verse a line, to {"text": "verse\nverse"} a chapter a line.
  bible -f gen1:1-rev22:21 | awk '
    { chapter = $1; sub(/:.*/, "", chapter); verse = $0; sub(/^[^ ]+ /, "", verse)
      gsub(/\\/, "\\\\", verse); gsub(/"/, "\\\"", verse); gsub(/\t/, " ", verse)
      if (chapter != last) { if (NR > 1) print "\"}"; printf "{\"text\": \"%s", verse; last = chapter }
      else printf "\\n%s", verse }
    END { print "\"}" }' >"$corpus.tmp"
  mv "$corpus.tmp" "$corpus"
fi

if [ ! -s "$run/tokenizer/tokenizer.model" ]; then
  echo "== the tokenizer" >&2
  "$bin/tokenize" train --input "$corpus" --model-type bpe --vocab-size 2048 --output "$run/tokenizer"
fi

if [ ! -s "$run/model/model.safetensors" ]; then
  echo "== the model" >&2
  resume=()
  [ -n "$(ls -A "$run/checkpoints" 2>/dev/null)" ] && resume=(--resume)
  "$bin/pretrain" --config configs/pretrain/kjv.json --data "$corpus" --output "$run" "${resume[@]}"
fi

echo "== validation loss" >&2
sed -n 's/.*"step":\([0-9]*\),"val_loss":\([0-9.]*\).*/  step \1: \2/p' "$run/metrics.jsonl"
echo "loss curve: $run/report.html"

echo "== three samples" >&2
"$bin/generate" --model "$run" --num-samples 3 -n 80 --temperature 0.7 --seed 1 --echo "In the beginning"
