#include "llmtool/io/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;

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

TEST(MappedFile, ShowsTheBytes) {
  test::TempFolder folder;
  test::write_text(folder / "a", "hello");
  MappedFile file(folder / "a");
  ASSERT_EQ(file.bytes().size(), 5u);
  EXPECT_EQ(std::memcmp(file.bytes().data(), "hello", 5), 0);
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().size(), 5u);
  release_pages(moved.bytes().data(), moved.bytes().size());
  EXPECT_EQ(std::memcmp(moved.bytes().data(), "hello", 5), 0);
}

TEST(MappedFile, AnEmptyFileIsEmpty) {
  test::TempFolder folder;
  test::write_text(folder / "a", "");
  EXPECT_TRUE(MappedFile(folder / "a").bytes().empty());
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  test::TempFolder folder;
  EXPECT_SAYS(message_of([&] { MappedFile(folder / "none"); }), "none: cannot be opened: No such file");
  EXPECT_SAYS(message_of([&] { MappedFile(folder.path()); }), "expected a file");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_SAYS(message_of([&] { MappedFile(folder / "pipe"); }),
              "expected a file");  // and does not wait for a writer
}

TEST(ReadFile, ReadsUpToItsLimit) {
  test::TempFolder folder;
  test::write_text(folder / "a", std::string(100'000, 'x'));
  EXPECT_EQ(read_file(folder / "a").size(), 100'000u);
  EXPECT_SAYS(message_of([&] { read_file(folder / "a", 10); }), "at most 10 bytes");
}

TEST(WriteFile, ReplacesTheWholeFile) {
  test::TempFolder folder;
  write_file(folder / "a", "first, and longer");
  write_file(folder / "a", "second");
  EXPECT_EQ(test::read_text(folder / "a"), "second");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

TEST(WriteFile, AFailureLeavesTheOldFile) {
  test::TempFolder folder;
  EXPECT_SAYS(message_of([&] { write_file(folder / "no/such/folder", "x"); }), "cannot be written");
  fs::create_directories(folder / "taken");
  EXPECT_SAYS(message_of([&] { write_file(folder / "taken", "x"); }), "cannot be replaced");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

TEST(AtomicFile, WritersOfOneFileDoNotMeet) {
  test::TempFolder folder;
  const auto count = [&] {
    return std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator());
  };
  {
    AtomicFile first(folder / "a"), second(folder / "a");
    first.write("one", 3);
    second.write("another", 7);
    EXPECT_EQ(count(), 2);
    first.commit();
    EXPECT_EQ(test::read_text(folder / "a"), "one");
    second.commit();
  }
  EXPECT_EQ(test::read_text(folder / "a"), "another");
  std::vector<std::thread> writers;
  for (const char letter : std::string("abcd")) {
    writers.emplace_back([&, letter] {
      for (int i = 0; i < 50; ++i) write_file(folder / "a", std::string(10'000, letter));
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string last = test::read_text(folder / "a");
  EXPECT_EQ(last, std::string(10'000, last[0]));
  EXPECT_EQ(count(), 1);
}

TEST(AtomicFile, WhatAKilledWriterLeftGoesWithTheNext) {
  test::TempFolder folder;
  test::write_text(folder / "a.llmtool-0123abcd", "left behind");
  test::write_text(folder / "b.llmtool-0123abcd", "of another file");
  AtomicFile living(folder / "a");
  write_file(folder / "a", "x");
  EXPECT_FALSE(fs::exists(folder / "a.llmtool-0123abcd"));
  EXPECT_TRUE(fs::exists(folder / "b.llmtool-0123abcd"));
  living.write("y", 1);
  living.commit();
  EXPECT_EQ(test::read_text(folder / "a"), "y");
}

TEST(FileWriter, SaysThatTheDiskIsFull) {
  FileWriter full("/dev/full");
  EXPECT_SAYS(message_of([&] { full.write("x", 1); }),
              "/dev/full: cannot be written: No space left on device");
}

TEST(FileWriter, RewritesWhatItWrote) {
  test::TempFolder folder;
  FileWriter file(folder / "a");
  file.write("0000 body", 9);
  file.rewrite(0, "1234", 4);
  file.close();
  EXPECT_EQ(test::read_text(folder / "a"), "1234 body");
}

class Manifest : public ::testing::Test {
 protected:
  Manifest() {
    fs::create_directories(folder_ / "sub");
    test::write_text(folder_ / "a", "alpha");
    test::write_text(folder_ / "sub/b", "beta");
    write_manifest(folder_.path());
  }
  std::string problem() const { return verify_manifest(folder_.path()); }
  test::TempFolder folder_;
};

TEST_F(Manifest, AWholeFolderVerifies) {
  EXPECT_EQ(problem(), "");
  test::write_text(folder_ / "more", "not listed");
  EXPECT_EQ(problem(), "");
}

TEST_F(Manifest, HoldsSizesAndPublishedHashes) {
  test::write_text(folder_ / "empty", "");
  write_manifest(folder_.path());
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "manifest.json"));
  EXPECT_EQ(json["files"].size(), 3u);
  EXPECT_EQ(json["files"]["sub/b"]["bytes"], 4);
  // XXH3-128 of nothing, as its specification gives it.
  EXPECT_EQ(json["files"]["empty"]["xxh3_128"], "99aa06d3014798d86001c324468d497f");
}

TEST_F(Manifest, NamesWhatIsWrong) {
  test::write_text(folder_ / "sub/b", "betA");
  EXPECT_SAYS(problem(), "sub/b: its hash differs");
  test::write_text(folder_ / "sub/b", "bet");
  EXPECT_SAYS(problem(), "sub/b: expected 4 bytes, found 3");
  fs::remove(folder_ / "sub/b");
  EXPECT_SAYS(problem(), "sub/b: cannot be opened");
}

TEST_F(Manifest, EveryPrefixOfTheManifestIsRefused) {
  const std::string whole = test::read_text(folder_ / "manifest.json");
  for (size_t n = 0; n + 2 < whole.size(); ++n) {
    test::write_text(folder_ / "manifest.json", whole.substr(0, n));
    EXPECT_NE(problem(), "") << n;
  }
  fs::remove(folder_ / "manifest.json");
  EXPECT_NE(problem(), "");
}

TEST_F(Manifest, AHostileManifestIsRefused) {
  for (const char* text :
       {"{}", "[]", R"({"files": []})", R"({"files": {}})", R"({"files": {"a": 3}})",
        R"({"files": {"../a": {"bytes": 5, "xxh3_128": ""}}})",
        R"({"files": {"/etc/passwd": {"bytes": 5, "xxh3_128": ""}}})",
        R"({"files": {"a": {"bytes": -5, "xxh3_128": ""}}})",
        R"({"files": {"a": {"bytes": "5", "xxh3_128": ""}}})", R"({"files": {"a": {"bytes": 5}}})"}) {
    test::write_text(folder_ / "manifest.json", text);
    EXPECT_NE(problem(), "") << text;
  }
}

TEST(FolderLock, KeepsASecondProcessOutAndNamesTheFirst) {
  test::TempFolder folder;
  auto lock = std::make_unique<FolderLock>(folder.path());
  const std::string said = message_of([&] { FolderLock second(folder.path()); });
  EXPECT_SAYS(said, folder.path().string());
  EXPECT_SAYS(said, std::to_string(getpid()));
  lock.reset();
  EXPECT_NO_THROW(FolderLock third(folder.path()));
}

TEST(FolderLock, EndsWithItsProcessHoweverThatEnds) {
  test::TempFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    const FolderLock* const never_freed = new FolderLock(folder.path());
    raise(never_freed ? SIGKILL : SIGTERM);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_NO_THROW(FolderLock lock(folder.path()));
}

TEST(FolderLock, NamesAFolderThatIsNotThere) {
  test::TempFolder folder;
  EXPECT_SAYS(message_of([&] { FolderLock lock(folder / "none"); }), "none");
}

TEST(Hash, IsXxh3) {
  EXPECT_EQ(hash64({}), 0x2d06800538d394c2ULL);  // of nothing, as the specification gives it
  EXPECT_EQ(hex(0x2d06800538d394c2ULL), "2d06800538d394c2");
  EXPECT_EQ(hex(1), "0000000000000001");
  EXPECT_EQ(hex(0), "0000000000000000");
}

}  // namespace
}  // namespace llmtool
