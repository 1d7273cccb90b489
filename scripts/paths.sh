# Where the scripts keep what they fetch: sourced, never run. Nothing is fetched into the source tree.
#
#   PHI3TUNE_CACHE  the cache folder (default: $XDG_CACHE_HOME/phi3-tune or ~/.cache/phi3-tune)
#   TORCH_ROOT      a libtorch 2.11 of the user's own (default: the one that scripts/setup keeps in the cache)

readonly source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly cache_dir="${PHI3TUNE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/phi3-tune}"
readonly torch_version=2.11.0
readonly torch_site="$cache_dir/libtorch-$torch_version"
readonly torch_root="${TORCH_ROOT:-$torch_site/torch}"

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$@"; exit 1; }

# One script at a time may fill the cache.
lock_cache() {
  mkdir -p "$cache_dir" || die "cannot make the cache folder $cache_dir; set PHI3TUNE_CACHE to a folder you may write"
  exec 9>"$cache_dir/.lock"
  if ! flock -n 9; then
    say "another set-up is filling $cache_dir; waiting for it"
    flock 9
  fi
}

unlock_cache() { exec 9>&-; }

# A folder is filled under a temporary name and renamed, so an interrupted install is never taken for a whole one.
# fill_folder TARGET COMMAND...: runs COMMAND with a fresh folder as its last argument.
fill_folder() {
  local target="$1" work
  shift
  rm -rf "$target".partial.*
  work="$(mktemp -d "$target.partial.XXXXXX")"
  chmod 755 "$work"
  if ! "$@" "$work"; then
    rm -rf "$work"
    return 1
  fi
  mv -T "$work" "$target"
}

# The numbers of a libtorch folder, e.g. 2.11.0; nothing if it is none.
libtorch_version() {
  local header="$1/include/torch/headeronly/version.h"
  [[ ! -f "$header" ]] || sed -nE 's/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+).*/\2/p' "$header" | paste -sd.
}
