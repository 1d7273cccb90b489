#include "phi3tune/generate/labels.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace phi3tune::generate {
namespace {

using Texts = std::vector<std::string>;

TEST(Labels, KeepArticlesAndLoseTheirEdges) {
  EXPECT_EQ(normalized_label(" A. "), "a");  // an answer's normal form would be empty
  EXPECT_EQ(normalized_label("\"Not  Urgent\"!\n"), "not urgent");
  EXPECT_EQ(normalized_label("C++"), "c");
  EXPECT_EQ(normalized_label("..."), "");
}

TEST(Labels, AreFewReferencesEachRepeated) {
  const auto labels = find_labels(Texts{"Yes", "no.", "yes", "No", "yes", "no", "no", "YES"});
  ASSERT_TRUE(labels);
  EXPECT_EQ(*labels, (Texts{"no", "yes"}));
}

TEST(Labels, AreNotThereWhereAReferenceComesOnceOrTheyAreMany) {
  EXPECT_FALSE(find_labels(Texts{"yes", "no", "yes", "no", "yes", "no", "yes", "perhaps"}));
  EXPECT_FALSE(find_labels(Texts{"a", "b", "c", "a", "b", "c"}));        // two references a label
  EXPECT_FALSE(find_labels(Texts(8, "always the same")));                // nothing to tell apart
  EXPECT_FALSE(find_labels(Texts{"x", "x", "x", "x", "", "", "", ""}));  // an empty answer is no label
  EXPECT_FALSE(find_labels(Texts{}));
}

TEST(Labels, AreCountedAsWantedGivenAndRight) {
  const Texts labels{"no", "yes"};
  const auto counts =
      count_labels(labels, Texts{"Yes.", "yes", "no", "maybe", ""}, Texts{"yes", "no", "no", "yes", "yes"});
  ASSERT_EQ(counts.labels.size(), 2U);
  EXPECT_EQ(counts.labels[0].wanted, 2);
  EXPECT_EQ(counts.labels[0].given, 1);
  EXPECT_EQ(counts.labels[0].right, 1);
  EXPECT_EQ(counts.labels[1].wanted, 3);
  EXPECT_EQ(counts.labels[1].given, 2);
  EXPECT_EQ(counts.labels[1].right, 1);
  EXPECT_EQ(counts.none, 2);
}

}  // namespace
}  // namespace phi3tune::generate
