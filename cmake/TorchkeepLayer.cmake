# One function per kind of target, so that every layer is built the same way.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

# What every target of ours is compiled with.
function(torchkeep_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE -Wall -Wextra $<$<BOOL:${TORCHKEEP_WERROR}>:-Werror>)
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
  add_library(torchkeep_${name} OBJECT ${LAYER_SOURCES})
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

# torchkeep_test(NAME SOURCES file... [LIBRARIES target...] [LABELS label...])
# A GoogleTest program of the core; every TEST in it becomes a ctest test named NAME.<suite>.<test>.
function(torchkeep_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  torchkeep_compile_options(${name})
  target_link_libraries(${name} PRIVATE torchkeep torchkeep_test_support GTest::gtest GTest::gtest_main ${TEST_LIBRARIES})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT 900)
endfunction()
