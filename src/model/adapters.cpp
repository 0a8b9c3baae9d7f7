// Transformer: where adapters attach, and what trains.

#include "llmtool/core/error.h"
#include "llmtool/kernels/convert.h"
#include "model/transformer_impl.h"

namespace llmtool {

void Transformer::Impl::each_linear(const std::function<void(Linear&, bool)>& visit) {
  const auto mlp = [&](GatedMlp& part) {
    visit(part.up, false);
    visit(part.down, false);
  };
  for (Block& block : blocks) {
    visit(block.qkv, false);
    visit(block.out, false);
    visit(block.up, false);
    visit(block.down, false);
    visit(block.experts.router, false);
    for (GatedMlp& expert : block.experts.experts) mlp(expert);
    mlp(block.experts.shared);
    visit(block.experts.shared_gate, false);
  }
  visit(pooler.dense, false);
  visit(transform.dense, false);
  visit(output, true);
}

std::vector<LinearSite> Transformer::linear_sites() {
  constexpr std::string_view kWeight = ".weight";
  std::vector<LinearSite> sites;
  impl_->each_linear([&](Linear& linear, bool is_output) {
    for (size_t part = 0; part < linear.parts().size(); ++part) {
      std::string name = linear.parts()[part].weight->name;
      if (is_output && impl_->head == impl_->embedding) name = cat(impl_->row.names.head, kWeight);
      sites.push_back({name.substr(0, name.size() - kWeight.size()), &linear, part, is_output});
    }
  });
  return sites;
}

Block& Transformer::block(int64_t layer) { return impl_->blocks.at(static_cast<size_t>(layer)); }
VirtualTokens& Transformer::virtual_tokens() { return impl_->virtual_tokens; }

std::vector<int32_t> Transformer::virtual_ids() const {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < impl_->virtual_tokens.count; ++i) ids.push_back(-1 - i);
  return ids;
}

void Transformer::embedding_rows(std::span<const int32_t> ids, Tensor rows) const {
  const Tensor& table = impl_->embedding->value;
  const int64_t C = table.cols();
  for (int64_t row = 0; row < rows.rows(); ++row) {
    const int64_t id = ids[static_cast<size_t>(row) % ids.size()];
    to_f32(static_cast<const std::byte*>(table.data) + dtype_bytes(table.dtype, id * C), table.dtype,
           rows.f32() + row * C, C);
    for (int64_t i = 0; i < C; ++i) rows.f32()[row * C + i] *= impl_->embedding_scale;
  }
}

void Transformer::Impl::refresh_adapters(Exec& exec) {
  each_linear([&](Linear& linear, bool) { linear.refresh(exec); });
}
void Transformer::refresh_adapters(Exec& exec) { impl_->refresh_adapters(exec); }

int64_t Transformer::Impl::lowest_trained() const {
  const auto trained = [](const Param* p) { return p && p->grad; };
  const bool below = trained(embedding) || trained(positions) || trained(token_types) ||
                     embedding_norm.trains() || trained(virtual_tokens.embeddings);
  if (below) return -1;
  int64_t layer = 0;
  while (layer < static_cast<int64_t>(blocks.size()) && !blocks[static_cast<size_t>(layer)].trains()) ++layer;
  return layer;
}

}  // namespace llmtool
