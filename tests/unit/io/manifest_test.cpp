#include "phi3tune/io/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "support/temp_folder.h"

namespace phi3tune::io {
namespace {

using test::message_of;
using test::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// A folder with two files and their manifest.
struct Folder : TempFolder {
  Folder() {
    write("a.bin", std::string(5000, 'a'));
    write("b.json", "{}");
    manifest.kind = "checkpoint";
    manifest.facts["step"] = 200;
    manifest.facts["loss"] = 0.1;
    manifest.facts["name"] = "\"q\" \u00e9";
    for (const char* name : {"a.bin", "b.json"}) {
      manifest.files[name] = measure_file(*this / name);
    }
    write(kManifestName, manifest_text(manifest));
  }
  std::string refusal(std::string_view text) const {
    write(kManifestName, text);
    return message_of<CheckpointError>([&] { (void)read_manifest(path()); });
  }
  Manifest manifest;
};

// The same members in other words, with the checksum made right.
std::string signed_text(std::string text) {
  const std::string key = "\"checksum\": \"";
  const size_t at = text.rfind(key) + key.size();
  text.replace(at, 32, std::string(32, '0'));
  return text.replace(at, 32, hash_bytes(text).hex());
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Manifest, ReadsBackWhatWasWritten) {
  const Folder folder;
  const Manifest read = read_manifest(folder.path());
  EXPECT_EQ(read.kind, "checkpoint");
  EXPECT_EQ(read.facts, folder.manifest.facts);
  ASSERT_EQ(read.files.size(), 2U);
  EXPECT_EQ(read.files.at("a.bin").bytes, 5000U);
  EXPECT_EQ(read.files.at("a.bin").hash, hash_bytes(std::string(5000, 'a')).hex());
  EXPECT_EQ(manifest_text(read), test::read_all(folder / kManifestName));
  EXPECT_THAT(faults_of(folder.path(), read), IsEmpty());
}

TEST(Manifest, TheTextIsTheDocumentedOne) {
  Manifest manifest;
  manifest.kind = "checkpoint";
  manifest.files["a"] = {3, std::string(32, 'f')};
  const std::string text = manifest_text(manifest);
  EXPECT_EQ(signed_text(text), text);
  EXPECT_THAT(text, StartsWith(R"({
  "format": 1,
  "program": "phi3-tune",
  "kind": "checkpoint",
  "facts": {},
  "files": {
    "a": {
      "bytes": 3,
      "xxh3_128": "ffffffffffffffffffffffffffffffff"
    }
  },
  "checksum": ")"));
}

TEST(Manifest, AFlipInAnyByteAndEveryTruncationIsFound) {
  const Folder folder;
  const std::string text = test::read_all(folder / kManifestName);
  ASSERT_GT(text.size(), 300U);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string flipped = text;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at * 5 % 8)));
    EXPECT_THAT(folder.refusal(flipped), HasSubstr(folder / kManifestName)) << at;
    EXPECT_THAT(folder.refusal(text.substr(0, at)), HasSubstr(folder / kManifestName)) << at;
  }
}

TEST(Manifest, TheSameSaidInOtherBytesIsDamage) {
  const Folder folder;
  const std::string text = manifest_text(folder.manifest);
  EXPECT_THAT(folder.refusal(text + "\n"), HasSubstr("damaged"));
  EXPECT_THAT(folder.refusal(" " + text), HasSubstr("damaged"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "0.1", "0.10"))), HasSubstr("damaged"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "\"format\": 1", "\"format\": 1.0"))), HasSubstr("damaged"));
  EXPECT_THAT(folder.refusal("\xEF\xBB\xBF" + text), HasSubstr("byte order mark"));
}

