// Transformer: frozen matrices in fewer bits than files have them.

#include "llmtool/core/error.h"
#include "llmtool/kernels/convert.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
/// The weights of a block's linear parts, in the order of the store, so that neighbours stay neighbours.
void add_weights(const Block& block, std::vector<Param*>& list) {
  const auto add = [&](const Linear& linear) {
    for (const Linear::Part& part : linear.parts()) list.push_back(part.weight);
  };
  for (const Linear* linear : {&block.qkv, &block.out, &block.up, &block.down}) add(*linear);
  for (const GatedMlp& expert : block.experts.experts) add(expert.up), add(expert.down);
  add(block.experts.shared.up), add(block.experts.shared.down);
}

/// What the embedding and the head become: 4 bits there cost more than they save.
DType outer_type(DType type) {
  const DTypeBlock block = dtype_block(type);
  return block.bytes < block.elements ? DType::q8_0 : type;
}
}  // namespace

void Transformer::Impl::quantize(DType type) {
  std::vector<Param*> candidates;
  for (const Block& block : blocks) add_weights(block, candidates);
  candidates.push_back(embedding);
  if (config.head == HeadKind::language_model && head != embedding) candidates.push_back(head);
  size_t bytes = 0;
  for (Param* const p : candidates) {
    const bool outer = p == embedding || p == head;
    const DType wanted = outer ? outer_type(type) : type;
    if (p->trainable) continue;
    if (p->value.cols() % dtype_block(wanted).elements != 0) {
      ++quantized.kept;
      continue;
    }
    const size_t size = dtype_bytes(wanted, p->value.size());
    if (p->mapped && p->value.bytes() <= size) continue;
    p->value = Tensor(nullptr, wanted, p->value.shape);
    p->mapped = true;
    quantized_params.push_back(p);
    bytes += size;
  }
  quantized.matrices = static_cast<int64_t>(quantized_params.size());
  quantized.bytes = bytes;
  quantized_block = MemoryBlock(bytes);
  std::byte* next = quantized_block.data();
  for (Param* const p : quantized_params) {
    p->value.data = next;
    next += p->value.bytes();
  }
}

void Transformer::Impl::fill_quantized() {
  int64_t largest = 0;
  for (const Param* p : quantized_params) largest = std::max(largest, p->value.size());
  const MemoryBlock values(static_cast<size_t>(largest) * sizeof(float));
  auto* const x = reinterpret_cast<float*>(values.data());
  for (const Param* p : quantized_params) {
    source->read(*p, x);
    try {
      from_f32(x, p->value.data, p->value.dtype, p->value.size());
    } catch (const Error& e) {
      throw Error(cat(source->path().string(), ": ", p->name, ": ", e.what()));
    }
  }
}

}  // namespace llmtool
