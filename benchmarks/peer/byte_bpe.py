"""The training of bench_byte_bpe with Hugging Face's tokenizers, on one thread. Prints one JSON object."""
import argparse
import json
import os
import resource
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, decoders, processors
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

parser = argparse.ArgumentParser()
parser.add_argument("text")
parser.add_argument("--vocab-size", type=int, default=8000)
parser.add_argument("--output")
args = parser.parse_args()

tokenizer = Tokenizer(BPE())
tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = BpeTrainer(vocab_size=args.vocab_size, special_tokens=["<|endoftext|>"], show_progress=False,
                     initial_alphabet=ByteLevel.alphabet())
began = time.perf_counter()
tokenizer.train([args.text], trainer)
seconds = time.perf_counter() - began
if args.output:
    tokenizer.save(args.output)
print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "vocab_size": tokenizer.get_vocab_size()}))
