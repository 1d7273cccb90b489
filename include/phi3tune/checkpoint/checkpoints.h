// The folder output_dir/checkpoints: which checkpoints it holds, the newest that is sound, and what may go.
//
// Nothing is deleted here that this program did not write, and no checkpoint before a newer one is durable.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "phi3tune/checkpoint/checkpoint.h"

namespace phi3tune::checkpoint {

// Which of the checkpoints go when at most `limit` are kept (0: all are): the oldest first, never the newest, never the
// best. With limit 1 two stay when the best is not the newest. `steps` in any order, without repeats; the result is
// ascending.
std::vector<int64_t> to_rotate(std::vector<int64_t> steps, int64_t limit, std::optional<int64_t> best);

// The names of all checkpoints for RunFolder::claim: "checkpoints/step-*/manifest.json" and so on.
std::vector<std::string> checkpoint_claims();

class Checkpoints {
 public:
  // `folder` need not exist. Throws ResourceError when it cannot be listed.
  explicit Checkpoints(std::string folder);

  const std::string& folder() const noexcept { return folder_; }
  std::string path_of(int64_t step) const;
  // Steps of every step-NNNNNN folder there is, ascending, sound or not.
  std::vector<int64_t> steps() const;

  // Removes what an interrupted save or rotation left: ".step-*.partial", ".step-*.trash"; of each only files of
  // checkpoint_file_names() and their temporary names, and the folder if it is empty then. Says what stays on the log.
  void clean() const;

  struct Found {
    std::optional<VerifiedCheckpoint> newest;  // that is sound
    std::vector<std::string> skipped;          // one text a checkpoint that is not, newest first: which and why
  };
  Found find_newest() const;

  // Deletes by to_rotate among the checkpoints up to `newest`, which the run stands on; what is of later steps is
  // damaged or was gone back behind, and neither counts nor goes. Renames each to ".<name>.trash", fsyncs the folder,
  // then deletes its files, the manifest first. A folder that holds anything else, or no manifest of ours, stays, and
  // the log says so. Returns the steps that went. Throws ResourceError.
  std::vector<int64_t> rotate(int64_t newest, int64_t limit, std::optional<int64_t> best) const;

  // Deletes a checkpoint that is to be saved again (it was damaged, and the run went back behind it), manifest or not;
  // fine if there is none. Throws ResourceError, also when anything else is in its folder.
  void make_room(int64_t step) const;

 private:
  void retire(int64_t step) const;

  std::string folder_;
};

}  // namespace phi3tune::checkpoint
