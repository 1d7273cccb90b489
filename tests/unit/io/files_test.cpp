#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/made_folders.h"
#include "phi3tune/io/mapped_file.h"
#include "support/temp_folder.h"

namespace phi3tune::io {
namespace {

using test::message_of;
using test::read_all;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

size_t files_in(const TempFolder& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

TEST(AtomicFile, AppearsWholeAndOnlyAtCommit) {
  const TempFolder folder;
  const auto path = folder.write("a.json", "old");
  {
    AtomicFile file(path);
    file.write("new ");
    file.write("text");
    EXPECT_EQ(read_all(path), "old");
    file.commit();
    EXPECT_EQ(read_all(path), "new text");
  }
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, WithoutCommitNothingIsLeft) {
  const TempFolder folder;
  { AtomicFile(folder / "a").write("x"); }
  EXPECT_EQ(files_in(folder), 0u);
}

TEST(AtomicFile, TwoWritersOfOnePathDoNotMix) {
  const TempFolder folder;
  AtomicFile one(folder / "a");
  AtomicFile two(folder / "a");
  one.write("1");
  two.write("2");
  one.commit();
  two.commit();
  EXPECT_EQ(read_all(folder / "a"), "2");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, FollowsTheUmaskLikeAnyFile) {
  const TempFolder folder;
  const auto before = ::umask(027);
  write_file_atomically(folder / "a", "x");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST(AtomicFile, FaultsNameTheFinalPathAndTheReason) {
  const TempFolder folder;
  EXPECT_THAT(message_of<ResourceError>([&] { AtomicFile(folder / "none/a"); }),
              AllOf(HasSubstr(folder / "none/a"), HasSubstr("No such file")));
  std::filesystem::create_directory(folder / "taken");
  EXPECT_THAT(message_of<ResourceError>([&] { write_file_atomically(folder / "taken", "x"); }),
              AllOf(HasSubstr(folder / "taken"), HasSubstr("directory")));
  EXPECT_EQ(files_in(folder), 1u);
}

// A limit on the file size stands in for a full disk: the same path through write().
TEST(AtomicFile, FullDiskIsAnErrorAndLeavesTheOldFile) {
  const TempFolder folder;
  const auto path = folder.write("a", "old");
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const struct rlimit small { 4096, before.rlim_max };
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto message = message_of<ResourceError>([&] { write_file_atomically(path, std::string(10'000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(message, AllOf(HasSubstr(path), HasSubstr("cannot write")));
  EXPECT_EQ(read_all(path), "old");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(Directories, AreMadeWithTheirParents) {
  const TempFolder folder;
  make_directories(folder / "a/b/c");
  make_directories(folder / "a/b/c");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
  folder.write("file", "");
  EXPECT_THAT(message_of<ResourceError>([&] { make_directories(folder / "file/x"); }), HasSubstr("file/x"));
}

TEST(MadeFolders, GoUnlessTheyAreKept) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "there");
  { const MadeFolders made(folder / "there/a/b/"); }
  EXPECT_EQ(files_in(folder), 1u);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "there"));
  MadeFolders(folder / "there/a/b").keep();
  EXPECT_TRUE(std::filesystem::is_directory(folder / "there/a/b"));
}

TEST(MadeFolders, MayBeNamedFromTheCurrentFolder) {
  const TempFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  { const MadeFolders made("."); }
  { const MadeFolders made("a/b"); }
  EXPECT_EQ(files_in(folder), 0u);
  MadeFolders("a/../c").keep();
  std::filesystem::current_path(before);
  EXPECT_TRUE(std::filesystem::is_directory(folder / "c"));
}

TEST(MadeFolders, StayWhenTheyHoldSomething) {
  const TempFolder folder;
  {
    const MadeFolders made(folder / "a/b/c");
    folder.write("a/of_another", "");
  }
  EXPECT_TRUE(std::filesystem::exists(folder / "a/of_another"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a/b"));
}

TEST(MadeFolders, GoWhenOneOfThemCannotBeMade) {
  const TempFolder folder;
  const auto too_long = std::string(300, 'x');
  EXPECT_THAT(message_of<ResourceError>([&] { MadeFolders(folder / ("a/b/" + too_long + "/c")); }),
              HasSubstr(too_long));
  EXPECT_EQ(files_in(folder), 0u);
  folder.write("file", "");
  EXPECT_THAT(message_of<ResourceError>([&] { MadeFolders(folder / "file/x"); }), HasSubstr("file/x"));
}

TEST(LineWriter, AppendsAndEndsEachLine) {
  const TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  { LineWriter(path).write_line("{\"step\": 1}"); }
  LineWriter writer(path);
  writer.write_line("{\"step\": 2}");
  writer.sync();
  EXPECT_EQ(read_all(path), "{\"step\": 1}\n{\"step\": 2}\n");
}

TEST(LineWriter, ALineThatDoesNotFitIsTakenBack) {
  const TempFolder folder;
  LineWriter writer(folder / "m");
  writer.write_line("first");
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const struct rlimit small { 4096, before.rlim_max };
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(writer.write_line(std::string(5000, 'x')), ResourceError);
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(read_all(folder / "m"), "first\n");
}

TEST(MappedFile, ShowsTheBytes) {
  const TempFolder folder;
  const auto file = MappedFile::open(folder.write("a", "hello"));
  ASSERT_EQ(file.bytes().size(), 5u);
  EXPECT_EQ(std::memcmp(file.bytes().data(), "hello", 5), 0);
  EXPECT_TRUE(MappedFile::open(folder.write("empty", "")).bytes().empty());
}

TEST(MappedFile, MovesWithItsBytes) {
  const TempFolder folder;
  auto one = MappedFile::open(folder.write("a", "one"));
  auto two = MappedFile::open(folder.write("b", "other"));
  one = std::move(two);
  EXPECT_EQ(one.bytes().size(), 5u);
  EXPECT_EQ(one.path(), folder / "b");
  const MappedFile three(std::move(one));
  EXPECT_EQ(std::memcmp(three.bytes().data(), "other", 5), 0);
}

TEST(MappedFile, RefusesWhatIsNotARegularFile) {
  const TempFolder folder;
  EXPECT_THAT(message_of<ModelError>([&] { MappedFile::open(folder.path()); }), HasSubstr("a folder"));
  EXPECT_THAT(message_of<ModelError>([&] { MappedFile::open(folder / "none"); }), HasSubstr("No such file"));
  EXPECT_THAT(message_of<ModelError>([&] { MappedFile::open("/dev/zero"); }), HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of<ModelError>([&] { MappedFile::open(folder / "pipe"); }), HasSubstr("not a regular file"));
}

size_t resident_pages(std::span<const std::byte> bytes) {
  std::ifstream smaps("/proc/self/smaps");
  std::ostringstream start;
  start << std::hex << reinterpret_cast<uintptr_t>(bytes.data()) << "-";
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find('-') != std::string::npos && line.find(' ') > 16) {
      here = line.starts_with(start.str());
    } else if (here && line.starts_with("Rss:")) {
      return std::stoul(line.substr(4)) * 1024 / static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    }
  }
  ADD_FAILURE() << "the mapping was not found";
  return 0;
}

TEST(MappedFile, ReleaseGivesBackWholePagesInsideTheRangeOnly) {
  const TempFolder folder;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto file = MappedFile::open(folder.write("a", std::string(64 * page + 10, 'x')));
  const auto sum = [&] {
    unsigned total = 0;
    for (const auto byte : file.bytes()) {
      total += std::to_integer<unsigned>(byte);
    }
    return total;
  };
  const unsigned expected = sum();
  EXPECT_EQ(resident_pages(file.bytes()), 65u);
  file.release(1, 3 * page);  // covers pages 1 and 2 whole
  EXPECT_EQ(resident_pages(file.bytes()), 63u);
  file.release(3 * page, file.bytes().size());  // to the end, the short page too
  EXPECT_EQ(resident_pages(file.bytes()), 1u);
  EXPECT_EQ(sum(), expected);
}

}  // namespace
}  // namespace phi3tune::io
