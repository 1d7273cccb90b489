// A data file: every record is read in some format, or refused with its place; the reader always comes to the end.
#include "fuzz.h"
#include "phi3tune/core/error.h"
#include "phi3tune/data/record_reader.h"
#include "phi3tune/data/records.h"

namespace {

void refused_in_one_line(const std::string& fault) {
  phi3tune::fuzz::promise(fault.find('\n') == std::string::npos, "a fault is one line: " + fault);
  phi3tune::fuzz::reads_or_refuses("", [&] { throw phi3tune::DataError(fault); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static fuzz::MemoryFile file;
  file.fill(fuzz::text_of(data, size));
  const config::DatasetOptions options;
  fuzz::reads_or_refuses(file.path(), [&] {
    data::RecordReader reader(file.path());
    uint64_t line = 0;
    for (data::RawRecord raw; reader.next(raw);) {
      fuzz::promise(raw.line >= line && raw.line <= size + 1, "lines go on");
      line = raw.line;
      if (!raw.fault.empty()) {
        fuzz::promise(raw.fault_line >= 1 && raw.fault_column >= 1, "a fault has its place");
        refused_in_one_line(raw.fault);
        continue;
      }
      const auto formats = data::matching_formats(raw.value, options);
      if (formats.size() != 1) {
        refused_in_one_line(data::describe_undetected(raw.value, formats, options));
      }
      for (const auto format : formats) {
        fuzz::reads_or_refuses("", [&] {
          const auto record = data::parse_record(raw.value, format, options);
          fuzz::promise(record.format == format, "the format is the one that was asked for");
          (void)data::content_hash(record);
        });
      }
    }
  });
  return 0;
}
