#include "llmtool/io/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "formats.h"
#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "support.h"

namespace llmtool {
namespace {

template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing thrown";
}
#define EXPECT_SAYS(message, part) EXPECT_NE(std::string(message).find(part), std::string::npos) << message

std::string opening(const std::string& contents) {
  const test::MemoryFile file(contents);
  return message_of([&] { GgufFile opened(file.path()); });
}

/// A file put together byte by byte.
struct Bytes {
  template <class T>
  Bytes& put(T number) {
    text.append(reinterpret_cast<const char*>(&number), sizeof number);
    return *this;
  }
  Bytes& name(const std::string& s) {
    put<uint64_t>(s.size());
    text += s;
    return *this;
  }
  Bytes& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    text += "GGUF";
    return put(version).put(tensors).put(keys);
  }
  Bytes& tensor(const std::string& n, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    name(n).put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) put(d);
    return put(type).put(offset);
  }
  Bytes& data(size_t bytes, size_t alignment = 32) {
    while (text.size() % alignment) text += '\0';
    text.append((bytes + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
  std::string text;
};

TEST(Gguf, HostileFilesGetTheirVerdict) {
  REQUIRE_REFERENCE(folder, "malformed/gguf");
  std::ifstream list(folder / "EXPECT.tsv");
  int files = 0;
  for (std::string line; std::getline(list, line); ++files) {
    std::istringstream fields(line);
    std::string name, bytes, verdict, peer, keys, tensors;
    for (std::string* field : {&name, &bytes, &verdict, &peer, &keys, &tensors})
      std::getline(fields, *field, '\t');
    const std::string said = message_of([&] { GgufFile opened(folder / name); });
    EXPECT_EQ(said == "nothing thrown" ? "expected=accept" : "expected=reject", verdict)
        << name << ": " << said;
    if (verdict != "expected=accept" || said != "nothing thrown") continue;
    const GgufFile file(folder / name);
    EXPECT_EQ(cat("n_kv=", file.metadata().values().size()), keys) << name;
    EXPECT_EQ(cat("n_tensors=", file.tensors().size() + file.unreadable().size()), tensors) << name;
    EXPECT_EQ(file.header_only(), name.starts_with("TENSORS")) << name;
  }
  EXPECT_GT(files, 20);
}

TEST(Gguf, ReadsARealModel) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const GgufFile file(folder / "stories260K.gguf");
  EXPECT_EQ(file.version(), 3u);
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.string("general.architecture"), "llama");
  EXPECT_EQ(m.integer("llama.embedding_length", 1, 1000), 64);
  EXPECT_EQ(m.integer("llama.attention.head_count_kv", 1, 1000), 4);
  const auto tokens = m.strings("tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 512u);
  EXPECT_EQ(tokens[1], "<s>");
  EXPECT_EQ(m.numbers("tokenizer.ggml.scores").size(), 512u);
  const SafetensorsFolder same(folder / "hf");
  for (const auto& [ours, theirs] :
       {std::pair("token_embd.weight", "model.embed_tokens.weight"),
        std::pair("blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight")}) {
    const Tensor a = file.tensors().at(ours), b = same.tensors().at(theirs);
    ASSERT_EQ(a.shape, b.shape);
    EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0) << ours;
  }
}

