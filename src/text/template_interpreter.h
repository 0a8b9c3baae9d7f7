#pragma once
// Renders a parsed template.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_ast.h"
#include "text/template_eval.h"
#include "text/template_loop.h"

namespace llmtool::jinja {

/// The variables of one scope.
struct Frame {
  std::shared_ptr<Frame> parent;
  std::vector<std::pair<std::string_view, Value>> variables;
  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};
using FramePtr = std::shared_ptr<Frame>;

class Interpreter {
 public:
  Interpreter(Heap& heap, Value context);
  std::string run(const Template& made);
  int line() const { return line_; }
  /// What generation blocks wrote, as bytes of the text: [first, second).
  const std::vector<std::pair<size_t, size_t>>& generated() const { return generated_; }

 private:
  enum class Flow { kOn, kBreak, kContinue };
  Flow run(const Body& body, const FramePtr& frame);
  Flow run(const Statement& statement, const FramePtr& frame);
  Flow run_if(const Statement& statement, const FramePtr& frame);
  Flow run_for(const Statement& statement, const FramePtr& frame);
  Value filtered_items(const Statement& statement, const FramePtr& frame, const Value& iterator);
  Flow run_set_block(const Statement& statement, const FramePtr& frame);
  Flow run_filter_block(const Statement& statement, const FramePtr& frame);
  void run_scope(const Statement& statement, const FramePtr& frame);
  void run_call_block(const Statement& statement, const FramePtr& frame);
  Flow run_with(const Statement& statement, const FramePtr& frame);
  void assign(const Target& target, const Value& value, const FramePtr& frame);
  /// What a body writes, instead of writing it.
  Value captured(const Body& body, const FramePtr& frame, Flow& flow);

  Value macro(const std::string& name, const Statement& statement, const FramePtr& frame);
  Value invoke(const std::string& name, const Statement& statement, const FramePtr& parent,
               Arguments& arguments);

  Value evaluate(const Expr& expr, const FramePtr& frame);
  Value variable(const std::string& name, const FramePtr& frame);
  Value evaluate_array(const Expr& expr, const FramePtr& frame);
  Value evaluate_dict(const Expr& expr, const FramePtr& frame);
  Value evaluate_compare(const Expr& expr, const FramePtr& frame);
  Value evaluate_concat(const Expr& expr, const FramePtr& frame);
  Value evaluate_conditional(const Expr& expr, const FramePtr& frame);
  Value evaluate_call(const Expr& expr, const FramePtr& frame, const Value* caller = nullptr);
  Value evaluate_filters(const Expr& expr, const FramePtr& frame, const Value& base);
  Arguments evaluate_arguments(const Expr& expr, const FramePtr& frame);

  Heap& heap_;
  Value context_;
  Builder* out_ = nullptr;
  const Builder* text_ = nullptr;  // of the whole, where out_ may be a part that is captured
  std::vector<std::pair<size_t, size_t>> generated_;
  int line_ = 0;
};

}  // namespace llmtool::jinja
