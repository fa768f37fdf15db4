# SPDX-License-Identifier: Apache-2.0
#
# One folder = one library target = one layer. The link table is the layering: a layer's include
# root is a folder of its own that holds nothing but a link to that layer's sources, so including a
# header of a layer that is not linked fails to compile.

find_package(PkgConfig REQUIRED)

set(BLOCKMIG_WARNINGS
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wswitch -Wnon-virtual-dtor
    -Woverloaded-virtual -Wimplicit-fallthrough -Wundef)

function(blockmig_compile_options target)
  target_compile_options(${target} PRIVATE ${BLOCKMIG_WARNINGS})
  if(BLOCKMIG_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(BLOCKMIG_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${BLOCKMIG_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${BLOCKMIG_SANITIZE})
    if(BLOCKMIG_SANITIZE_QUICK)
      # What ASan sees as well, and what x86 allows, costs much to compile. `tools/check --long` fuzzes with it.
      target_compile_options(${target} PRIVATE -fno-sanitize=null,vptr,object-size,alignment)
    endif()
  endif()
  if(BLOCKMIG_FUZZ)
    # clang 14 cannot assemble coroutines with it ("Cannot represent a difference across sections").
    target_compile_options(${target} PRIVATE -fno-sanitize=function)
  endif()
endfunction()

# Half of what a typical file takes to compile is reading the standard library's headers. With BLOCKMIG_PCH they
# are read once; the preset `clang` does without, and sees the #include that a file has forgotten.
set(BLOCKMIG_STD_HEADERS
    <algorithm> <array> <atomic> <bit> <cerrno> <charconv> <chrono> <coroutine> <cstdint> <cstdio> <cstring>
    <filesystem> <functional> <list> <map> <memory> <mutex> <optional> <set> <span> <string> <string_view>
    <system_error> <utility> <vector>)
if(BLOCKMIG_PCH AND CMAKE_CXX_COMPILER_LAUNCHER STREQUAL "ccache")
  # ccache stores what uses a precompiled header only if it is told not to mind the header's time stamp; the
  # inode cache saves it from reading that header's 100 MB for each file.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_INODECACHE=1 ccache)
endif()

# blockmig_precompile(<target> <arguments of target_precompile_headers>)
function(blockmig_precompile target)
  if(BLOCKMIG_PCH)
    target_precompile_headers(${target} ${ARGN})
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>
                           "$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")
  endif()
endfunction()

# blockmig_product_options(<target>): for all but the tests, which are not optimised.
function(blockmig_product_options target)
  blockmig_compile_options(${target})
  if(BLOCKMIG_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)  # libFuzzer's coverage
  endif()
  if(target STREQUAL bm_std_headers)
    blockmig_precompile(${target} PRIVATE ${BLOCKMIG_STD_HEADERS})
  else()
    blockmig_precompile(${target} REUSE_FROM bm_std_headers)
  endif()
endfunction()
add_library(bm_std_headers OBJECT EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/headers.cc)
blockmig_product_options(bm_std_headers)

# blockmig_include_root(<out-var> <folder>): the include root that shows only <folder>.
function(blockmig_include_root out folder)
  string(REPLACE "/" "_" flat ${folder})
  set(root ${CMAKE_BINARY_DIR}/include/${flat})
  get_filename_component(parent ${root}/${folder} DIRECTORY)
  file(MAKE_DIRECTORY ${parent})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${folder} ${root}/${folder} SYMBOLIC)
  set(${out} ${root} PARENT_SCOPE)
endfunction()

# blockmig_layer(<name> FOLDER <dir from the top> [DEPS <layers>] [PRIVATE <libraries>]
#                [DEFINITIONS <macros>] [PLANTED <files>])
#
# Every .cc file of the folder becomes the static library bm_<name>. PRIVATE libraries are hidden
# inside: they appear in no public header. A second variant, bm_<name>_planted, is the same code with
# the planted bugs of blockmig/base/planted.h compiled in; the simulator and unit_planted link it. Where PLANTED names
# the files that see that header (or `none`), the others are compiled once for both, and it refuses them. With
# BLOCKMIG_ONE_VARIANT that is the only one, under both names: for builds whose programs nobody uses.
function(blockmig_layer name)
  cmake_parse_arguments(arg "" "FOLDER" "DEPS;PRIVATE;DEFINITIONS;PLANTED" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${arg_FOLDER}/*.cc)
  set(once)
  if(arg_PLANTED)
    set(once ${sources})
    list(TRANSFORM arg_PLANTED PREPEND ${CMAKE_SOURCE_DIR}/${arg_FOLDER}/)
    list(REMOVE_ITEM once ${arg_PLANTED})
    set_source_files_properties(${once} PROPERTIES COMPILE_DEFINITIONS BLOCKMIG_COMPILED_ONCE)
  endif()
  blockmig_include_root(root ${arg_FOLDER})
  foreach(variant "" "_planted")
    set(target bm_${name}${variant})
    if(BLOCKMIG_ONE_VARIANT AND variant)
      add_library(${target} ALIAS bm_${name})
      continue()
    endif()
    if(variant AND once)
      list(REMOVE_ITEM sources ${once})
      list(TRANSFORM once REPLACE "^.*/" "")
      list(JOIN once "|" once)
      list(APPEND sources $<FILTER:$<TARGET_OBJECTS:bm_${name}>,INCLUDE,/\(${once}\)[.]o$>)
    endif()
    add_library(${target} STATIC ${sources})
    blockmig_product_options(${target})
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
    target_include_directories(${target} PUBLIC ${root})
    target_link_libraries(${target} PRIVATE ${arg_PRIVATE} PUBLIC Threads::Threads)
    foreach(dep ${arg_DEPS})
      target_link_libraries(${target} PUBLIC bm_${dep}${variant})
    endforeach()
    target_compile_definitions(${target} PRIVATE ${arg_DEFINITIONS})
    if(variant OR BLOCKMIG_ONE_VARIANT)
      target_compile_definitions(${target} PUBLIC BLOCKMIG_PLANTED_BUGS=1)
    endif()
    if(variant)
      set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
  endforeach()
endfunction()