TEST(Gguf, WhatIsWrittenIsRead) {
  const test::MemoryFile memory(test::sample_gguf());
  const GgufFile file(memory.path());
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.integer("u32", 0, 10), 7);
  EXPECT_EQ(m.integer("i32", -10, 10), -7);
  EXPECT_EQ(m.integer("u64", 0, INT64_MAX), int64_t{1} << 40);
  EXPECT_EQ(m.integer("i64", INT64_MIN, 0), -(int64_t{1} << 40));
  EXPECT_EQ(m.number("f32"), 0.5);
  EXPECT_EQ(m.number("f64"), 0.25);
  EXPECT_EQ(m.number("u32"), 7);
  EXPECT_TRUE(m.boolean("bool", false));
  EXPECT_EQ(m.integers("bytes", 0, 255), (std::vector<int64_t>{0, 127, 255}));
  EXPECT_EQ(m.integers("i32s", -9, 9), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(m.integers("u32", 0, 9), (std::vector<int64_t>{7}));
  EXPECT_EQ(m.numbers("f32s"), (std::vector<float>{0, -1, 2.5f}));
  EXPECT_EQ(m.booleans("bools"), (std::vector<bool>{true, false}));
  EXPECT_EQ(m.strings("texts"), (std::vector<std::string>{"<s>", "", "\xe2\x96\x81the"}));
  EXPECT_TRUE(m.strings("none").empty());
  EXPECT_EQ(m.integer("none", 0, 9, 3), 3);
  EXPECT_EQ(m.string("none", "x"), "x");
  EXPECT_EQ(file.tensors().at("f32").shape, Shape({2, 3}));
  EXPECT_EQ(file.tensors().at("bf16").shape, Shape({2, 1, 2, 2}));
  for (const auto& [name, tensor] : file.tensors()) {
    EXPECT_EQ(name, dtype_name(tensor.dtype));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % 32, 0u);
    std::vector<float> values(static_cast<size_t>(tensor.size()));
    to_f32(tensor.data, tensor.dtype, values.data(), tensor.size());
    for (size_t i = 0; i < values.size(); ++i)  // q4_0: half a step of an eighth of the greatest
      EXPECT_NEAR(values[i], static_cast<float>(i % 37) / 16 - 1, 0.1) << name;
  }
}

TEST(Gguf, MetadataAndBlocksAreCopiedAsTheyAre) {
  test::TempFolder folder;
  const test::MemoryFile memory(test::sample_gguf());
  const GgufFile file(memory.path());
  std::vector<GgufEntry> metadata;
  for (const auto& [key, value] : file.metadata().values()) metadata.push_back({key, value});
  std::vector<GgufTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) tensors.push_back({name, tensor.shape, tensor.dtype});
  GgufWriter writer(folder / "copy.gguf", metadata, tensors);
  for (const auto& [name, tensor] : file.tensors()) writer.write(tensor);
  EXPECT_FALSE(std::filesystem::exists(folder / "copy.gguf"));  // before it is whole
  writer.commit();
  const GgufFile copy(folder / "copy.gguf");
  for (const auto& [key, value] : file.metadata().values()) {
    const GgufValue& copied = copy.metadata().values().at(key);
    EXPECT_EQ(copied.type, value.type);
    EXPECT_EQ(copied.list, value.list);
    EXPECT_TRUE(std::equal(value.bytes.begin(), value.bytes.end(), copied.bytes.begin(), copied.bytes.end()));
  }
  for (const auto& [name, tensor] : file.tensors())
    EXPECT_EQ(std::memcmp(copy.tensors().at(name).data, tensor.data, tensor.bytes()), 0) << name;
}

TEST(Gguf, AGetterNamesFileKeyOffsetAndWhatItFound) {
  const test::MemoryFile memory(test::sample_gguf());
  const GgufFile file(memory.path());
  const GgufMetadata& m = file.metadata();
  const std::string name = memory.path().string();
  const std::string offset = cat(m.values().at("u32").offset);
  EXPECT_EQ(message_of([&] { m.integer("u32", 8, 9); }),
            name + ": u32: at offset " + offset + ": expected an integer from 8 to 9, found uint32 7");
  EXPECT_EQ(message_of([&] { m.string("none"); }), name + ": none: expected a string, found nothing");
  EXPECT_SAYS(message_of([&] { m.string("u32"); }), "expected a string, found uint32 7");
  EXPECT_SAYS(message_of([&] { m.integer("f32", 0, 1); }), "found float32 0.5");
  EXPECT_SAYS(message_of([&] { m.integer("texts", 0, 1); }), "expected an integer, found a list of 3 string");
  EXPECT_SAYS(message_of([&] { m.integers("i32s", 0, 9); }), "found int32 -2 as element 1");
  EXPECT_SAYS(message_of([&] { m.number("bool"); }), "expected a finite number, found boolean");
  EXPECT_SAYS(message_of([&] { m.boolean("i32", true); }), "expected true or false, found int32 -7");
  EXPECT_SAYS(message_of([&] { m.strings("f32s"); }), "found a list of 3 float32");
  EXPECT_SAYS(message_of([&] { m.numbers("texts"); }), "found string as element 0");
}

