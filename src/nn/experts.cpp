#include "llmtool/nn/experts.h"

#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/optimizer.h"
#include "llmtool/kernels/routing.h"

namespace llmtool {

namespace {
Tensor rows_of(Tensor t, int64_t first, int64_t last) {
  return {t.f32() + first * t.cols(), {last - first, t.cols()}};
}

/// Places ordered by expert, and within one by row.
Routing sorted(const int32_t* experts, int64_t N, int64_t k, int64_t E) {
  Routing r;
  r.starts.assign(static_cast<size_t>(E) + 1, 0);
  for (int64_t i = 0; i < N * k; ++i) ++r.starts[static_cast<size_t>(experts[i]) + 1];
  for (size_t e = 0; e < static_cast<size_t>(E); ++e) r.starts[e + 1] += r.starts[e];
  std::vector<int64_t> next(r.starts.begin(), r.starts.end() - 1);
  r.rows.resize(static_cast<size_t>(N * k));
  for (int64_t i = 0; i < N * k; ++i) {
    const int64_t place = next[static_cast<size_t>(experts[i])]++;
    r.rows[static_cast<size_t>(place)] = i / k;
    r.places.push_back(place);
  }
  return r;
}
}  // namespace

bool Experts::trains() const {
  const auto of = [](const GatedMlp& mlp) { return mlp.up.trains() || mlp.down.trains(); };
  return router.trains() || shared_gate.trains() || of(shared) ||
         std::any_of(experts.begin(), experts.end(), of);
}

/// Calls call(expert, first place, one past the last) for every expert that has rows. A dry run, which knows
/// no routing, measures that one expert gets them all.
template <class Call>
void Experts::for_experts(Exec& exec, const Routing& routing, int64_t places, Call call) const {
  if (exec.dry()) return call(size_t{0}, int64_t{0}, places);
  for (size_t e = 0; e + 1 < routing.starts.size(); ++e) {
    if (routing.starts[e] < routing.starts[e + 1]) call(e, routing.starts[e], routing.starts[e + 1]);
  }
}

void Experts::route(Exec& exec, Arena& kept, Tensor x, ExpertsSaved& saved, const LinearMode& mode) const {
  const int64_t N = x.rows(), E = router.out();
  saved.probabilities = kept.take({N, E});
  saved.weights = kept.take({N, chosen});
  saved.experts = kept.take({N, chosen}, DType::i32);
  router.forward(exec, x, saved.probabilities, mode);
  choose_experts(exec, saved.probabilities, normalized, saved.weights, saved.experts);
  if (!exec.dry()) saved.routing = sorted(static_cast<const int32_t*>(saved.experts.data), N, chosen, E);
}

void Experts::forward(Exec& exec, Arena& kept, Tensor x, Tensor y, ExpertsSaved& saved,
                      const LinearMode& mode) const {
  route(exec, kept, x, saved, mode);
  const int64_t places = x.rows() * chosen, C = x.cols(), F = experts[0].width();
  saved.x = kept.take({places, C});
  saved.h = kept.take({places, 2 * F});
  gather_rows(exec, x, saved.routing.rows, saved.x);
  for_experts(exec, saved.routing, places, [&](size_t e, int64_t first, int64_t last) {
    experts[e].up.forward(exec, rows_of(saved.x, first, last), rows_of(saved.h, first, last), mode);
  });
  if (y) {
    ArenaScope scope(exec.scratch);
    const Tensor a = exec.scratch.take({places, F}), out = exec.scratch.take({places, C});
    activate(exec, activation, true, saved.h, a);
    for_experts(exec, saved.routing, places, [&](size_t e, int64_t first, int64_t last) {
      experts[e].down.forward(exec, rows_of(a, first, last), rows_of(out, first, last), mode);
    });
    combine_rows(exec, out, saved.routing.places.data(), saved.weights, chosen, y);
  }
  if (shared.width() > 0) shared_forward(exec, kept, x, y, saved, mode);
}

void Experts::shared_forward(Exec& exec, Arena& kept, Tensor x, Tensor y, ExpertsSaved& saved,
                             const LinearMode& mode) const {
  const int64_t N = x.rows(), C = x.cols();
  saved.shared_gate = kept.take({N, 1});
  saved.shared_h = kept.take({N, 2 * shared.width()});
  saved.shared_y = kept.take({N, C});
  shared_gate.forward(exec, x, saved.shared_gate, mode);
  sigmoid(exec, saved.shared_gate);
  shared.up.forward(exec, x, saved.shared_h, mode);
  ArenaScope scope(exec.scratch);
  const Tensor a = exec.scratch.take({N, shared.width()}), gated = exec.scratch.take({N, C});
  activate(exec, activation, true, saved.shared_h, a);
  shared.down.forward(exec, a, saved.shared_y, mode);
  if (!y) return;
  spread_rows(exec, saved.shared_y, nullptr, saved.shared_gate.f32(), gated);
  add_dropout(exec, y, gated, Dropout(), y);
}

void Experts::router_backward(Exec& exec, Tensor x, const ExpertsSaved& saved, Tensor dweights, Tensor dx) {
  ArenaScope scope(exec.scratch);
  const Tensor dscores = exec.scratch.take(saved.probabilities.shape), d = exec.scratch.take(dx.shape);
  choose_experts_backward(exec, saved.probabilities, normalized, saved.weights, saved.experts, dweights,
                          dscores);
  router.backward(exec, x, dscores, d);
  add_dropout(exec, dx, d, Dropout(), dx);
}

void Experts::backward(Exec& exec, Tensor x, const ExpertsSaved& saved, Tensor dy, Tensor dx) {
  ArenaScope scope(exec.scratch);
  const Routing& routing = saved.routing;
  const int64_t N = x.rows(), places = N * chosen, C = x.cols(), F = experts[0].width();
  const Tensor dweights = exec.scratch.take({N, chosen});
  const Tensor dxs = exec.scratch.take({places, C}), dh = exec.scratch.take({places, 2 * F});
  {
    ArenaScope inner(exec.scratch);
    const Tensor a = exec.scratch.take({places, F}), da = exec.scratch.take({places, F});
    const Tensor dout = exec.scratch.take({places, C}), by_place = exec.scratch.take({2, places});
    float *const factors = by_place.f32(), *const dots = factors + places;
    for (size_t i = 0; i < routing.places.size(); ++i) factors[routing.places[i]] = saved.weights.f32()[i];
    activate(exec, activation, true, saved.h, a);
    spread_rows(exec, dy, routing.rows.data(), factors, dout);
    for_experts(exec, routing, places, [&](size_t e, int64_t first, int64_t last) {
      experts[e].down.backward(exec, rows_of(a, first, last), rows_of(dout, first, last),
                               rows_of(da, first, last));
    });
    // An output's product with dy is its input's with da, which has the weight in it already.
    row_dots(exec, a, da, dots);
    for (size_t i = 0; i < routing.places.size(); ++i) {
      const float weight = saved.weights.f32()[i];
      dweights.f32()[i] = weight > 0 ? dots[routing.places[i]] / weight : 0.0f;
    }
    activate_backward(exec, activation, true, saved.h, da, dh);
  }
  for_experts(exec, routing, places, [&](size_t e, int64_t first, int64_t last) {
    experts[e].up.backward(exec, rows_of(saved.x, first, last), rows_of(dh, first, last),
                           rows_of(dxs, first, last));
  });
  combine_rows(exec, dxs, routing.places.data(), {}, chosen, dx);
  router_backward(exec, x, saved, dweights, dx);
  if (shared.width() > 0) shared_backward(exec, x, saved, dy, dx);
}

void Experts::shared_backward(Exec& exec, Tensor x, const ExpertsSaved& saved, Tensor dy, Tensor dx) {
  ArenaScope scope(exec.scratch);
  const int64_t N = x.rows(), C = x.cols(), F = shared.width();
  const Tensor dgate = exec.scratch.take({N, 1}), dout = exec.scratch.take({N, C}),
               d = exec.scratch.take({N, C});
  const Tensor a = exec.scratch.take({N, F}), da = exec.scratch.take({N, F}),
               dh = exec.scratch.take({N, 2 * F});
  row_dots(exec, dy, saved.shared_y, dgate.f32());
  for (int64_t r = 0; !exec.dry() && r < N; ++r) {
    const float gate = saved.shared_gate.f32()[r];
    dgate.f32()[r] *= gate * (1 - gate);
  }
  spread_rows(exec, dy, nullptr, saved.shared_gate.f32(), dout);
  activate(exec, activation, true, saved.shared_h, a);
  shared.down.backward(exec, a, dout, da);
  activate_backward(exec, activation, true, saved.shared_h, da, dh);
  shared.up.backward(exec, x, dh, d);
  add_dropout(exec, dx, d, Dropout(), dx);
  shared_gate.backward(exec, x, dgate, d);
  add_dropout(exec, dx, d, Dropout(), dx);
}

}  // namespace llmtool
