// From what the sources say to RunOptions.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "config/checks.h"
#include "config/sources.h"
#include "phi3tune/config/settings.h"
#include "phi3tune/core/error.h"

namespace phi3tune::config {
namespace {

bool is_null(const Given& given) { return given.value.kind == io::YamlNode::Kind::kNull; }

class Resolver {
 public:
  explicit Resolver(const SettingsSources& sources) : sources_(sources) {}

  ResolvedSettings run() {
    auto gathered = gather(sources_, faults_, notes_);
    given_ = std::move(gathered.given);
    expand();
    note_empty_adapter();
    settle_rivals(given_, faults_, notes_);
    auto options = read(given_, faults_, notes_);
    if (gathered.complete) {
      check_required();
    }
    options = without_unused(std::move(options));
    check_together(options, given_, faults_);
    if (faults_.size() > 0) {
      throw ConfigError(faults_.text(sources_.files));
    }
    return finish(std::move(options));
  }

 private:
  void expand() {
    for (auto& [name, given] : given_) {
      const auto before = faults_.size();
      expand_variables(given.value, faults_);
      given.broken = given.broken || faults_.size() > before;
    }
  }

  RunOptions read(const GivenSettings& given, FaultList& faults, std::vector<std::string>& notes) {
    RunOptions options;
    for (const auto& setting : run_settings()) {
      const auto entry = given.find(setting.name);
      if (entry == given.end() || is_null(entry->second)) {
        continue;
      }
      if (entry->second.broken) {
        unread_.insert(setting.name);
        continue;
      }
      const auto before = faults.size();
      Reader reader(entry->second.written, faults, notes);
      setting.read(entry->second.value, reader, options);
      if (faults.size() > before) {
        unread_.insert(setting.name);
      }
    }
    return options;
  }

  // An empty `adapter:` is a full fine-tune in Axolotl.
  void note_empty_adapter() {
    const auto entry = given_.find("adapter");
    if (entry != given_.end() && is_null(entry->second)) {
      notes_.push_back(
          fmt::format("{}: {} is empty and read as lora", entry->second.position.text(), entry->second.written));
    }
  }

  void check_required() {
    for (const auto& setting : run_settings()) {
      const auto entry = given_.find(setting.name);
      if (setting.required && (entry == given_.end() || is_null(entry->second))) {
        const io::Position place{sources_.files.empty() ? "command line" : sources_.files.front(), 0, 0};
        faults_.add(place,
                    fmt::format("{} is missing; wanted {}: {}", setting.name, setting.name, setting.type.wanted));
      } else if (setting.required && !asks_for_something(entry->second.value) && unread_.count(setting.name) == 0) {
        faults_.add(entry->second.position, fmt::format("{} is empty; wanted {}", setting.name, setting.type.wanted));
      }
    }
  }

  // Settings that mean nothing beside the others: a fault, unless a higher source made them so (`--adapter lora` over
  // a file for qlora).
  RunOptions without_unused(RunOptions options) {
    GivenSettings used = given_;
    for (const auto& setting : run_settings()) {
      const auto entry = given_.find(setting.name);
      if (entry == given_.end() || is_null(entry->second) || !setting.applies || setting.applies(options)) {
        continue;
      }
      used.erase(setting.name);
      const auto& given = entry->second;
      if (!asks_for_something(given.value)) {
        continue;
      }
      size_t decided = 0;
      bool readable = true;
      for (const auto& name : setting.decided_by) {
        const auto decider = given_.find(name);
        decided = decider == given_.end() ? decided : std::max(decided, decider->second.rank);
        readable = readable && unread_.count(name) == 0;
      }
      if (decided > given.rank) {
        notes_.push_back(fmt::format("{}: {} is not used: it is for runs where {}", given.position.text(),
                                     given.written, setting.applies_text));
      } else if (readable) {
        faults_.add(given.position,
                    fmt::format("{} is used only where {}; take it out", given.written, setting.applies_text));
      }
    }
    if (used.size() == given_.size()) {
      return options;
    }
    FaultList said;
    std::vector<std::string> noted;
    return read(used, said, noted);
  }

  ResolvedSettings finish(RunOptions options) {
    if (options.schedule.scheduler == Scheduler::kConstant) {
      options.schedule.warmup_ratio = 0;
      options.schedule.warmup_steps.reset();
    }
    if (options.model.tokenizer_path.empty()) {
      options.model.tokenizer_path = options.model.base_model;
    }
    ResolvedSettings resolved;
    for (const auto& setting : run_settings()) {
      if (setting.later || !setting.stands_for.empty() || (setting.applies && !setting.applies(options))) {
        continue;
      }
      options.resolved.emplace_back(setting.name, setting.show(options).dump());
      resolved.origins.push_back(origin(setting.name));
    }
    options.notes = std::move(notes_);
    resolved.options = std::move(options);
    return resolved;
  }

  std::string origin(const std::string& name) const {
    if (const auto entry = given_.find(name); entry != given_.end() && !is_null(entry->second)) {
      return entry->second.position.text();
    }
    for (const auto& setting : run_settings()) {
      if (const auto entry = given_.find(setting.name); setting.stands_for == name && entry != given_.end()) {
        return fmt::format("{} ({})", entry->second.position.text(), entry->second.written);
      }
    }
    return {};
  }

  const SettingsSources& sources_;
  FaultList faults_;
  std::vector<std::string> notes_;
  GivenSettings given_;
  std::set<std::string> unread_;  // settings whose value was a fault
};

}  // namespace

ResolvedSettings resolve_settings(const SettingsSources& sources) { return Resolver(sources).run(); }

OnResume on_resume(std::string_view setting) {
  const auto* row = find_setting(run_settings(), setting);
  return row == nullptr ? OnResume::kSame : row->on_resume;
}

RunOptions load_settings(const SettingsSources& sources) { return resolve_settings(sources).options; }

}  // namespace phi3tune::config
