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
      # Half of the compile time: what ASan sees as well, and what x86 allows. The fuzzers keep them.
      target_compile_options(${target} PRIVATE -fno-sanitize=null,vptr,object-size,alignment)
    endif()
  endif()
endfunction()

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
#                [DEFINITIONS <macros>])
#
# Every .cc file of the folder becomes the static library bm_<name>. PRIVATE libraries are hidden
# inside: they appear in no public header. A second variant, bm_<name>_planted, is the same code with
# the planted bugs of blockmig/base/planted.h compiled in; only the simulator links it. With
# BLOCKMIG_ONE_VARIANT that is the only one, under both names: for builds whose programs nobody uses.
function(blockmig_layer name)
  cmake_parse_arguments(arg "" "FOLDER" "DEPS;PRIVATE;DEFINITIONS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${arg_FOLDER}/*.cc)
  blockmig_include_root(root ${arg_FOLDER})
  foreach(variant "" "_planted")
    set(target bm_${name}${variant})
    if(BLOCKMIG_ONE_VARIANT AND variant)
      add_library(${target} ALIAS bm_${name})
      continue()
    endif()
    if(sources)
      add_library(${target} STATIC ${sources})
      set(scope PUBLIC)
      target_link_libraries(${target} PRIVATE ${arg_PRIVATE})
      blockmig_compile_options(${target})
      target_compile_definitions(${target} PRIVATE ${arg_DEFINITIONS})
      if(variant OR BLOCKMIG_ONE_VARIANT)
        target_compile_definitions(${target} PUBLIC BLOCKMIG_PLANTED_BUGS=1)
      endif()
      if(variant)
        set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
      endif()
    else()
      add_library(${target} INTERFACE)
      set(scope INTERFACE)
    endif()
    target_include_directories(${target} ${scope} ${root})
    target_link_libraries(${target} ${scope} Threads::Threads)
    foreach(dep ${arg_DEPS})
      target_link_libraries(${target} ${scope} bm_${dep}${variant})
    endforeach()
  endforeach()
endfunction()
