# One function per kind of target, so that every layer is built the same way.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  find_program(CCACHE_PROGRAM ccache)
  if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    # ccache caches sources with a precompiled header only when it may trust the header's contents.
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime "${CCACHE_PROGRAM}")
  endif()
endif()

# What every target of ours is compiled with.
function(torchkeep_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE -Wall -Wextra $<$<BOOL:${TORCHKEEP_WERROR}>:-Werror>)
  # g++ 12 warns of overlapping copies inside std::string where there are none (GCC bug 105651); with precompiled headers it
  # takes what it inlines from them for ours and warns of impossible sizes too (GCC bug 105329).
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE -Wno-restrict)
    if(TORCHKEEP_PCH)
      target_compile_options(${target} PRIVATE -Wno-stringop-overflow -Wno-array-bounds)
    endif()
  endif()
  if(TORCHKEEP_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${TORCHKEEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${TORCHKEEP_SANITIZE})
  endif()
endfunction()

option(TORCHKEEP_PCH "Compile the headers of the core's sources once for all: quicker, but hides missing includes" OFF)

# torchkeep_share_pch(TARGET OWNER): TARGET uses OWNER's precompiled header. Both need the same options, and -fPIC, which
# programs get with this (they run as well with it as with -fPIE).
function(torchkeep_share_pch target owner)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${target} PRIVATE -fPIC)
  target_precompile_headers(${target} REUSE_FROM ${owner})
endfunction()

# torchkeep_pch_owner(OWNER HEADERS header... LIBRARIES target...): makes the precompiled header to share.
function(torchkeep_pch_owner owner)
  cmake_parse_arguments(PCH "" "" "HEADERS;LIBRARIES" ${ARGN})
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/${owner}.cpp" CONTENT "// Carries the precompiled header.\n")
  add_library(${owner} OBJECT "${PROJECT_BINARY_DIR}/${owner}.cpp")
  set_target_properties(${owner} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${owner} PRIVATE -fPIC)
  target_precompile_headers(${owner} PRIVATE ${PCH_HEADERS})
  target_link_libraries(${owner} PRIVATE ${PCH_LIBRARIES})
  torchkeep_compile_options(${owner})
endfunction()

set(TORCHKEEP_STANDARD_HEADERS <algorithm> <array> <atomic> <charconv> <chrono> <complex> <condition_variable> <cstddef>
  <cstdint> <cstring> <deque> <exception> <functional> <limits> <map> <memory> <mutex> <optional> <set> <span> <stdexcept>
  <string> <string_view> <system_error> <thread> <unordered_map> <utility> <variant> <vector>)

# torchkeep_layer(NAME SOURCES file... [INCLUDES layer...] [LIBRARIES target...])
# An object library torchkeep_NAME whose headers are <torchkeep/NAME/...>. It sees the headers of the layers it names
# in INCLUDES (and of those below them) and of no other: an upward include does not compile.
function(torchkeep_layer name)
  cmake_parse_arguments(LAYER "" "" "SOURCES;INCLUDES;LIBRARIES" ${ARGN})
  add_library(torchkeep_${name} OBJECT ${LAYER_SOURCES})
  torchkeep_compile_options(torchkeep_${name})
  target_include_directories(torchkeep_${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}"
    PUBLIC "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>")
  foreach(below IN LISTS LAYER_INCLUDES)
    target_include_directories(torchkeep_${name} PUBLIC
      "$<TARGET_PROPERTY:torchkeep_${below},INTERFACE_INCLUDE_DIRECTORIES>")
  endforeach()
  if(TORCHKEEP_PCH AND fmt::fmt IN_LIST LAYER_LIBRARIES)
    torchkeep_share_pch(torchkeep_${name} torchkeep_core_pch)
  endif()
  if(LAYER_LIBRARIES)
    list(TRANSFORM LAYER_LIBRARIES REPLACE "^fmt::fmt$" "${TORCHKEEP_FMT}")
    target_link_libraries(torchkeep_${name} PRIVATE ${LAYER_LIBRARIES})
    set_property(GLOBAL APPEND PROPERTY TORCHKEEP_CORE_LIBRARIES ${LAYER_LIBRARIES})
  endif()
  set_property(GLOBAL APPEND PROPERTY TORCHKEEP_CORE_LAYERS ${name})
endfunction()
