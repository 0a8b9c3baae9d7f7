// The database of records: what goes in comes out, whoever else writes and whatever happens.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "record_fixture.h"

namespace llmtool {
namespace {

using Json = nlohmann::ordered_json;

class RecordStoreTest : public test::RecordsTest {};

TEST_F(RecordStoreTest, KeepsEveryField) {
  Record r = record("Is \"good\" good?\n", "yes");
  r.time = "2026-05-01T12:00:00.250000Z";
  r.template_id = {"mood.txt", ""};
  r.template_text = "Is \"{text}\" good?\n";
  r.input = Json::parse(R"({"text": "good", "n": 3, "a": null})");
  r.sample = 2;
  r.model = {"runs/kjv", "00ff"};
  r.settings = Json::parse(R"({"temperature": 0.5, "max_new_tokens": 8})");
  r.tokens = 7;
  r.finish_reason = "stop";
  r.complete = false;
  r.expected = "";
  r.verdict = Verdict::wrong;
  r.judged_by = "exact";
  RecordStore store = open();
  EXPECT_EQ(store.add(r), 1);
  EXPECT_EQ(store.add(record("", "")), 2);

  const Record got = open(Mode::read).get(1);
  EXPECT_EQ(got.time, r.time);
  EXPECT_EQ(got.template_id, (Variant{"mood.txt", version_of_text(r.template_text)}));
  EXPECT_EQ(got.template_text, r.template_text);
  EXPECT_EQ(got.input.dump(), r.input.dump()) << "with its columns in their order";
  EXPECT_EQ(got.prompt, r.prompt);
  EXPECT_EQ(got.response, "yes");
  EXPECT_EQ(got.sample, 2);
  EXPECT_EQ(got.model, r.model);
  EXPECT_EQ(got.settings, r.settings);
  EXPECT_EQ(got.settings_hash, settings_hash(Json::parse(R"({"max_new_tokens": 8, "temperature": 0.5})")));
  EXPECT_EQ(got.tokens, 7);
  EXPECT_EQ(got.finish_reason, "stop");
  EXPECT_EQ(got.complete, false);
  EXPECT_EQ(got.expected, "");
  EXPECT_EQ(got.verdict, Verdict::wrong);
  EXPECT_EQ(got.judged_by, "exact");
  EXPECT_EQ(got.judged_at.size(), utc_now().size());

  const Record empty = store.get(2);
  EXPECT_EQ(empty.template_id, Variant());
  EXPECT_TRUE(empty.input.is_null() && empty.settings.is_null());
  EXPECT_FALSE(empty.expected || empty.verdict || empty.tokens || empty.complete);
  EXPECT_EQ(empty.time.size(), utc_now().size());
  EXPECT_REFUSED(store.get(3), "record 3");
}

TEST_F(RecordStoreTest, TextStaysTextWhateverItsBytes) {
  const std::string with_nul("a\0b", 3);
  RecordStore store = open();
  store.add(record(with_nul, "caf\xC3 \xFF"));
  EXPECT_EQ(store.get(1).prompt, with_nul);
  EXPECT_EQ(store.get(1).response, "caf\xEF\xBF\xBD \xEF\xBF\xBD");
  Record r = record("p", "r");
  r.template_text = "\xFF{a}";
  store.add(r);
  store.add(r);  // the same template again
  EXPECT_EQ(store.templates().size(), 1u);
}

TEST_F(RecordStoreTest, ATemplateVersionHasOneText) {
  RecordStore store = open();
  Record r = record("p", "r");
  r.template_id = {"t", "v1"};
  r.template_text = "{a}";
  store.add(r);
  r.template_text = "{a}!";
  EXPECT_THROW(store.add(r), UsageError);
  const std::vector<Record> both = {record("p", "other"), r};
  EXPECT_THROW(store.add(both), UsageError);
  EXPECT_EQ(all(store).size(), 1u) << "nothing of what was refused is there";
  r.template_text = "";  // known by its name alone
  store.add(r);
  EXPECT_EQ(store.get(2).template_text, "{a}");
  r.template_id.version = "v2";
  store.add(r);
  r.template_text = "{b}";
  store.add(r);
  EXPECT_EQ(store.get(3).template_text, "{b}");
  r.template_id.version = "";
  store.add(r);
  EXPECT_EQ(store.templates().size(), 3u);
}

TEST_F(RecordStoreTest, FiltersChoose) {
  RecordStore store = open();
  for (int i = 0; i < 6; ++i) {
    Record r = record(std::to_string(i), "r");
    r.template_id = {i % 2 ? "odd" : "even", "v"};
    r.model = {i < 3 ? "low" : "high", ""};
    if (i > 0) r.verdict = i < 4 ? Verdict::right : Verdict::wrong;
    store.add(r);
  }
  const auto chosen = [&](RecordFilter filter) {
    std::string prompts;
    for (const Record& r : all(store, filter)) prompts += r.prompt;
    EXPECT_EQ(store.ids(filter).size(), prompts.size());
    return prompts;
  };
  using Judged = RecordFilter::Judged;
  EXPECT_EQ(chosen({}), "012345");
  EXPECT_EQ(chosen({Judged::none, {}, {}, 0}), "0");
  EXPECT_EQ(chosen({Judged::judged, {}, {}, 0}), "12345");
  EXPECT_EQ(chosen({Judged::right, {}, {}, 0}), "123");
  EXPECT_EQ(chosen({Judged::wrong, {{"odd", "v"}}, {}, 0}), "5");
  EXPECT_EQ(chosen({Judged::any, {{"odd", "v"}, {"even", "v"}}, {{"high", ""}}, 0}), "345");
  EXPECT_EQ(chosen({Judged::any, {}, {{"low", ""}}, 2}), "12");
  const auto tallies = store.tallies({});
  ASSERT_EQ(tallies.size(), 4u);
  EXPECT_EQ(tallies[0].template_id, (Variant{"even", "v"}));
  EXPECT_EQ(tallies[0].right, 1);
  EXPECT_EQ(tallies[0].unjudged, 1);
}

TEST_F(RecordStoreTest, JudgingReplacesAndAnswersForItsNumber) {
  RecordStore store = open();
  store.add(record("p", "r"));
  const Judgement judged{1, Verdict::wrong, "person", "s"};
  store.judge({&judged, 1});
  EXPECT_EQ(store.get(1).verdict, Verdict::wrong);
  EXPECT_EQ(store.get(1).expected, "s");
  const Judgement undone{1, {}, "", {}};
  store.judge({&undone, 1});
  EXPECT_FALSE(store.get(1).verdict || store.get(1).expected);
  EXPECT_EQ(store.get(1).judged_at, "");
  const std::vector<Judgement> two = {judged, {7, Verdict::right, "person", {}}};
  EXPECT_REFUSED(store.judge(two), "record 7");
  EXPECT_FALSE(store.get(1).verdict) << "all or none";
}

TEST_F(RecordStoreTest, ImportsARecordOnce) {
  RecordStore store = open();
  Record r = record("p", "r");
  r.input = Json::parse(R"({"a": 1, "b": 2})");
  Record other = r;
  other.sample = 1;
  const std::vector<Record> rows = {r, other};
  EXPECT_EQ(store.import(rows).added, 2);
  EXPECT_EQ(store.import(rows).known, 2);
  r.input = Json::parse(R"({"b": 2, "a": 1})");  // the same columns
  r.expected = "e";
  r.verdict = Verdict::wrong;
  EXPECT_EQ(store.import({&r, 1}).completed, 1);
  EXPECT_EQ(store.get(1).verdict, Verdict::wrong);
  r.verdict = Verdict::right;
  r.expected = "f";
  EXPECT_EQ(store.import({&r, 1}).known, 1);
  EXPECT_EQ(store.get(1).expected, "e") << "what was said stays";
  r.time = "2020-01-01T00:00:00Z";
  EXPECT_EQ(store.import({&r, 1}).added, 1) << "at another time it is another answer";
  EXPECT_EQ(store.import({&r, 1}).known, 1);
  EXPECT_EQ(store.count(r, "", "9"), 2);
  EXPECT_EQ(store.count(r, r.time, "2021"), 1);
  EXPECT_EQ(store.count(r, "", r.time), 0);
  r.sample = 7;
  EXPECT_EQ(store.count(r, "", "9"), 0);
}

TEST_F(RecordStoreTest, OtherFilesAreRefusedAndStayAsTheyAre) {
  EXPECT_THROW(open(Mode::read), UsageError);
  EXPECT_THROW(open(Mode::write), UsageError);
  EXPECT_FALSE(std::filesystem::exists(file()));
  EXPECT_REFUSED(RecordStore(place.path(), Mode::create), "found a folder");
  for (const std::string& text : {std::string("short"), std::string(5000, 'x'),
                                  std::string("SQLite format 3") + '\0' + std::string(5000, 'x')}) {
    test::write_text(file(), text);
    for (const Mode mode : {Mode::read, Mode::write, Mode::create})
      EXPECT_REFUSED(open(mode), file().string());
    EXPECT_EQ(test::read_text(file()), text);
  }
  std::filesystem::remove(file());
  sql("CREATE TABLE mine(a)");
  const std::string before = test::read_text(file());
  EXPECT_REFUSED(open(), "expected a database of llmtool's records, found another one");
  EXPECT_EQ(test::read_text(file()), before);
}

TEST_F(RecordStoreTest, NewerTablesAreRefused) {
  open().add(record("p", "r"));
  sql("PRAGMA user_version = 3");
  for (const Mode mode : {Mode::read, Mode::create}) EXPECT_REFUSED(open(mode), "newer llmtool");
}

TEST_F(RecordStoreTest, OlderTablesAreReadAndBroughtUpToDateByWriters) {
  Record r = record("p", "r");
  r.finish_reason = "length";
  r.expected = "e";
  open().add(r);
  sql("ALTER TABLE records DROP COLUMN complete; PRAGMA user_version = 1");
  const std::string before = test::read_text(file());
  const RecordStore reader = open(Mode::read);
  const auto is_there = [](const Record& found) {
    EXPECT_EQ(found.finish_reason, "length");
    EXPECT_EQ(found.expected, "e");
    EXPECT_FALSE(found.complete);
  };
  is_there(reader.get(1));
  EXPECT_EQ(test::read_text(file()), before) << "a reader changes nothing";
  for (const Mode mode : {Mode::write, Mode::create}) {
    test::write_text(file(), before);
    RecordStore store = open(mode);
    is_there(store.get(1));
    r.complete = true;
    EXPECT_EQ(open(mode).add(r), 2);
    EXPECT_EQ(store.get(2).complete, true);
    EXPECT_EQ(store.import({&r, 1}).known, 1) << "the hash of what was there holds";
  }
  is_there(reader.get(1));
  EXPECT_EQ(all(reader).size(), 2u) << "a reader goes on where the tables have changed";
}

TEST_F(RecordStoreTest, AReaderWritesNothing) {
  open().add(record("p", "r"));
  const std::string before = test::read_text(file());
  RecordStore reader = open(Mode::read);
  EXPECT_REFUSED(reader.add(record("p", "r")), "read-only");
  EXPECT_EQ(test::read_text(file()), before);
}

/// Runs `work` in a process of its own; the caller waits for it.
pid_t in_process(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child != 0) return child;
  try {
    work();
  } catch (const std::exception& e) {
    fprintf(stderr, "%s\n", e.what());
    _exit(1);
  }
  _exit(0);
}

TEST_F(RecordStoreTest, TwoProcessesRecordAtOnce) {
  constexpr int kRows = 250;
  std::vector<pid_t> children;
  for (const char* name : {"a", "b"}) {
    children.push_back(in_process([&] {
      RecordStore store = open();  // both begin the file
      for (int i = 0; i < kRows; ++i) {
        Record r = record(name + std::to_string(i), "r");
        r.template_id = {"shared", ""};
        r.template_text = "{a}";
        store.add(r);
      }
    }));
  }
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  std::set<std::string> prompts;
  for (const Record& r : all(open(Mode::read))) prompts.insert(r.prompt);
  EXPECT_EQ(prompts.size(), 2u * kRows);
}

TEST_F(RecordStoreTest, AKilledProcessLosesNothingItHasSaid) {
  for (int round = 0; round < 8; ++round) {
    int said[2];
    ASSERT_EQ(pipe(said), 0);
    const pid_t child = in_process([&] {
      RecordStore store = open();
      for (int i = 0;; ++i) {
        // Several pages, so that the kill often comes in the middle of writing them.
        const int64_t id = store.add(record(std::string(20'000, 'p'), std::to_string(i)));
        if (write(said[1], &id, sizeof id) != sizeof id) _exit(1);
      }
    });
    close(said[1]);
    int64_t id = 0, last = 0;
    for (int i = 0; i < 3 + round && read(said[0], &id, sizeof id) == sizeof id; ++i) last = id;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    while (read(said[0], &id, sizeof id) == sizeof id) last = id;
    close(said[0]);
    const auto records = all(open(Mode::read));
    ASSERT_GE(records.size(), 3u);
    // The one row more may have been written, but not said.
    EXPECT_GE(records.back().id, last);
    EXPECT_LE(records.back().id, last + 1);
    EXPECT_EQ(static_cast<int64_t>(records.size()), records.back().id) << "no number is missing";
    for (const Record& r : records) ASSERT_EQ(r.prompt.size(), 20'000u);
  }
}

TEST(Variants, AreNamedInSeveralWays) {
  const std::vector<Variant> known = {{"mood.txt", "0123456789abcdef"},
                                      {"mood.txt", "v2"},
                                      {"other.txt", "fedcba9876543210"},
                                      {"runs/kjv", "0123aaaa"}};
  const auto count = [&](const char* selector) {
    return select_variants(known, selector, "template").size();
  };
  EXPECT_EQ(count("mood.txt"), 2u);
  EXPECT_EQ(count("mood.txt@v2"), 1u);
  EXPECT_EQ(count("mood.txt@01"), 1u);
  EXPECT_EQ(count("v2"), 1u);
  EXPECT_EQ(count("fedc"), 1u);
  EXPECT_EQ(count("0123"), 2u);
  EXPECT_EQ(count("kjv"), 1u);
  EXPECT_EQ(count("runs/kjv@0123aaaa"), 1u);
  for (const char* nothing : {"fed", "mood", "mood.txt@v3", "", "@"})
    EXPECT_THROW(count(nothing), UsageError) << nothing;
  EXPECT_REFUSED(select_variants(known, "x", "model"), "mood.txt@0123456789abcdef, mood.txt@v2, other.txt");
}

}  // namespace
}  // namespace llmtool
