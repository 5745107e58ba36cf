# Finds LibTorch, PyTorch's C++ library, and makes the target LibTorch::LibTorch from its include and lib folders.
#
# PyTorch ships CMake files of its own, but those of the CUDA wheel stop on a machine without the CUDA toolkit, which
# nobody needs who only links the library.
#
# Looked at, in this order (the first that has LibTorch is taken):
#   LibTorch_ROOT       variable or environment: the folder with include/ and lib/ in it
#   CMAKE_PREFIX_PATH   variable or environment: the same folder, or torch.utils.cmake_prefix_path of a wheel,
#                       or a Python prefix (a virtual environment) that has the wheel
#   Python3_EXECUTABLE  (else python3 in PATH): the torch package that this interpreter would import
#
# Sets LibTorch_FOUND, LibTorch_VERSION, LibTorch_DIR (the folder) and LibTorch_CUDA (whether it was built for CUDA).

set(LibTorch_TESTED_VERSION 2.13)

# The folder with include/ and lib/ that `prefix` means, or "".
function(_libtorch_in prefix result)
  file(GLOB site_packages LIST_DIRECTORIES true "${prefix}/lib/python3*/site-packages/torch")
  foreach(folder IN ITEMS "${prefix}" "${prefix}/../.." "${prefix}/torch" ${site_packages})
    if(EXISTS "${folder}/include/torch/csrc/api/include/torch/torch.h")
      get_filename_component(folder "${folder}" ABSOLUTE)
      set(${result} "${folder}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

function(_libtorch_search result)
  set(prefixes ${LibTorch_ROOT} $ENV{LibTorch_ROOT} ${CMAKE_PREFIX_PATH})
  string(REPLACE ":" ";" from_environment "$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix IN LISTS prefixes from_environment)
    _libtorch_in("${prefix}" folder)
    if(folder)
      break()
    endif()
  endforeach()
  if(NOT folder)
    set(python "${Python3_EXECUTABLE}")
    if(NOT python)
      find_program(python NAMES python3 NO_CACHE)
    endif()
    # The package is located, not imported: importing takes seconds and may load a GPU driver.
    set(locate "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')")
    if(python)
      execute_process(COMMAND "${python}" -c "${locate}" OUTPUT_VARIABLE package ERROR_QUIET
        OUTPUT_STRIP_TRAILING_WHITESPACE)
      if(package)
        _libtorch_in("${package}" folder)
      endif()
    endif()
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# The version in the headers, "" when they do not say.
function(_libtorch_version folder result)
  set(version "")
  foreach(header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(NOT version AND EXISTS "${folder}/include/${header}")
      file(STRINGS "${folder}/include/${header}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
      string(REGEX REPLACE "[^;]*TORCH_VERSION_[A-Z]+ +([0-9]+)[^;]*" "\\1" numbers "${lines}")
      list(JOIN numbers "." version)
    endif()
  endforeach()
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# One imported target per library file, so that the build's run path finds them.
function(_libtorch_import name folder)
  if(NOT TARGET LibTorch::${name})
    add_library(LibTorch::${name} SHARED IMPORTED GLOBAL)
    set_target_properties(LibTorch::${name} PROPERTIES
      IMPORTED_LOCATION "${folder}/lib/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}"
      INTERFACE_INCLUDE_DIRECTORIES "${folder}/include;${folder}/include/torch/csrc/api/include")
  endif()
endfunction()

if(NOT LibTorch_DIR OR NOT EXISTS "${LibTorch_DIR}/include/torch/csrc/api/include/torch/torch.h")
  _libtorch_search(_libtorch_folder)
  set(LibTorch_DIR "${_libtorch_folder}" CACHE PATH "Folder with LibTorch's include and lib folders" FORCE)
endif()
set(LibTorch_VERSION "")
if(LibTorch_DIR)
  _libtorch_version("${LibTorch_DIR}" LibTorch_VERSION)
  find_library(LibTorch_LIBRARY NAMES torch PATHS "${LibTorch_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  find_library(LibTorch_CUDA_LIBRARY NAMES torch_cuda PATHS "${LibTorch_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_LIBRARY LibTorch_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "Name one with -DCMAKE_PREFIX_PATH=<folder with include/ and lib/>, or name a Python that has \
torch with -DPython3_EXECUTABLE=<python>, or run `make test`, which installs PyTorch ${LibTorch_TESTED_VERSION} into \
.venv, or build the core alone with -DTORCHKEEP_BUILD_TORCH=OFF.")
set(LibTorch_CUDA FALSE)
if(LibTorch_CUDA_LIBRARY)
  set(LibTorch_CUDA TRUE)
endif()

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  string(REGEX MATCH "^[0-9]+\\.[0-9]+" _libtorch_series "${LibTorch_VERSION}")
  if(NOT _libtorch_series STREQUAL LibTorch_TESTED_VERSION)
    message(WARNING "LibTorch ${LibTorch_VERSION} in ${LibTorch_DIR}: torchkeep is tested with "
      "${LibTorch_TESTED_VERSION} only; exactness is not promised with another.")
  endif()
  add_library(LibTorch::LibTorch INTERFACE IMPORTED GLOBAL)
  set(_libtorch_names torch torch_cpu c10)
  if(LibTorch_CUDA)
    list(APPEND _libtorch_names torch_cuda c10_cuda)
  endif()
  foreach(_libtorch_name IN LISTS _libtorch_names)
    _libtorch_import(${_libtorch_name} "${LibTorch_DIR}")
  endforeach()
  set_target_properties(LibTorch::LibTorch PROPERTIES INTERFACE_COMPILE_FEATURES cxx_std_20)
  # The kernels register themselves when libtorch.so is loaded: the linker must keep it although nothing refers to it.
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_libraries(LibTorch::LibTorch INTERFACE -Wl,--no-as-needed LibTorch::torch -Wl,--as-needed
      LibTorch::torch_cpu LibTorch::c10)
    # The CUDA wheel's libraries find NVIDIA's by their own run path when the program starts, not while it is linked.
    target_link_options(LibTorch::LibTorch INTERFACE $<$<BOOL:${LibTorch_CUDA}>:LINKER:--allow-shlib-undefined>)
  else()
    target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::torch LibTorch::torch_cpu LibTorch::c10)
  endif()
  # Wheels before 2.6 were built with the old std::string; theirs must then be ours.
  set(_libtorch_config "${LibTorch_DIR}/share/cmake/Torch/TorchConfig.cmake")
  if(EXISTS "${_libtorch_config}")
    file(STRINGS "${_libtorch_config}" _libtorch_abi REGEX "_GLIBCXX_USE_CXX11_ABI=[01]")
    if(_libtorch_abi MATCHES "(_GLIBCXX_USE_CXX11_ABI=0)")
      target_compile_definitions(LibTorch::LibTorch INTERFACE ${CMAKE_MATCH_1})
    endif()
  endif()
endif()
