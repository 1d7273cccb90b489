# phi3tune_layer(NAME [DIRECTORY dir] [DEPENDS layer...] [LINK target...] [TORCH])
#   One object library from src/<dir>/**/*.cpp. Linking `layer_NAME` brings the objects of the layer and of all below it,
#   so a unit test of a layer builds nothing above it. The product links the shared libraries instead.
function(phi3tune_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra $<$<BOOL:${PHI3TUNE_WERROR}>:-Werror>)
  if(PHI3TUNE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
      -Wno-maybe-uninitialized)  # g++ 12 sees ghosts in std::regex under sanitizers
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
endfunction()

function(phi3tune_layer name)
  cmake_parse_arguments(arg "TORCH" "DIRECTORY" "DEPENDS;LINK" ${ARGN})
  if(NOT arg_DIRECTORY)
    set(arg_DIRECTORY ${name})
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/${arg_DIRECTORY}/*.cpp")
  add_library(usage_${name} INTERFACE)
  target_include_directories(usage_${name} INTERFACE "${CMAKE_SOURCE_DIR}/include" "${CMAKE_SOURCE_DIR}/src")
  target_link_libraries(usage_${name} INTERFACE ${arg_LINK})
  if(arg_TORCH)
    target_link_libraries(usage_${name} INTERFACE torch::cpu)
  endif()
  add_library(layer_${name} INTERFACE)
  target_link_libraries(layer_${name} INTERFACE usage_${name})
  foreach(below IN LISTS arg_DEPENDS)
    target_link_libraries(usage_${name} INTERFACE usage_${below})
    target_link_libraries(layer_${name} INTERFACE layer_${below})
  endforeach()
  if(sources)
    add_library(objects_${name} OBJECT ${sources})
    target_link_libraries(objects_${name} PRIVATE usage_${name})
    phi3tune_compile_options(objects_${name})
    phi3tune_cpu_variants("${sources}")
    if(arg_TORCH)
      phi3tune_precompile_aten(objects_${name})
    endif()
    target_sources(layer_${name} INTERFACE $<TARGET_OBJECTS:objects_${name}>)
  endif()
endfunction()

# Files named *_avx2.cpp and *_avx512.cpp are compiled for that instruction set and chosen at run time.
function(phi3tune_cpu_variants sources)
  foreach(source IN LISTS sources)
    set(bits "")
    if(source MATCHES "/src/quant/")
      set(bits ";-ffp-contract=off")  # promised bits: no multiply-add is fused unless it is spelled
    endif()
    if(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma;-mf16c${bits}" SKIP_PRECOMPILE_HEADERS ON)
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties("${source}" PROPERTIES
        COMPILE_OPTIONS "-O3;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vbmi;-mavx512bf16;-mavx512vnni;-mfma;-mprefer-vector-width=512${bits}"
        SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endfunction()

# One precompiled <ATen/ATen.h> serves every tensor file of the product: 1.5 s a file instead of 7 (once 20 s).
function(phi3tune_precompile_aten target)
  if(NOT TARGET aten_precompiled)
    file(WRITE "${CMAKE_BINARY_DIR}/aten_precompiled.cpp" "\n")
    add_library(aten_precompiled OBJECT "${CMAKE_BINARY_DIR}/aten_precompiled.cpp")
    target_link_libraries(aten_precompiled PRIVATE torch::cpu)
    phi3tune_compile_options(aten_precompiled)
    target_precompile_headers(aten_precompiled PRIVATE <ATen/ATen.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM aten_precompiled)
  target_compile_options(${target} PRIVATE -fPIC)  # programs too: the precompiled header knows one setting only
endfunction()

# An old-style RPATH (not RUNPATH) also serves the libraries that libtorch's own libraries ask for and do not find
# beside themselves, so a toolkit can stand in for the nvidia-* packages without LD_LIBRARY_PATH.
function(phi3tune_uses_libtorch target)
  set_target_properties(${target} PROPERTIES
    BUILD_RPATH "\$ORIGIN;${Libtorch_LIB_DIR};${Libtorch_LIB_DIR}/../../nvidia/cu13/lib;${PHI3TUNE_TOOLKIT_LIB}")
  target_link_options(${target} PRIVATE
    "-Wl,--disable-new-dtags" "-Wl,--allow-shlib-undefined"
    "-Wl,-rpath-link,${Libtorch_LIB_DIR}:${Libtorch_LIB_DIR}/../../nvidia/cu13/lib:${PHI3TUNE_TOOLKIT_LIB}")
endfunction()

function(phi3tune_library name)
  cmake_parse_arguments(arg "" "" "LAYERS;LINK" ${ARGN})
  file(WRITE "${CMAKE_BINARY_DIR}/${name}_anchor.cpp" "\n")
  add_library(${name} SHARED "${CMAKE_BINARY_DIR}/${name}_anchor.cpp")
  foreach(layer IN LISTS arg_LAYERS)
    if(TARGET objects_${layer})
      target_sources(${name} PRIVATE $<TARGET_OBJECTS:objects_${layer}>)
    endif()
    target_link_libraries(${name} PRIVATE usage_${layer})
  endforeach()
  target_link_libraries(${name} PUBLIC ${arg_LINK})
  phi3tune_compile_options(${name})
endfunction()

# The front: the program itself. No libtorch in its link.
function(phi3tune_front name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/cli/*.cpp" "${CMAKE_SOURCE_DIR}/src/commands/front/*.cpp")
  if(sources)
    add_executable(${name} ${sources})
    target_link_libraries(${name} PRIVATE phi3tune_base usage_plan usage_data CLI11::CLI11 ${CMAKE_DL_LIBS})
    set_target_properties(${name} PROPERTIES BUILD_RPATH "\$ORIGIN")
    phi3tune_compile_options(${name})
  endif()
endfunction()
