#include "llmtool/train/run_folder.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>

#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;

#define EXPECT_SAYS(message, part) EXPECT_NE(std::string(message).find(part), std::string::npos) << message

template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing thrown";
}

void save(RunFolder& run, int64_t step, int64_t keep = 2) {
  run.save_checkpoint(step, keep, [&](const fs::path& place) {
    fs::create_directories(place / "model");
    test::write_text(place / "model/weights", "weights of step " + std::to_string(step));
  });
}

void damage(const fs::path& run, int64_t step) {
  test::write_text(run / "checkpoints" / ("step-" + std::to_string(step)) / "model/weights", "torn");
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

std::set<std::string> checkpoints_in(const fs::path& run) { return names_in(run / "checkpoints"); }

using Names = std::set<std::string>;

TEST(RunFolder, SavesFindsAndPrunes) {
  test::TempFolder folder;
  RunFolder run(folder / "a/run");
  EXPECT_FALSE(run.has_checkpoints());
  EXPECT_FALSE(run.latest_checkpoint());
  for (const int64_t step : {5, 10, 100}) save(run, step);
  EXPECT_TRUE(run.has_checkpoints());
  EXPECT_EQ(checkpoints_in(folder / "a/run"), (Names{"step-10", "step-100"}));
  ASSERT_TRUE(run.latest_checkpoint());
  EXPECT_EQ(run.latest_checkpoint()->step, 100);
  EXPECT_EQ(test::read_text(run.latest_checkpoint()->path / "model/weights"), "weights of step 100");
}

TEST(RunFolder, KeepsTwoWhateverItIsTold) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  for (int64_t step = 1; step <= 4; ++step) save(run, step, 0);
  EXPECT_EQ(checkpoints_in(folder / "run"), (Names{"step-3", "step-4"}));
  for (int64_t step = 5; step <= 9; ++step) save(run, step, 4);
  EXPECT_EQ(checkpoints_in(folder / "run").size(), 4u);
}

TEST(RunFolder, FallsBackToTheNewestThatIsWhole) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  for (const int64_t step : {1, 2, 3}) save(run, step, 3);
  damage(folder / "run", 3);
  testing::internal::CaptureStderr();
  const auto found = run.latest_checkpoint();
  const std::string said = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 2);
  EXPECT_SAYS(said, "step-3");
  EXPECT_SAYS(said, "model/weights");
}

/// A damaged checkpoint of a later step must not take the place of a whole one, least of all of the newest.
TEST(RunFolder, DamagedCheckpointsDoNotCountAsKept) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  for (const int64_t step : {100, 200, 300}) save(run, step, 3);
  damage(folder / "run", 200);
  damage(folder / "run", 300);
  ASSERT_EQ(run.latest_checkpoint()->step, 100);
  save(run, 150, 2);
  ASSERT_TRUE(run.latest_checkpoint());
  EXPECT_EQ(run.latest_checkpoint()->step, 150);
  const Names left = checkpoints_in(folder / "run");
  EXPECT_TRUE(left.contains("step-150"));
  EXPECT_TRUE(left.contains("step-100")) << "two whole ones stay";
}

TEST(RunFolder, AFailedSaveLosesNothing) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  save(run, 1);
  const std::string said = message_of([&] {
    run.save_checkpoint(2, 2, [](const fs::path& place) {
      test::write_text(place / "half", "x");
      throw Error("/some/file: cannot be written: No space left on device");
    });
  });
  EXPECT_SAYS(said, "checkpoint of step 2");
  EXPECT_SAYS(said, "No space left on device");
  EXPECT_EQ(checkpoints_in(folder / "run"), Names{"step-1"});
  EXPECT_EQ(run.latest_checkpoint()->step, 1);
}

TEST(RunFolder, SavingAStepAgainReplacesIt) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  save(run, 1);
  run.save_checkpoint(1, 2, [](const fs::path& place) { test::write_text(place / "other", "x"); });
  EXPECT_EQ(names_in(folder / "run/checkpoints/step-1"), (Names{"manifest.json", "other"}));
  EXPECT_EQ(checkpoints_in(folder / "run"), Names{"step-1"});
}