TEST(Gguf, TheHeaderIsChecked) {
  EXPECT_SAYS(opening("GGML"), "magic: at offset 0");
  EXPECT_EQ(opening(Bytes().header(0, 0).data(0).text), "nothing thrown");
  EXPECT_EQ(opening(Bytes().header(0, 0, 2).data(0).text), "nothing thrown");
  EXPECT_SAYS(opening(Bytes().header(0, 0, 1).text), "version: at offset 4: expected 2 or 3, found 1");
  EXPECT_SAYS(opening(Bytes().header(0, 0, 3u << 24).text), "big-endian");
  EXPECT_SAYS(opening(Bytes().header(~0ull, 0).text), "number of tensors: at offset 8");
  EXPECT_SAYS(opening(Bytes().header(0, 1ull << 60).text), "number of keys: at offset 16");
}

TEST(Gguf, MetadataIsChecked) {
  const auto entry = [] { return Bytes().header(0, 1).name("k"); };
  EXPECT_EQ(opening(entry().put(4u).put(9u).text), "nothing thrown");
  EXPECT_SAYS(opening(entry().put(13u).put(9u).text),
              "k: at offset 33: expected a type from 0 to 12, found 13");
  EXPECT_SAYS(opening(entry().put(8u).put(~0ull).text), "expected at most");
  EXPECT_SAYS(opening(entry().put(9u).put(4u).put(1ull << 62).text), "a list of 4611686018427387904");
  EXPECT_SAYS(opening(entry().put(9u).put(9u).put(1ull).text), "a list of lists");
  EXPECT_EQ(opening(entry().put(7u).put<uint8_t>(2).text), "nothing thrown");  // true, as llama.cpp reads it
  EXPECT_SAYS(opening(Bytes().header(0, 2).name("k").put(0u).put('a').name("k").put(0u).put('a').text),
              "k: at offset 38: stands twice");
  const auto alignment = [](uint32_t type, uint32_t value) {
    return Bytes().header(1, 1).name("general.alignment").put(type).put(value).tensor("t", {3}, 0, 0);
  };
  EXPECT_EQ(opening(alignment(4, 64).data(12, 64).text), "nothing thrown");
  EXPECT_EQ(opening(alignment(4, 1).data(12, 1).text), "nothing thrown");
  for (const uint32_t bad : {0u, 13u, 48u})
    EXPECT_SAYS(opening(alignment(4, bad).data(64, 64).text), "expected a power of two");
  EXPECT_SAYS(opening(alignment(5, 32).data(64).text), "expected an uint32");
}

TEST(Gguf, TensorsAreChecked) {
  const auto one = [](std::vector<uint64_t> dims, uint32_t type, uint64_t offset, size_t bytes) {
    return opening(Bytes().header(1, 0).tensor("t", std::move(dims), type, offset).data(bytes).text);
  };
  EXPECT_EQ(one({4, 2}, 0, 0, 32), "nothing thrown");
  EXPECT_EQ(one({}, 0, 0, 4), "nothing thrown");
  EXPECT_EQ(one({0, 1ull << 40}, 0, 0, 0), "nothing thrown");
  EXPECT_SAYS(one({4, 2}, 0, 32, 64), "expected its data at 0, found 32");
  EXPECT_SAYS(one({9}, 0, 0, 32), "data: at offset 64: expected 64 bytes, found 32");
  EXPECT_SAYS(one({1, 1, 1, 1, 1}, 0, 0, 32), "expected at most 4 dimensions, found 5");
  EXPECT_SAYS(one({~0ull}, 0, 0, 32), "dimension 0 of 18446744073709551615 is too large");
  EXPECT_SAYS(one({1ull << 33, 1ull << 33}, 0, 0, 32), "dimension 1 of 8589934592 is too large");
  EXPECT_SAYS(one({1ull << 62}, 0, 0, 32), "is too large");
  EXPECT_SAYS(one({33}, 8, 0, 64), "expected rows of a multiple of 32 elements for Q8_0, found 33");
  EXPECT_SAYS(one({32}, 4, 0, 64), "type 4 is none of ggml's");
  EXPECT_SAYS(opening(Bytes().header(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).data(64).text),
              "stands twice");
  EXPECT_SAYS(opening(Bytes().header(1, 0).tensor(std::string(64, 'n'), {8}, 0, 0).data(32).text),
              "expected at most 63 bytes of text, found 64");
}

