#include "commands/engine/prompt_log.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace phi3tune::commands {
namespace {

TEST(PromptLog, LinesOfEvaluationsThatAreMadeAgainAreNotKept) {
  const test::TempFolder folder;
  const std::string first = "{\"step\":0,\"prompt\":\"a\",\"answer\":\"b\"}\n";
  const std::string second = "{\"step\":4,\"prompt\":\"a\",\"answer\":\"c\"}\n";
  const auto path = folder.write("generations.jsonl", first + second + second);
  EXPECT_EQ(bytes_until_step(path, -1), 0U);
  EXPECT_EQ(bytes_until_step(path, 0), first.size());
  EXPECT_EQ(bytes_until_step(path, 3), first.size());
  EXPECT_EQ(bytes_until_step(path, 4), first.size() + 2 * second.size());
  EXPECT_EQ(bytes_until_step(folder / "nothing", 4), 0U);
}

TEST(PromptLog, ALineThatWasCutShortEndsWhatIsKept) {
  const test::TempFolder folder;
  const std::string first = "{\"step\":0,\"prompt\":\"a\",\"answer\":\"b\"}\n";
  EXPECT_EQ(bytes_until_step(folder.write("a.jsonl", first + "{\"step\":0,\"pro"), 9), first.size());
  EXPECT_EQ(bytes_until_step(folder.write("b.jsonl", first + "{\"step\":0}"), 9), first.size());
  EXPECT_EQ(bytes_until_step(folder.write("c.jsonl", "nonsense\n" + first), 9), 0U);
}

}  // namespace
}  // namespace phi3tune::commands