/// Killed between any two steps of a save: what was whole before can still be found.
TEST(RunFolder, AKilledSaveLeavesNoTraceAndLosesNothing) {
  test::TempFolder folder;
  {
    RunFolder run(folder / "run");
    save(run, 1);
  }
  const pid_t child = fork();
  if (child == 0) {
    RunFolder run(folder / "run");
    run.save_checkpoint(2, 2, [](const fs::path& place) {
      test::write_text(place / "half", "x");
      raise(SIGKILL);
    });
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(checkpoints_in(folder / "run"), (Names{"step-1", "step-2.tmp"}));
  RunFolder run(folder / "run");
  EXPECT_EQ(checkpoints_in(folder / "run"), Names{"step-1"});
  EXPECT_EQ(run.latest_checkpoint()->step, 1);
}

TEST(RunFolder, AReplacementThatWasCutShortIsUndone) {
  test::TempFolder folder;
  {
    RunFolder run(folder / "run");
    save(run, 1);
  }
  // The state between setting the old folder aside and moving the new one in.
  fs::rename(folder / "run/checkpoints/step-1", folder / "run/checkpoints/step-1.old");
  RunFolder run(folder / "run");
  ASSERT_TRUE(run.latest_checkpoint());
  EXPECT_EQ(run.latest_checkpoint()->step, 1);
  EXPECT_EQ(checkpoints_in(folder / "run"), Names{"step-1"});
}

TEST(RunFolder, StrangeNamesAreLeftAlone) {
  test::TempFolder folder;
  for (const char* name : {"step-", "step-x", "step-1x", "step--5", "other", "step-99999999999999999999"}) {
    fs::create_directories(folder / "run/checkpoints" / name);
  }
  RunFolder run(folder / "run");
  EXPECT_FALSE(run.latest_checkpoint());
  EXPECT_FALSE(run.has_checkpoints());
  for (int64_t step = 1; step <= 3; ++step) save(run, step);
  EXPECT_EQ(checkpoints_in(folder / "run").size(), 8u);
}

TEST(RunFolder, IsHeldByOneRun) {
  test::TempFolder folder;
  const RunFolder run(folder / "run");
  EXPECT_SAYS(message_of([&] { RunFolder second(folder / "run"); }), "in use by another run");
}

TEST(RunFolder, NamesAPlaceWhereItCannotBe) {
  test::TempFolder folder;
  test::write_text(folder / "file", "x");
  EXPECT_SAYS(message_of([&] { RunFolder run(folder / "file"); }), "file: cannot be created");
  EXPECT_SAYS(message_of([&] { RunFolder run("/proc/no-such-run"); }),
              "/proc/no-such-run: cannot be created");
}

TEST(Metrics, RowsComeBackInOrder) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  EXPECT_TRUE(run.metrics().empty());
  for (int step = 1; step <= 3; ++step) run.append_metrics({{"step", step}, {"loss", 1.5}});
  ASSERT_EQ(run.metrics().size(), 3u);
  EXPECT_EQ(run.metrics()[2]["step"], 3);
}

TEST(Metrics, ATornRowIsDroppedWhereverItStands) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  const std::string whole =
      "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"lo\n{\"step\":3}\n{\"step\":4,\"loss\":1";
  test::write_text(folder / "run/metrics.jsonl", whole);
  ASSERT_EQ(run.metrics().size(), 2u);
  run.rewind_metrics(10);
  EXPECT_EQ(test::read_text(folder / "run/metrics.jsonl"), "{\"step\":1,\"loss\":2.0}\n{\"step\":3}\n");
  run.append_metrics({{"step", 4}});
  EXPECT_EQ(run.metrics().size(), 3u);
}

TEST(Metrics, RewindingKeepsTheOtherRowsByteForByte) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  run.append_metrics({{"step", 1}, {"loss", 0.1}, {"learning_rate", 1e-3}, {"grad_norm", 2.0}});
  run.append_metrics({{"step", 1}, {"val_loss", 3.25}});
  const std::string before = test::read_text(folder / "run/metrics.jsonl");
  run.append_metrics({{"step", 2}, {"loss", 0.1}});
  run.rewind_metrics(1);
  EXPECT_EQ(test::read_text(folder / "run/metrics.jsonl"), before);
  run.rewind_metrics(-1);
  EXPECT_EQ(test::read_text(folder / "run/metrics.jsonl"), "");
}

TEST(Metrics, RowsOfAnotherKindDoNotStopAResume) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  test::write_text(folder / "run/metrics.jsonl",
                   "5\n[1]\n{\"step\":\"x\"}\n{\"step\":1}\n{\"step\":1e300}\n");
  EXPECT_NO_THROW(run.rewind_metrics(3));
  EXPECT_EQ(test::read_text(folder / "run/metrics.jsonl"), "{\"step\":1}\n");
}

TEST(Metrics, AFullDiskIsSaidAtOnce) {
  test::TempFolder folder;
  RunFolder run(folder / "run");
  run.append_metrics({{"step", 1}});
  const pid_t child = fork();  // the limit stays in the child
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit none{12, 12};
    setrlimit(RLIMIT_FSIZE, &none);
    const std::string said = message_of([&] { run.append_metrics({{"step", 2}, {"loss", 1.25}}); });
    _exit(said.find("metrics.jsonl: cannot be written") == std::string::npos ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  run.append_metrics({{"step", 3}});  // a row of its own, although the one before was torn
  ASSERT_EQ(run.metrics().size(), 2u);
  EXPECT_EQ(run.metrics()[1]["step"], 3);
}

}  // namespace
}  // namespace llmtool
