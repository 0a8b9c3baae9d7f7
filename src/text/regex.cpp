#include "llmtool/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "llmtool/core/error.h"
#include "text/regex_syntax.h"

namespace llmtool {

namespace {
constexpr size_t kMaxPattern = 1 << 16;
constexpr uint32_t kMaxSteps = 20'000'000;        // of one match
constexpr uint32_t kMaxHeap = 64 << 10;           // kilobytes
constexpr size_t kMaxJitStack = size_t{8} << 20;  // bytes

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* t) const {
    Free(t);
  }
};
template <class T, auto Free>
using Owned = std::unique_ptr<T, Freed<Free>>;

/// What a thread needs to match.
struct Matcher {
  Owned<pcre2_match_data, pcre2_match_data_free> data{pcre2_match_data_create(1, nullptr)};
  Owned<pcre2_match_context, pcre2_match_context_free> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack, pcre2_jit_stack_free> stack{pcre2_jit_stack_create(32 << 10, kMaxJitStack, nullptr)};
  Matcher() {
    if (!data || !context || !stack) throw std::bad_alloc();
    pcre2_set_match_limit(context.get(), kMaxSteps);
    pcre2_set_depth_limit(context.get(), kMaxSteps);
    pcre2_set_heap_limit(context.get(), kMaxHeap);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};
Matcher& matcher() {
  thread_local Matcher instance;
  return instance;
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}
}  // namespace

struct Regex::Code {
  Owned<pcre2_code, pcre2_code_free> code;
  bool compiled = false;  // to machine code
};

Regex::Regex(std::string_view pattern, const std::string& origin, Syntax syntax) : origin_(origin) {
  if (pattern.size() > kMaxPattern) {
    throw Error(cat(origin, ": expected a regular expression of at most ", kMaxPattern, " bytes, found ",
                    pattern.size()));
  }
  const std::string text = syntax == Syntax::pcre ? std::string(pattern) : pcre_of_oniguruma(pattern, origin);
  const Owned<pcre2_compile_context, pcre2_compile_context_free> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 250);
  int code = 0;
  PCRE2_SIZE at = 0;
  auto result = std::make_shared<Code>();
  result->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE |
                                       PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY,
                                   &code, &at, context.get()));
  if (!result->code) {
    throw Error(cat(origin, ": regular expression \"", pattern, "\": ", message_of(code)));
  }
  result->compiled = pcre2_jit_compile(result->code.get(), PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(result);
}

void Regex::for_each(std::string_view text, const std::function<void(size_t, size_t)>& found) const {
  Matcher& m = matcher();
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* const place = pcre2_get_ovector_pointer(m.data.get());
  size_t at = 0, last = SIZE_MAX;
  uint32_t options = PCRE2_NO_UTF_CHECK;
  while (at <= text.size()) {
    const int count = code_->compiled ? pcre2_jit_match(code_->code.get(), subject, text.size(), at, options,
                                                        m.data.get(), m.context.get())
                                      : pcre2_match(code_->code.get(), subject, text.size(), at, options,
                                                    m.data.get(), m.context.get());
    if (count == PCRE2_ERROR_NOMATCH) return;
    if (count < 0) {
      throw Error(cat(origin_, ": the regular expression fails on a text of ", text.size(), " bytes at byte ",
                      at, ": ", message_of(count)));
    }
    const size_t begin = place[0], end = place[1];
    // An empty match right behind another is none.
    if (begin < end || begin != last) found(begin, end);
    at = last = end;
    if (begin == end) {
      // Past the next character, as an empty match would be found here again.
      ++at;
      while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) ++at;
    }
  }
}

std::string regex_of_literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool special = std::string_view("\\^$.[]|()?*+{}#-&~ ").find(c) != std::string_view::npos;
    if (special) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace llmtool
