// What a model's files hold that cannot be read.

#include "llmtool/model/model_source.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "llmtool/model/convert.h"
#include "llmtool/model/describe.h"
#include "llmtool/model/transformer.h"
#include "support.h"

namespace llmtool {
namespace {

std::string refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

void save_small_model(const std::filesystem::path& folder) {
  ModelConfig config = ModelConfig::of_family("llama");
  config.vocab_size = 50;
  config.hidden_size = 24;
  config.num_hidden_layers = 1;
  Transformer model(config);
  model.initialize(1);
  save_transformer(model, folder, DType::f32);
}

/// A model's file with another text in its header, of the same length.
std::string with(const std::string& file, const std::string& name, const std::string& now,
                 const std::string& then) {
  std::string text = file;
  const size_t at = text.find(now, text.find(name));
  EXPECT_NE(at, std::string::npos) << name;
  return text.replace(at, now.size(), then);
}

/// Half as many elements of twice the size.
TEST(ModelSource, TensorsOfTypesThatCannotBeReadAreNamed) {
  test::TempFolder place;
  save_small_model(place.path());
  const std::string file = test::read_text(place / "model.safetensors"), name = "model.norm.weight";
  for (const char* type : {"F64", "I64", "U64"}) {
    const std::string typed = with(file, name, "F32", type);
    test::write_text(place / "model.safetensors", with(typed, name, "[24]", "[12]"));
    const auto source = ModelSource::open(place.path());
    const std::string expected =
        cat(": ", name, ": tensors of type ", type, " cannot be read; save the model as F32");
    for (const auto& call : std::initializer_list<std::function<void()>>{
             [&] { load_transformer(place.path()); }, [&] { describe_weights(*source); },
             [&] { Transformer(std::shared_ptr(ModelSource::open(place.path()))); },
             [&] { convert_to_folder(*source, place / "out", DType::f32, [](int64_t, int64_t) {}); }}) {
      const std::string message = refusal_of(call);
      EXPECT_NE(message.find(expected), std::string::npos) << message;
    }
  }
}

TEST(ModelSource, TensorsOfTypesThatCannotBeReadAreNamedInGguf) {
  test::TempFolder place;
  save_small_model(place / "model");
  const std::filesystem::path path = place / "model.gguf";
  convert_to_gguf(*ModelSource::open(place / "model"), path, DType::f32, {}, [](int64_t, int64_t) {});
  const std::string name = "output_norm.weight", vector("\1\0\0\0", 4);
  const std::string now = name + vector + std::string("\x18\0\0\0\0\0\0\0\0\0\0\0", 12),
                    then = name + vector + std::string("\x0c\0\0\0\0\0\0\0\x1c\0\0\0", 12);  // F64
  test::write_text(path, with(test::read_text(path), name, now, then));
  const std::string message = refusal_of([&] { load_transformer(path); });
  EXPECT_NE(message.find(": output_norm.weight: tensors of type F64 cannot be read"), std::string::npos)
      << message;
}

}  // namespace
}  // namespace llmtool
