// Transformer: where adapters attach, and what trains.

#include "llmtool/core/error.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/kernels/elementwise.h"
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
      const std::string name = is_output ? head_name() : linear.parts()[part].weight->name;
      sites.push_back({name.substr(0, name.size() - kWeight.size()), &linear, part, is_output});
    }
  });
  return sites;
}

Block& Transformer::block(int64_t layer) { return impl_->blocks.at(static_cast<size_t>(layer)); }
std::vector<EmbeddingChange>& Transformer::embedding_changes() { return impl_->embedding_changes; }
std::string Transformer::head_name() const {
  return impl_->head && impl_->head != impl_->embedding ? impl_->head->name
                                                        : cat(impl_->row.names.head, ".weight");
}
const Param& Transformer::embedding() const { return *impl_->embedding; }
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

namespace {
/// u (N, R) = the ids' columns of A, in scratch.
Tensor columns_of(Exec& exec, const EmbeddingChange& change, std::span<const int32_t> ids) {
  const int64_t R = change.a->value.shape[0], V = change.a->value.shape[1];
  const Tensor u = exec.scratch.take({static_cast<int64_t>(ids.size()), R});
  for (size_t row = 0; !exec.dry() && row < ids.size(); ++row) {
    for (int64_t r = 0; r < R; ++r)
      u.f32()[static_cast<int64_t>(row) * R + r] = change.a->value.f32()[r * V + ids[row]];
  }
  return u;
}
}  // namespace

void Transformer::Impl::add_embedding_change(Exec& exec, const EmbeddingChange& change,
                                             std::span<const int32_t> ids, Tensor x) const {
  ArenaScope scope(exec.scratch);
  const Tensor u = columns_of(exec, change, ids), more = exec.scratch.take(x.shape);
  // Row by row, so that a row's bits do not depend on its company.
  matvec(exec, x.rows(), x.cols(), u.cols(), u.f32(), WeightView(change.b->value), more.f32(), x.cols());
  add_rows(exec, more.f32(), x.cols(), change.scale, x.f32(), x.cols(), x.rows(), x.cols());
}

void Transformer::Impl::embedding_change_backward(Exec& exec, const EmbeddingChange& change,
                                                  std::span<const int32_t> ids, Tensor d) {
  ArenaScope scope(exec.scratch);
  const int64_t N = d.rows(), C = d.cols(), R = change.a->value.shape[0], V = change.a->value.shape[1];
  const Tensor u = columns_of(exec, change, ids), du = exec.scratch.take({N, R});
  scale(exec, u, change.scale);
  const MatrixView dx{d.f32(), C, 1};
  if (change.b->grad) {
    matmul(exec, C, R, N, dx.transposed(), {u.f32(), R, 1}, change.b->grad.f32(), R, Write::add);
  }
  matmul(exec, N, R, C, dx, MatrixView{change.b->value.f32(), R, 1}, du.f32(), R);
  if (exec.dry() || !change.a->grad) return;
  for (int64_t row = 0; row < N; ++row) {
    for (int64_t r = 0; r < R; ++r)
      change.a->grad.f32()[r * V + ids[static_cast<size_t>(row)]] += change.scale * du.f32()[row * R + r];
  }
}

void Transformer::Impl::refresh_adapters(Exec& exec) {
  each_linear([&](Linear& linear, bool) { linear.refresh(exec); });
}
void Transformer::refresh_adapters(Exec& exec) { impl_->refresh_adapters(exec); }

int64_t Transformer::Impl::lowest_trained() const {
  const auto trained = [](const Param* p) { return p && p->grad; };
  const bool below = trained(embedding) || trained(positions) || trained(token_types) ||
                     embedding_norm.trains() || trained(virtual_tokens.embeddings) ||
                     std::any_of(embedding_changes.begin(), embedding_changes.end(),
                                 [&](const EmbeddingChange& e) { return trained(e.a) || trained(e.b); });
  if (below) return -1;
  int64_t layer = 0;
  while (layer < static_cast<int64_t>(blocks.size()) && !blocks[static_cast<size_t>(layer)].trains()) ++layer;
  return layer;
}

}  // namespace llmtool
