// Hashes, errors and the log.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/core/log.h"

namespace phi3tune {
namespace {

// Expected: python-xxhash, xxhash.xxh3_128_hexdigest(data).
TEST(Hash, IsXxh3OfTheBytes) {
  EXPECT_EQ(hash_bytes("").hex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_bytes("Phi-3").hex(), "4b41b2a5c3ffefb51599358614d51535");
  std::string long_text(100'000, '\0');
  for (size_t i = 0; i < long_text.size(); ++i) {
    long_text[i] = static_cast<char>(i % 251);
  }
  EXPECT_EQ(hash_bytes(long_text).hex(), "54182c58bbb1337c42c23aeead96750d");
}

TEST(Hash, StreamEqualsTheWholeHoweverItIsCut) {
  const std::string text(5000, 'x');
  for (const size_t piece : {1, 7, 240, 241, 1024, 5000}) {
    StreamHash stream;
    for (size_t i = 0; i < text.size(); i += piece) {
      stream.update(std::string_view(text).substr(i, piece));
    }
    EXPECT_EQ(stream.digest(), hash_bytes(text)) << piece;
  }
  EXPECT_NE(hash_bytes("a"), hash_bytes("b"));
}

template <typename ErrorType>
int code_of() {
  try {
    throw ErrorType("{}:{}: found {}", "file", 3, "x");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "file:3: found x");
    return static_cast<int>(error.exit_code());
  }
}

TEST(Errors, CarryTheExitCodeOfWhoMustAct) {
  EXPECT_EQ(code_of<ConfigError>(), 2);
  EXPECT_EQ(code_of<DataError>(), 3);
  EXPECT_EQ(code_of<ModelError>(), 3);
  EXPECT_EQ(code_of<ResourceError>(), 4);
  EXPECT_EQ(code_of<NumericsError>(), 5);
  EXPECT_EQ(code_of<CheckpointError>(), 6);
  EXPECT_EQ(code_of<InternalError>(), 70);
}

TEST(Errors, ATextOfTheUserIsNoFormat) { EXPECT_STREQ(ModelError(std::string("{} {0}")).what(), "{} {0}"); }

TEST(Errors, RequireThrowsOnlyWhenFalse) {
  EXPECT_NO_THROW(require(true, "x"));
  EXPECT_THROW(require(false, "x"), InternalError);
}

TEST(Log, LinesGoToStandardErrorAsTheyAre) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  log_info("step {}: {{}} {}", 3, "100%");
  log_warning("careful");
  log_line(LogLevel::kDebug, "not shown by default");
  set_log_level(LogLevel::kWarning);
  log_info("not shown either");
  set_log_level(LogLevel::kInfo);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "step 3: {} 100%\nwarning: careful\n");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

}  // namespace
}  // namespace phi3tune
