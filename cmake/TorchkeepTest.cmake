# How tests are registered. A tests/**/*_test.cpp that no call names fails the configuration (torchkeep_check_tests).

# Makes the program a ctest test and remembers its sources.
function(torchkeep_register_test name labels)
  foreach(source IN LISTS ARGN)
    get_filename_component(source "${source}" ABSOLUTE)
    set_property(GLOBAL APPEND PROPERTY TORCHKEEP_TEST_SOURCES "${source}")
  endforeach()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT 900)
endfunction()

set(TORCHKEEP_TEST_FLAGS -O1 CACHE STRING "Options of the core's test programs, after those of the build type")
if(TORCHKEEP_PCH)
  torchkeep_pch_owner(torchkeep_test_pch
    HEADERS ${TORCHKEEP_STANDARD_HEADERS} <fstream> <iostream> <random> <sstream> <gtest/gtest.h> <torchkeep/torchkeep.h>
    LIBRARIES torchkeep GTest::gtest)
  target_compile_options(torchkeep_test_pch PRIVATE ${TORCHKEEP_TEST_FLAGS})
endif()

# How test code is compiled: optimised little, for it is compiled more often than it runs.
function(torchkeep_test_options target)
  torchkeep_compile_options(${target})
  target_compile_options(${target} PRIVATE ${TORCHKEEP_TEST_FLAGS})
  if(TORCHKEEP_PCH)
    torchkeep_share_pch(${target} torchkeep_test_pch)
  endif()
endfunction()

# torchkeep_test(NAME SOURCES file... [LIBRARIES target...] [LABELS label...])
# A GoogleTest program of the core; a ctest test of that name with the label "core".
function(torchkeep_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  torchkeep_test_options(${name})
  target_link_libraries(${name} PRIVATE torchkeep torchkeep_test_support GTest::gtest GTest::gtest_main ${TEST_LIBRARIES})
  torchkeep_register_test(${name} "core;${TEST_LABELS}" ${TEST_SOURCES})
endfunction()

# torchkeep_pytest(NAME FILES file... [LABELS label...])
# Runs the files with pytest, as one ctest test, in builds that have LibTorch (their Python has torch and pytest). The
# tests find our programs in the folder TORCHKEEP_BIN and the project's root in TORCHKEEP_ROOT.
function(torchkeep_pytest name)
  if(NOT TORCHKEEP_BUILD_TORCH)
    return()
  endif()
  cmake_parse_arguments(TEST "" "" "FILES;LABELS" ${ARGN})
  list(TRANSFORM TEST_FILES PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  add_test(NAME ${name} COMMAND "${Python3_EXECUTABLE}" -m pytest -q -p no:cacheprovider ${TEST_FILES})
  set_tests_properties(${name} PROPERTIES LABELS "python;${TEST_LABELS}" TIMEOUT 900 ENVIRONMENT
    "TORCHKEEP_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};TORCHKEEP_ROOT=${PROJECT_SOURCE_DIR};PYTHONDONTWRITEBYTECODE=1")
endfunction()

function(torchkeep_check_tests)
  file(GLOB_RECURSE found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/*_test.cpp")
  get_property(registered GLOBAL PROPERTY TORCHKEEP_TEST_SOURCES)
  list(REMOVE_ITEM found ${registered})
  if(NOT TORCHKEEP_BUILD_TORCH)
    list(FILTER found EXCLUDE REGEX "/tests/(torch|schedule/hostile)/")
  endif()
  if(found)
    list(JOIN found "\n  " names)
    message(FATAL_ERROR "No torchkeep_test() names these tests, so they would never run:\n  ${names}")
  endif()
endfunction()
