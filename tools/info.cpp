#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "command.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/gguf.h"
#include "llmtool/io/json.h"
#include "llmtool/model/describe.h"
#include "model_files.h"

namespace llmtool {

namespace {
struct InfoFlags {
  CommonFlags common;
  std::string model, tokenizer;
  std::optional<int64_t> context;
  int64_t batch = 1;
};

bool has_chat_template(const ModelSource& source) {
  if (std::filesystem::is_directory(source.path())) {
    if (!text_beside(source, "chat_template.jinja").empty()) return true;
    const std::string settings = text_beside(source, "tokenizer_config.json");
    return !settings.empty() && parse_json(settings, "tokenizer_config.json").contains("chat_template");
  }
  return std::string(source.format()) == "GGUF" &&
         GgufFile(source.path()).metadata().has("tokenizer.chat_template");
}

nlohmann::ordered_json tokenizer_row(const Tokenizer& tokenizer) {
  nlohmann::ordered_json special = nlohmann::ordered_json::object();
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) special[tokenizer.piece(id)] = id;
  }
  return {{"type", tokenizer.kind()},     {"vocab_size", tokenizer.vocab_size()},
          {"special_tokens", special},    {"bos_id", tokenizer.bos_id()},
          {"eos_id", tokenizer.eos_id()}, {"adds_bos", tokenizer.adds_bos()}};
}

const char* head_name(const ModelConfig& c) {
  switch (c.head) {
    case HeadKind::language_model:
      return c.generates() ? "language model" : "masked language model";
    case HeadKind::classification:
      return "classification";
    case HeadKind::none:
      break;
  }
  return "none";
}

nlohmann::ordered_json describe(const InfoFlags& flags) {
  const auto source = ModelSource::open(flags.model);
  const ModelConfig& c = source->config();
  const auto tokenizer = tokenizer_of(*source, flags.tokenizer);
  const Weights weights = describe_weights(*source);
  nlohmann::ordered_json parts;
  for (const auto& [name, n] : weights.parts) parts[name] = n;
  const int64_t context = flags.context.value_or(std::min<int64_t>(c.context(), 2048));
  if (context < 1 || context > c.context())
    throw UsageError(cat("--context: expected 1 to ", c.context(), ", found ", context));
  ThreadPool pool(flags.common.threads);
  const MemoryNeeds needs = memory_needs(c, pool, flags.batch, context);
  nlohmann::ordered_json json = {{"path", source->path().string()},
                                 {"format", source->format()},
                                 {"model_type", c.model_type},
                                 {"head", head_name(c)},
                                 {"parameters", weights.count},
                                 {"parameters_by_part", parts},
                                 {"dtype", dtype_name(weights.dtype)},
                                 {"context", c.context()},
                                 {"vocab_size", c.vocab_size},
                                 {"hidden_size", c.hidden_size},
                                 {"intermediate_size", c.intermediate_size},
                                 {"layers", c.num_hidden_layers},
                                 {"heads", c.num_attention_heads},
                                 {"kv_heads", c.kv_heads()},
                                 {"head_dim", c.head_dim},
                                 {"tied_head", c.tie_word_embeddings}};
  if (c.head == HeadKind::classification) json["labels"] = c.labels;
  json["tokenizer"] = tokenizer ? tokenizer_row(*tokenizer) : nlohmann::ordered_json(nullptr);
  if (c.generates()) json["stop_ids"] = c.stop_ids;
  json["chat_template"] = has_chat_template(*source);
  json["memory"] = {{"batch", flags.batch},
                    {"context", context},
                    {"run", weights.bytes + needs.run},
                    {"train_full", needs.train_full},
                    {"train_lora", needs.train_lora}};
  return json;
}

void print(const nlohmann::ordered_json& json) {
  const auto count = [](const nlohmann::ordered_json& n) { return human_count(n.get<double>()); };
  const auto bytes = [](const nlohmann::ordered_json& n) { return human_bytes(n.get<double>()); };
  std::string parts;
  for (const auto& [name, n] : json["parameters_by_part"].items())
    parts += cat(parts.empty() ? "" : ", ", name, " ", count(n));
  std::cout << json["path"].get<std::string>() << ": " << json["format"].get<std::string>() << "\n"
            << "family      " << json["model_type"].get<std::string>()
            << ", head: " << json["head"].get<std::string>()
            << (json.contains("labels") ? " " + json["labels"].dump() : "") << ", stored as "
            << json["dtype"].get<std::string>() << "\n"
            << "parameters  " << count(json["parameters"]) << ": " << parts << "\n"
            << "shape       " << json["layers"] << " layers of " << json["hidden_size"] << ", feed-forward "
            << json["intermediate_size"] << ", vocabulary " << json["vocab_size"] << "\n"
            << "attention   " << json["heads"] << " heads of " << json["head_dim"] << ", " << json["kv_heads"]
            << " for keys and values, context " << json["context"] << "\n";
  if (const auto& t = json["tokenizer"]; t.is_null()) {
    std::cout << "tokenizer   none that can be read\n";
  } else {
    std::cout << "tokenizer   " << t["type"].get<std::string>() << ", " << t["vocab_size"]
              << " pieces, special "
              << t["special_tokens"].dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << "\n";
  }
  const auto& m = json["memory"];
  if (json.contains("stop_ids")) std::cout << "stop ids    " << json["stop_ids"].dump() << "\n";
  std::cout << "chat        " << (json["chat_template"].get<bool>() ? "has a template" : "no template")
            << "\n"
            << "memory      batch " << m["batch"] << ", context " << m["context"] << ": to run "
            << bytes(m["run"]) << ", to train in f32 " << bytes(m["train_full"])
            << ", with LoRA (r 8 on q, v) " << bytes(m["train_lora"]) << "\n";
}
}  // namespace

std::function<int()> info_command(CLI::App& app) {
  auto f = std::make_shared<InfoFlags>();
  app.add_option("MODEL", f->model, "Model: a folder, a run folder, a .gguf, a llama2.c .bin")->required();
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the model's)");
  app.add_option("--context", f->context,
                 "Positions that memory is reckoned for (default: the model's, up to 2048)");
  app.add_option("--batch-size", f->batch, "Sequences that memory is reckoned for (default: 1)")
      ->check(CLI::Range(1, 1 << 20).description(""));
  add_plain_flags(app, f->common);
  return [f] {
    set_quiet(f->common.quiet);
    const nlohmann::ordered_json json = describe(*f);
    if (f->common.json) {
      print_json(json);
    } else {
      print(json);
    }
    return 0;
  };
}

}  // namespace llmtool
