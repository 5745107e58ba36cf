# Targets that include LibTorch's headers. Those take half a minute to compile, so they are compiled once, into a
# precompiled header that all such targets share.

option(TORCHKEEP_TORCH_PCH "Compile LibTorch's headers once for all targets that use them" ON)

if(TORCHKEEP_TORCH_PCH)
  torchkeep_pch_owner(torchkeep_torch_pch HEADERS <torch/torch.h> LIBRARIES LibTorch::LibTorch fmt::fmt-header-only)
endif()

# torchkeep_torch_options(TARGET [SCOPE]): compiles TARGET with our warnings, against LibTorch and the shared precompiled
# <torch/torch.h>. SCOPE (PRIVATE by default) says whether users of TARGET link LibTorch too.
function(torchkeep_torch_options target)
  set(scope PRIVATE)
  if(ARGC GREATER 1)
    set(scope ${ARGV1})
  endif()
  torchkeep_compile_options(${target})
  # Not fmt::fmt: the wheel's include folder has a newer {fmt} in it, which does not fit the library we link.
  target_link_libraries(${target} ${scope} LibTorch::LibTorch PRIVATE fmt::fmt-header-only)
  if(TORCHKEEP_TORCH_PCH)
    torchkeep_share_pch(${target} torchkeep_torch_pch)
  endif()
endfunction()

# torchkeep_torch_unity(TARGET [SOURCES...]): compiles nine sources of TARGET, or those named, as one: even precompiled,
# LibTorch's headers cost every translation unit about nine seconds.
function(torchkeep_torch_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 9)
  if(ARGN)
    set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
    set_source_files_properties(${ARGN} PROPERTIES UNITY_GROUP ${target})
  endif()
endfunction()

# torchkeep_torch_program(NAME SOURCES file... [LIBRARIES target...])
# A program that uses LibTorch through torchkeep::torch (examples, the demo, peers of Python tests).
function(torchkeep_torch_program name)
  cmake_parse_arguments(PROGRAM "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${PROGRAM_SOURCES})
  torchkeep_torch_options(${name})
  target_link_libraries(${name} PRIVATE torchkeep::torch ${PROGRAM_LIBRARIES})
endfunction()

# torchkeep_torch_test(NAME SOURCES file... [LIBRARIES target...] [LABELS label...])
# A GoogleTest program that uses LibTorch; a ctest test of that name with the label "torch".
function(torchkeep_torch_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  torchkeep_torch_program(${name} SOURCES ${TEST_SOURCES}
    LIBRARIES torchkeep_test_support GTest::gtest GTest::gtest_main ${TEST_LIBRARIES})
  torchkeep_register_test(${name} "torch;${TEST_LABELS}" ${TEST_SOURCES})
endfunction()
