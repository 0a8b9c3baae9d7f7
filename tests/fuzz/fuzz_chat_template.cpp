// The input: a template, a NUL byte, and the context as JSON (one of our own where it is none).

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/text/chat_template.h"
#include "support.h"

namespace {
using Json = nlohmann::ordered_json;

constexpr std::string_view kContext =
    R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "H\u00e9 <b>?"},
{"role": "assistant", "content": null, "tool_calls":
[{"function": {"name": "f", "arguments": {"x": [1, 2.5, true]}}}]},
{"role": "tool", "content": "4"}], "tools": [{"type": "function", "function": {"name": "f"}}],
"add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "n": 3, "words": ["b", "A", "c"]})";

Json context_of(std::string_view text) {
  const Json given = Json::parse(text, nullptr, false);
  return given.is_object() ? given : Json::parse(kContext);
}
/// The JSON library itself may not be used on what nests deep.
bool nests_deep(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return c == '[' || c == '{'; }) > 200;
}
}  // namespace

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  std::vector<std::string> seeds = {
      "{{ messages | map(attribute='role') | join(',') }}{{ n ** 5 % 7 // 2 }}{{ words | sort | first | "
      "upper }}",
      "{% for m in messages if m.content %}{{ loop.index }}{{ m.content[::-1] }}{% else %}none{% endfor %}",
      "{% macro f(a, b=2, *c) %}{% endmacro %}",
      "{% macro f(x) %}{{ f(x - 1) if x > 0 }}{{ x }}{% endmacro %}{{ f(n) }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(n) %}{% set ns.x = ns.x + [ns] %}{% endfor %}{{ ns.x "
      "}}",
      "{% set ns = namespace() %}{% set ns.g = [ns] | map(attribute='g') | unique %}{{ ns.g | first }}",
      "{% call(x) f() %}{{ x }}{% endcall %}{% filter indent(2) %}a\nb{% endfilter %}{% raw %}{{ x }}{% "
      "endraw %}",
      "{{ tools | tojson(indent=2, sort_keys=true) }}{{ '%05.2f|%-8s|%x' % (n, words, 255) }}{{ "
      "'{:>9,}'.format(n) }}",
      "{{ words | batch(2, 'x') | list }}{{ words | groupby(0) }}{{ words | slice(2) | map('length') | sum "
      "}}",
      "{{ loop.cycle(1) }}{{ 'a\\u00df\\x41' | title | urlencode }}{{ words[1:-1:2] }}{{ n is divisibleby 3 "
      "}}",
      "{%- generation -%} {{- raise_exception('no') -}} {%+ endgeneration +%}{#- c -#}\n{% break %}"};
  for (const auto& golden :
       std::filesystem::directory_iterator(source_file("tests/reference/goldens_chat"))) {
    const Json made = Json::parse(read_text(golden.path()));
    if (made.contains("template")) seeds.push_back(made["template"].get<std::string>());
  }
  for (std::string& seed : seeds) seed += '\0' + std::string(kContext);
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view context = input.substr(std::min(end + 1, input.size()));
  try {
    const llmtool::ChatTemplate made(std::string(input.substr(0, end)), "fuzz");
    made.render(context_of(nests_deep(context) ? std::string_view() : context));
  } catch (const llmtool::Error&) {
  }
  return 0;
}
