#pragma once
// How a text becomes one vector, and what a model's files say of it.

#include <cstdint>
#include <filesystem>
#include <optional>

namespace llmtool {

/// What stands for a whole sequence.
enum class Pooling {
  first,  // its first position (BERT's [CLS])
  last,   // its last position
  mean,   // the mean of all positions
  pooler  // the first behind BERT's pooler, a dense layer with tanh
};

struct EmbeddingSettings {
  std::optional<Pooling> pooling = {};  // empty: the files do not say
  bool normalize = false;               // to length 1
};

/// Of sentence-transformers' files in a model folder, where there are some. Throws Error where they do what
/// this program does not.
EmbeddingSettings read_embedding_settings(const std::filesystem::path& folder);

/// Writes those files, where the settings say something, of vectors of that width.
void write_embedding_settings(const EmbeddingSettings& settings, int64_t width,
                              const std::filesystem::path& folder);

}  // namespace llmtool
