# The torch-free kernel library as a CMake package: rtlynx::rtlynx, by find_package(rtlynx) from an
# installation and by FetchContent or add_subdirectory from the sources. Component `kernels`:
# cmake --install <build> --component kernels
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Every folder that the package links; all of them must be exported.
set(package_folders base kernels)
if(RTLYNX_WITH_CUDA)
  list(APPEND package_folders sm90 gpu)
endif()

add_library(rtlynx_package INTERFACE)
add_library(rtlynx::rtlynx ALIAS rtlynx_package)
target_compile_features(rtlynx_package INTERFACE cxx_std_20)
set_target_properties(rtlynx_package PROPERTIES EXPORT_NAME rtlynx)
foreach(folder IN LISTS package_folders)
  target_link_libraries(rtlynx_package INTERFACE rtlynx_${folder})
  set_target_properties(rtlynx_${folder} PROPERTIES EXPORT_NAME ${folder})
endforeach()

list(TRANSFORM package_folders PREPEND rtlynx_ OUTPUT_VARIABLE package_targets)
install(TARGETS rtlynx_package ${package_targets} EXPORT rtlynx-targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT kernels
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/rtlynx"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT kernels FILES_MATCHING PATTERN "*.h")

set(config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/rtlynx")
install(EXPORT rtlynx-targets NAMESPACE rtlynx::
  DESTINATION "${config_dir}" COMPONENT kernels)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/rtlynx-config.cmake.in"
  "${PROJECT_BINARY_DIR}/rtlynx-config.cmake" INSTALL_DESTINATION "${config_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/rtlynx-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/rtlynx-config.cmake"
              "${PROJECT_BINARY_DIR}/rtlynx-config-version.cmake"
  DESTINATION "${config_dir}" COMPONENT kernels)

# The command line with its operators and its model. Component `runtime`.
if(RTLYNX_TORCH)
  set(runtime_path "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}" "${RTLYNX_TORCH_DIR}/lib")
  set_target_properties(rtlynx rtlynx_ops PROPERTIES INSTALL_RPATH "${runtime_path}")
  install(TARGETS rtlynx RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT runtime)
  install(TARGETS rtlynx_ops LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/models/lynx-mini"
    DESTINATION "${CMAKE_INSTALL_DATADIR}/rtlynx/models" COMPONENT runtime)
endif()
