// Deleting what we wrote in a folder, and nothing else.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace phi3tune::checkpoint {

// What is in `folder` beside `names` and the temporary names of writing them, sorted; whatever is not a regular file is
// foreign too. Throws ResourceError when the folder cannot be listed.
std::vector<std::string> foreign_names(const std::string& folder, const std::set<std::string>& names);

// Deletes those files, `first` before the others, and the folder if it is empty then. Returns what stays, sorted: empty
// when the folder is gone. Throws ResourceError (list, delete).
std::vector<std::string> delete_known_files(const std::string& folder, const std::set<std::string>& names,
                                            const std::string& first = {});

// Deletes what was left of writing those files directly in `folder` (".run.json.41-3.part"). Throws ResourceError.
void delete_temporaries(const std::string& folder, const std::set<std::string>& names);

// "a, b and 3 more"
std::string name_some(const std::vector<std::string>& names);

}  // namespace phi3tune::checkpoint
