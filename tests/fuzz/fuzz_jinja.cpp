// Template texts of model folders, which are compared and never executed.
#include "fuzz.h"
#include "phi3tune/core/text.h"
#include "phi3tune/data/jinja.h"
#include "phi3tune/data/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  const auto text = fuzz::text_of(data, size);
  if (find_invalid_utf8(text) != std::string_view::npos) {
    return 0;  // the readers of the files refuse it
  }
  const auto canonical = data::canonical_jinja(text);
  fuzz::promise(find_invalid_utf8(canonical) == std::string_view::npos, "the one spelling is text");
  (void)data::first_difference(canonical, "{% for message in messages %}");
  if (const auto known = data::ChatTemplate::recognise(text, "<|endoftext|>", "<s>")) {
    fuzz::promise(data::canonical_jinja(known->jinja()) == canonical, "a template that is recognised keeps its text");
  }
  return 0;
}
