// An evaluation as a web page: complete in itself, without scripts.
#pragma once

#include <string>

#include "eval_report.h"

namespace phi3tune::commands {

std::string html_report(const Evaluation& evaluation);

}  // namespace phi3tune::commands
