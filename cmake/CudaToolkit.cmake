# What of CUDA 13 is at hand. Sets
#   PHI3TUNE_CUDA_INCLUDE  the toolkit's headers: enough to run the kernels' tests on the host; empty if there are none
# Looked for: -DPHI3TUNE_CUDA_ROOT or the environment's, CUDA_HOME, nvcc on the PATH, /usr/local/cuda, and the cache that
# scripts/setup fills.
set(PHI3TUNE_CUDA_ROOT "" CACHE PATH "A CUDA 13 toolkit, or the folder scripts/setup made of its Python packages")

set(_cuda_roots "")
foreach(_root IN ITEMS "${PHI3TUNE_CUDA_ROOT}" "$ENV{PHI3TUNE_CUDA_ROOT}" "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}")
  if(_root)
    list(APPEND _cuda_roots "${_root}")
  endif()
endforeach()
find_program(_cuda_nvcc_on_path nvcc NO_CACHE)
if(_cuda_nvcc_on_path)
  get_filename_component(_cuda_bin "${_cuda_nvcc_on_path}" REALPATH)
  get_filename_component(_cuda_bin "${_cuda_bin}" DIRECTORY)
  get_filename_component(_root "${_cuda_bin}" DIRECTORY)
  list(APPEND _cuda_roots "${_root}")
endif()
list(APPEND _cuda_roots /usr/local/cuda)
set(_cuda_cache "$ENV{PHI3TUNE_CACHE}")
if(NOT _cuda_cache AND DEFINED ENV{XDG_CACHE_HOME})
  set(_cuda_cache "$ENV{XDG_CACHE_HOME}/phi3-tune")
elseif(NOT _cuda_cache)
  set(_cuda_cache "$ENV{HOME}/.cache/phi3-tune")
endif()
file(GLOB _cuda_cached LIST_DIRECTORIES true "${_cuda_cache}/cuda-*")
list(APPEND _cuda_roots ${_cuda_cached})

# The first root that is CUDA 13.
set(PHI3TUNE_CUDA_INCLUDE "")
foreach(_root IN LISTS _cuda_roots)
  if(NOT PHI3TUNE_CUDA_INCLUDE AND EXISTS "${_root}/include/cuda_bf16.h" AND EXISTS "${_root}/include/cuda.h")
    file(STRINGS "${_root}/include/cuda.h" _version REGEX "^#define CUDA_VERSION 13[0-9]+")
    if(_version)
      set(PHI3TUNE_CUDA_INCLUDE "${_root}/include")
    endif()
  endif()
endforeach()
