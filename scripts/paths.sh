# Where the scripts keep what they fetch: sourced, never run. Nothing is fetched into the source tree.
#
#   PHI3TUNE_CACHE  the cache folder (default: $XDG_CACHE_HOME/phi3-tune or ~/.cache/phi3-tune)
#   TORCH_ROOT      a libtorch 2.11 of the user's own (default: the one that scripts/setup keeps in the cache)
#   PHI3TUNE_CUDA_ROOT  a CUDA 13 toolkit of the user's own; "cache": the one in the cache, whatever the machine has
#                   (default: CUDA_HOME, where nvcc on the PATH is, /usr/local/cuda, the cache)

readonly source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly cache_dir="${PHI3TUNE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/phi3-tune}"
readonly torch_version=2.11.0
readonly torch_site="$cache_dir/libtorch-$torch_version"
readonly torch_root="${TORCH_ROOT:-$torch_site/torch}"
readonly cuda_version=13.0.88 cuda_tools_version=13.2.86
readonly cuda_dir="$cache_dir/cuda-$cuda_version"
readonly cuda_tools="$cache_dir/cuda-tools-$cuda_tools_version"

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

# The folder of a CUDA 13 toolkit with compiler and library headers; nothing if there is none. cmake/CudaToolkit.cmake
# looks in the same places.
find_cuda() {
  local nvcc root roots=("${PHI3TUNE_CUDA_ROOT:-}")
  if [[ "${PHI3TUNE_CUDA_ROOT:-}" == cache ]]; then
    roots=("$cuda_dir")
  elif [[ -z "${PHI3TUNE_CUDA_ROOT:-}" ]]; then
    nvcc="$(command -v nvcc || true)"
    [[ -z "$nvcc" ]] || nvcc="$(dirname "$(dirname "$(readlink -f "$nvcc")")")"
    roots=("${CUDA_HOME:-}" "$nvcc" /usr/local/cuda "$cuda_dir")
  fi
  for root in "${roots[@]}"; do
    [[ -x "$root/bin/nvcc" && -f "$root/include/cublasLt.h" ]] || continue
    if grep -qs '^#define CUDA_VERSION 13' "$root/include/cuda.h"; then
      echo "$root"
      return
    fi
  done
}

# Can a GPU be used here at all?
has_gpu_driver() {
  [[ -e /proc/driver/nvidia/version ]] || { command -v ldconfig >/dev/null && ldconfig -p | grep -q 'libcuda\.so\.1'; }
}