TEST(Gguf, WhatNoTensorHoldsIsNamed) {
  const test::MemoryFile memory(
      Bytes().header(2, 0).tensor("iq", {256}, 19, 0).tensor("f", {8}, 0, 64).data(96).text);
  const GgufFile file(memory.path());
  EXPECT_EQ(file.unreadable().at("iq"), "IQ1_S");
  EXPECT_EQ(file.tensors().size(), 1u);
  EXPECT_FALSE(file.header_only());
}

TEST(GgufWriter, RefusesWhatCannotBeRead) {
  test::TempFolder folder;
  const auto writing = [&](std::vector<GgufEntry> metadata, std::vector<GgufTensor> tensors) {
    return message_of([&] { GgufWriter(folder / "x.gguf", metadata, std::move(tensors)).commit(); });
  };
  EXPECT_EQ(writing({}, {}), "nothing thrown");
  EXPECT_SAYS(writing({{"k", true}, {"k", false}}, {}), "k: given twice");
  EXPECT_SAYS(writing({{"general.alignment", 64u}}, {}), "is always 32");
  EXPECT_SAYS(writing({{std::string(70000, 'k'), 1u}}, {}), "keys of at most 65535 bytes");
  EXPECT_SAYS(writing({}, {{"t", {2}, DType::f32}, {"t", {2}, DType::f32}}), "t: given twice");
  EXPECT_SAYS(writing({}, {{std::string(64, 't'), {2}, DType::f32}}), "at most 63 bytes");
  EXPECT_SAYS(writing({}, {{"t", {33}, DType::q8_0}}), "Q8_0 wants rows of a multiple of 32, found 33");
  EXPECT_SAYS(writing({}, {{"t", {2}, DType::f8_e4m3}}), "GGUF has no type f8_e4m3");
  EXPECT_SAYS(writing({}, {{"t", {2}, DType::f32}}), "expected 1 tensors, given 0");
  std::vector<float> values(4);
  GgufWriter writer(folder / "y.gguf", {}, {{"t", {4}, DType::f16}});
  EXPECT_SAYS(message_of([&] { writer.write(Tensor(values.data(), {4})); }),
              "t: expected (4) of f16, found (4) of f32");
}

TEST(GgufWriter, TakesATensorInSlices) {
  test::TempFolder folder;
  std::vector<float> values(3 * 4 * 32);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 23);
  const std::vector<GgufTensor> tensors = {{"a", {3, 4, 32}, DType::q8_0}, {"b", {3}, DType::f32}};
  for (const bool slices : {false, true}) {
    GgufWriter writer(folder / (slices ? "slices.gguf" : "whole.gguf"), {}, tensors);
    for (int64_t i = 0; slices && i < 3; ++i) {
      writer.write(Tensor(values.data() + i * 128, {4, 32}), from_f32);
      if (i == 2) continue;
      EXPECT_SAYS(message_of([&] {
                    writer.write(Tensor(values.data(), {3, 4, 32}), from_f32);
                  }),
                  "a: expected (3, 4, 32) of f32");
      EXPECT_SAYS(message_of([&] { writer.commit(); }), "expected 2 tensors, given 0");
    }
    if (!slices) writer.write(Tensor(values.data(), {3, 4, 32}), from_f32);
    writer.write(Tensor(values.data(), {3}), from_f32);
    writer.commit();
  }
  EXPECT_EQ(test::read_text(folder / "slices.gguf"), test::read_text(folder / "whole.gguf"));
}

TEST(GgufWriter, LeavesNothingBehindUnlessCommitted) {
  test::TempFolder folder;
  test::write_text(folder / "x.gguf", "before");
  { GgufWriter writer(folder / "x.gguf", {}, {{"t", {4}, DType::f32}}); }
  EXPECT_EQ(test::read_text(folder / "x.gguf"), "before");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace llmtool
