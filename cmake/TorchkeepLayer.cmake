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
  # g++ 12 warns of overlapping copies inside std::string where there are none (GCC bug 105651).
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE -Wno-restrict)
  endif()
  if(TORCHKEEP_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${TORCHKEEP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${TORCHKEEP_SANITIZE})
  endif()
endfunction()

# torchkeep_layer(NAME SOURCES file... [INCLUDES layer...] [LIBRARIES target...])
# An object library torchkeep_NAME whose headers are <torchkeep/NAME/...>. It sees the headers of the layers it names
# in INCLUDES (and of those below them) and of no other: an upward include does not compile.
function(torchkeep_layer name)
  cmake_parse_arguments(LAYER "" "" "SOURCES;INCLUDES;LIBRARIES" ${ARGN})
  set(sources "")
  foreach(source IN LISTS LAYER_SOURCES)
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${source}")
      list(APPEND sources ${source})
    else()
      message(STATUS "src/${name}/${source} does not exist yet")
    endif()
  endforeach()
  if(NOT sources)
    file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/empty.cpp" CONTENT "\n")
    set(sources "${CMAKE_CURRENT_BINARY_DIR}/empty.cpp")
  endif()
  add_library(torchkeep_${name} OBJECT ${sources})
  torchkeep_compile_options(torchkeep_${name})
  target_include_directories(torchkeep_${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}"
    PUBLIC "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>")
  foreach(below IN LISTS LAYER_INCLUDES)
    target_include_directories(torchkeep_${name} PUBLIC
      "$<TARGET_PROPERTY:torchkeep_${below},INTERFACE_INCLUDE_DIRECTORIES>")
  endforeach()
  if(LAYER_LIBRARIES)
    target_link_libraries(torchkeep_${name} PRIVATE ${LAYER_LIBRARIES})
    set_property(GLOBAL APPEND PROPERTY TORCHKEEP_CORE_LIBRARIES ${LAYER_LIBRARIES})
  endif()
  set_property(GLOBAL APPEND PROPERTY TORCHKEEP_CORE_LAYERS ${name})
endfunction()
