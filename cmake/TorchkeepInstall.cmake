# `cmake --install`: the static libraries, every public header, the package for find_package(torchkeep), and torchkeep.pc.
include(CMakePackageConfigHelpers)

set(TORCHKEEP_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/torchkeep")

function(torchkeep_install_headers folder)
  install(DIRECTORY "${folder}/" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h" ${ARGN})
endfunction()

# The core: torchkeep::torchkeep.
get_property(layers GLOBAL PROPERTY TORCHKEEP_CORE_LAYERS)
foreach(layer IN LISTS layers)
  torchkeep_install_headers("${PROJECT_SOURCE_DIR}/src/${layer}/include")
endforeach()
torchkeep_install_headers("${PROJECT_SOURCE_DIR}/include" PATTERN "torch.h" EXCLUDE)
install(TARGETS torchkeep EXPORT torchkeepTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT torchkeepTargets NAMESPACE torchkeep:: DESTINATION "${TORCHKEEP_PACKAGE_DIR}")

# The adapter: torchkeep::torch, in a file of its own, so that the core is used without LibTorch.
if(TORCHKEEP_BUILD_TORCH)
  torchkeep_install_headers("${PROJECT_SOURCE_DIR}/src/torch/include")
  if(EXISTS "${PROJECT_SOURCE_DIR}/include/torchkeep/torch.h")
    install(FILES "${PROJECT_SOURCE_DIR}/include/torchkeep/torch.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/torchkeep")
  endif()
  set_target_properties(torchkeep_torch PROPERTIES EXPORT_NAME torch)
  install(TARGETS torchkeep_torch EXPORT torchkeepTorchTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(EXPORT torchkeepTorchTargets NAMESPACE torchkeep:: DESTINATION "${TORCHKEEP_PACKAGE_DIR}")
endif()

if(TARGET Isal::isal)
  set(TORCHKEEP_FIND_ISAL "find_dependency(Isal)")
  set(TORCHKEEP_PC_ISAL " libisal")
  install(FILES "${PROJECT_SOURCE_DIR}/cmake/FindIsal.cmake" DESTINATION "${TORCHKEEP_PACKAGE_DIR}/modules")
endif()
if(TARGET Liburing::liburing)
  set(TORCHKEEP_FIND_LIBURING "find_dependency(Liburing)")
  set(TORCHKEEP_PC_LIBURING " liburing")
  install(FILES "${PROJECT_SOURCE_DIR}/cmake/FindLiburing.cmake" DESTINATION "${TORCHKEEP_PACKAGE_DIR}/modules")
endif()

# What find_package(torchkeep) reads. Patch releases of LibTorch fit each other, other releases do not.
string(REGEX MATCH "^[0-9]+\\.[0-9]+" LibTorch_SERIES "${LibTorch_VERSION}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/torchkeepConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/torchkeepConfig.cmake" INSTALL_DESTINATION "${TORCHKEEP_PACKAGE_DIR}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/torchkeepConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/torchkeepConfig.cmake" "${PROJECT_BINARY_DIR}/torchkeepConfigVersion.cmake"
  DESTINATION "${TORCHKEEP_PACKAGE_DIR}")
install(FILES "${PROJECT_SOURCE_DIR}/cmake/FindLibdeflate.cmake" "${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake"
  DESTINATION "${TORCHKEEP_PACKAGE_DIR}/modules")

# What pkg-config reads; its prefix is where the file lies, so that the installed tree may be moved.
file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" to_prefix "${to_prefix}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/torchkeep.pc.in" "${PROJECT_BINARY_DIR}/torchkeep.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/torchkeep.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