TEST(Manifest, WhatIsNotOursIsNamed) {
  const Folder folder;
  const std::string text = manifest_text(folder.manifest);
  EXPECT_THAT(folder.refusal("[]"), HasSubstr("not a manifest"));
  EXPECT_THAT(folder.refusal("{}"), HasSubstr("not a manifest"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "phi3-tune", "phi4-tune"))), HasSubstr("not a manifest"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "\"format\": 1", "\"format\": 2"))),
              HasSubstr("of format 2; this program reads format 1"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "\"kind\": ", "\"sort\": \"x\",\n  \"kind\": "))),
              HasSubstr("not a manifest"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "\"bytes\": 5000", "\"bytes\": -1"))),
              HasSubstr("a length in bytes"));
  EXPECT_THAT(folder.refusal(signed_text(replaced(text, "\"bytes\": 5000", "\"bytes\": 1e99"))),
              HasSubstr("a length in bytes"));
  EXPECT_THAT(folder.refusal(std::string(100000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(folder.refusal(std::string((size_t{16} << 20) + 1, ' ')), HasSubstr("more than a manifest has"));
}

TEST(Manifest, NamesThatLeaveTheFolderAreRefused) {
  const Folder folder;
  const std::string text = manifest_text(folder.manifest);
  for (const char* name : {"../a.bin", "/etc/passwd", "x/a.bin", "..", ".", "", "a\\u0000b", "manifest.json"}) {
    const std::string quoted = "\"" + std::string(name) + "\"";
    EXPECT_THAT(folder.refusal(signed_text(replaced(text, "\"a.bin\"", quoted))), HasSubstr("files: " + quoted))
        << name;
  }
  Manifest bad = folder.manifest;
  bad.files["../x"] = {1, std::string(32, '0')};
  EXPECT_THROW(manifest_text(bad), InternalError);
}

TEST(Manifest, MustBeARegularFileItself) {
  const Folder folder;
  std::filesystem::rename(folder / kManifestName, folder / "elsewhere.json");
  EXPECT_THAT(message_of<CheckpointError>([&] { (void)read_manifest(folder.path()); }), HasSubstr("no such file"));
  ASSERT_EQ(::symlink("elsewhere.json", (folder / kManifestName).c_str()), 0);
  EXPECT_THAT(message_of<CheckpointError>([&] { (void)read_manifest(folder.path()); }), HasSubstr("a link"));
  std::filesystem::remove(folder / kManifestName);
  ASSERT_EQ(::mkfifo((folder / kManifestName).c_str(), 0600), 0);
  EXPECT_THAT(message_of<CheckpointError>([&] { (void)read_manifest(folder.path()); }), HasSubstr("regular file"));
  std::filesystem::remove(folder / kManifestName);
  std::filesystem::create_directory(folder / kManifestName);
  EXPECT_THAT(message_of<CheckpointError>([&] { (void)read_manifest(folder.path()); }), HasSubstr("a folder"));
}

TEST(ManifestFiles, EachFaultIsNamedWithItsFile) {
  const Folder folder;
  const auto faults = [&] { return faults_of(folder.path(), folder.manifest); };
  const std::string a = folder / "a.bin";
  const std::string whole = test::read_all(a);

  std::string flipped = whole;
  flipped[4999] = static_cast<char>(flipped[4999] ^ 1);
  folder.write("a.bin", flipped);
  EXPECT_THAT(faults(), ElementsAre(StartsWith(a + ": damaged")));
  folder.write("a.bin", whole.substr(1));
  EXPECT_THAT(faults(), ElementsAre(a + ": 4999 bytes, the manifest says 5000"));
  folder.write("a.bin", "");
  EXPECT_THAT(faults(), ElementsAre(a + ": 0 bytes, the manifest says 5000"));
  std::filesystem::remove(a);
  EXPECT_THAT(faults(), ElementsAre(a + ": there is no such file"));
  folder.write("elsewhere", whole);
  ASSERT_EQ(::symlink("elsewhere", a.c_str()), 0);
  EXPECT_THAT(faults(), ElementsAre(a + ": a link, wanted a regular file"));
  std::filesystem::remove(a);
  std::filesystem::create_directory(a);
  EXPECT_THAT(faults(), ElementsAre(a + ": a folder, wanted a regular file"));
  folder.write("b.json", "[]");
  EXPECT_EQ(faults().size(), 2U);
}

TEST(ManifestFiles, AClaimOfGigabytesAndAFileOfThemCostNothing) {
  Folder folder;
  folder.manifest.files["a.bin"].bytes = uint64_t{10} << 30;
  EXPECT_THAT(faults_of(folder.path(), folder.manifest), ElementsAre(HasSubstr("5000 bytes, the manifest says 10737")));
  folder.manifest.files["a.bin"].bytes = 5000;
  ASSERT_EQ(::truncate((folder / "a.bin").c_str(), int64_t{10} << 40), 0);  // sparse: reading it would take an hour
  EXPECT_THAT(faults_of(folder.path(), folder.manifest), ElementsAre(HasSubstr("the manifest says 5000")));
}

TEST(ManifestFiles, FilesThatItDoesNotListAreNoneOfItsBusiness) {
  const Folder folder;
  folder.write("notes.txt", "mine");
  EXPECT_THAT(faults_of(folder.path(), folder.manifest), IsEmpty());
}

}  // namespace
}  // namespace phi3tune::io
