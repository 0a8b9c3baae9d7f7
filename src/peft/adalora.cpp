#include "peft/adalora.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

const Param* const* parameters(const Triplets& t, const Param* (&list)[3]) {
  list[0] = t.a, list[1] = t.e, list[2] = t.b;
  return list;
}

/// |P - I| of P = m m^T, or m^T m; m's gradient gets `scale` times its own.
double stray(Param& p, bool by_columns, double scale) {
  const Matrix m = matrix(p.value).cast<double>();
  Matrix rest = by_columns ? Matrix(m.transpose() * m) : Matrix(m * m.transpose());
  rest.diagonal().array() -= 1;
  const double norm = rest.norm();
  if (norm > 0 && p.grad) {
    const Matrix d = by_columns ? Matrix(m * rest) : Matrix(rest * m);
    matrix(p.grad) += (d * (2 * scale / norm)).cast<float>();
  }
  return norm;
}
}  // namespace

RankAllocator::RankAllocator(std::vector<Triplets> modules, AdapterConfig config)
    : modules_(std::move(modules)), config_(std::move(config)) {
  for (const Triplets& t : modules_) {
    const Param* list[3];
    for (int i = 0; i < 3; ++i) {
      const Param* const p = parameters(t, list)[i];
      const auto n = static_cast<size_t>(p->value.size());
      smoothed_[p->name] = {std::vector<float>(n), std::vector<float>(n)};
    }
  }
}

void RankAllocator::check() const {
  if (config_.tinit >= config_.total_step - config_.tfinal) {
    throw UsageError(cat("adapter.tinit: expected less than the run's steps without tfinal, ",
                         config_.total_step, " - ", config_.tfinal, ", found ", config_.tinit));
  }
}

int64_t RankAllocator::initial_budget() const {
  return config_.init_r * static_cast<int64_t>(modules_.size());
}

int64_t RankAllocator::budget(int64_t step, bool& allocates) const {
  const int64_t first = initial_budget(), last = config_.target_r * static_cast<int64_t>(modules_.size());
  const int64_t falls_until = config_.total_step - config_.tfinal;
  allocates = step > config_.tinit && step % config_.delta_t == 0;
  if (step <= config_.tinit) return first;
  const double left =
      1 - static_cast<double>(step - config_.tinit) / static_cast<double>(falls_until - config_.tinit);
  return static_cast<int64_t>(static_cast<double>(first - last) * left * left * left +
                              static_cast<double>(last));
}

void RankAllocator::smooth(const Param& p, double gradient_scale) {
  Smoothed& s = smoothed_.at(p.name);
  const auto b1 = static_cast<float>(config_.beta1), b2 = static_cast<float>(config_.beta2);
  const auto scale = static_cast<float>(gradient_scale);
  const auto c1 = static_cast<float>(1 - config_.beta1), c2 = static_cast<float>(1 - config_.beta2);
  for (size_t i = 0; i < s.importance.size(); ++i) {
    const float importance = std::abs(p.value.f32()[i] * (p.grad.f32()[i] * scale));
    s.importance[i] = b1 * s.importance[i] + c1 * importance;
    s.uncertainty[i] = b2 * s.uncertainty[i] + c2 * std::abs(importance - s.importance[i]);
  }
}

void RankAllocator::allocate(int64_t budget) {
  std::vector<std::vector<float>> scores;
  std::vector<float> all;
  for (const Triplets& t : modules_) {
    const Smoothed &a = smoothed_.at(t.a->name), &e = smoothed_.at(t.e->name), &b = smoothed_.at(t.b->name);
    const size_t R = e.importance.size(), in = a.importance.size() / R, out = b.importance.size() / R;
    std::vector<float>& own = scores.emplace_back(R);
    for (size_t r = 0; r < R; ++r) {
      double of_a = 0, of_b = 0;
      for (size_t j = 0; j < in; ++j)
        of_a += static_cast<double>(a.importance[r * in + j]) * a.uncertainty[r * in + j];
      for (size_t k = 0; k < out; ++k)
        of_b += static_cast<double>(b.importance[k * R + r]) * b.uncertainty[k * R + r];
      own[r] = static_cast<float>(static_cast<double>(e.importance[r]) * e.uncertainty[r] +
                                  of_a / static_cast<double>(in) + of_b / static_cast<double>(out));
    }
    all.insert(all.end(), own.begin(), own.end());
  }
  const int64_t cut = initial_budget() - budget;
  float threshold = -1;
  if (cut > 0) {
    const auto at = all.begin() + (cut - 1);
    std::nth_element(all.begin(), at, all.end());
    threshold = *at;
  }
  for (size_t i = 0; i < modules_.size(); ++i) {
    std::vector<bool> kept;
    for (const float score : scores[i]) kept.push_back(score > threshold);
    kept_[modules_[i].name] = std::move(kept);
  }
}

void RankAllocator::mask() {
  for (const Triplets& t : modules_) {
    const std::vector<bool>& kept = kept_.at(t.name);
    for (size_t r = 0; r < kept.size(); ++r) {
      if (!kept[r]) t.e->value.f32()[r] = 0;
    }
  }
}

void RankAllocator::update(int64_t step, double gradient_scale) {
  const int64_t falls_until = config_.total_step - config_.tfinal;
  if (step > falls_until) {
    if (!kept_.empty()) mask();
    return;
  }
  bool allocates = true;
  int64_t left = config_.target_r * static_cast<int64_t>(modules_.size());
  if (step < falls_until) {
    for (const Triplets& t : modules_) {
      const Param* list[3];
      for (int i = 0; i < 3; ++i) smooth(*parameters(t, list)[i], gradient_scale);
    }
    left = budget(step, allocates);
  }
  if (!allocates) return;
  allocate(left);
  mask();
  if (step < falls_until) return;
  for (auto& [name, s] : smoothed_) {
    std::fill(s.importance.begin(), s.importance.end(), 0.0f);
    std::fill(s.uncertainty.begin(), s.uncertainty.end(), 0.0f);
  }
}

double RankAllocator::regularize(double scale) const {
  const double each = config_.orth_reg_weight / static_cast<double>(2 * modules_.size());
  double total = 0;
  for (const Triplets& t : modules_) {
    total += stray(*t.a, false, scale * each);
    total += stray(*t.b, true, scale * each);
  }
  return total * each;
}

std::vector<NamedTensor> RankAllocator::state() const {
  std::vector<NamedTensor> tensors;
  const auto add = [&](const std::string& name, const std::vector<float>& values) {
    const Tensor view(const_cast<float*>(values.data()), {static_cast<int64_t>(values.size())});
    tensors.push_back({name, view, DType::f32});
  };
  for (const auto& [name, s] : smoothed_) {
    add(name + ".importance", s.importance);
    add(name + ".uncertainty", s.uncertainty);
  }
  return tensors;
}

void RankAllocator::load_state(const SafetensorsFile& file) {
  const auto read = [&](const std::string& name, std::vector<float>& values) {
    const auto it = file.tensors().find(name);
    if (it == file.tensors().end() || it->second.dtype != DType::f32 ||
        it->second.size() != static_cast<int64_t>(values.size()))
      throw Error(cat(name, ": expected ", values.size(), " values of f32"));
    std::memcpy(values.data(), it->second.data, it->second.bytes());
  };
  for (auto& [name, s] : smoothed_) {
    read(name + ".importance", s.importance);
    read(name + ".uncertainty", s.uncertainty);
  }
}

}  // namespace llmtool
