// Files of a model folder are opened only where the folder's own rules put them.
#pragma once

#include <string>
#include <string_view>

namespace phi3tune::phi3 {

// True for a bare file name: no separators, no "." or "..", no control characters.
bool is_bare_name(std::string_view name) noexcept;

// True if `path`, with all links followed, lies in `folder`, with all links followed. The one exception is the cache
// layout of huggingface_hub: in <repo>/snapshots/<revision>, files are links into <repo>/blobs. False when the file
// does not exist.
bool lies_inside(const std::string& folder, const std::string& path);
// True if there is something at `path` that does not lie inside.
bool leads_out(const std::string& folder, const std::string& path);
// Throws ModelError if it does.
void require_inside(const std::string& folder, const std::string& path);

// True for the endings of pickle files, which are never opened.
bool is_pickle_name(const std::string& name);

}  // namespace phi3tune::phi3
