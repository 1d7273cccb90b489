// Gathers what files, environment and command line say, name by name, before any value is read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/names.h"
#include "config/reader.h"
#include "phi3tune/config/settings.h"

namespace phi3tune::config {

// What a source says about one setting.
struct Given {
  io::YamlNode value;     // in the canonical setting's own terms
  std::string written;    // the name the source used
  io::Position position;  // of the name
  size_t rank = 0;        // of the source: a higher one wins
  bool broken = false;    // the value was a fault already
};

// By canonical name. A null value is one that was set back to the default.
using GivenSettings = std::map<std::string, Given, std::less<>>;

struct Gathered {
  GivenSettings given;   // variables not yet expanded: only those of values that count have to be there
  bool complete = true;  // false: a file could not be read, so what is not given may stand there
};

// Every name is resolved; unknown, ambiguous, foreign and not yet working names become faults, and so do two names of
// one setting with different values in one source.
Gathered gather(const SettingsSources& sources, FaultList& faults, std::vector<std::string>& notes);

// False for nothing, false, 0 and an empty list: a setting given so asks for nothing.
bool asks_for_something(const io::YamlNode& value);

}  // namespace phi3tune::config
