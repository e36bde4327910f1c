# Finds the libtorch inside the pip package of the Python that RTLYNX_PYTHON names (by default
# the project's own .venv, else python3).
if(NOT DEFINED RTLYNX_PYTHON)
  if(EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
    set(RTLYNX_PYTHON "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  else()
    set(RTLYNX_PYTHON "python3")
  endif()
endif()
if(NOT Torch_DIR)
  execute_process(
    COMMAND "${RTLYNX_PYTHON}" -c "import torch; print(torch.utils.cmake_prefix_path)"
    OUTPUT_VARIABLE torch_prefix OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing
    ERROR_QUIET)
  if(torch_missing)
    message(FATAL_ERROR "rtlynx needs torch 2.11 to 2.13 in ${RTLYNX_PYTHON}: run `make setup`, "
                        "set RTLYNX_PYTHON or Torch_DIR, or build with RTLYNX_TORCH=OFF.")
  endif()
  list(PREPEND CMAKE_PREFIX_PATH "${torch_prefix}")
endif()
# A torch with CUDA overwrites the architectures and flags with those of the machine's own GPU.
set(own_cuda_flags "${CMAKE_CUDA_FLAGS}")
set(own_cuda_architectures "${CMAKE_CUDA_ARCHITECTURES}")
set(TORCH_CUDA_ARCH_LIST "8.0;9.0a")
find_package(Torch 2.11 REQUIRED)
set(CMAKE_CUDA_FLAGS "${own_cuda_flags}")
set(CMAKE_CUDA_ARCHITECTURES "${own_cuda_architectures}")
set(RTLYNX_TORCH_HAS_CUDA OFF)
if(TARGET torch_cuda)
  set(RTLYNX_TORCH_HAS_CUDA ON)
endif()
message(STATUS "rtlynx: torch ${Torch_VERSION} at ${TORCH_INSTALL_PREFIX}, CUDA ${RTLYNX_TORCH_HAS_CUDA}")

add_library(rtlynx_torch INTERFACE)
target_include_directories(rtlynx_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_link_libraries(rtlynx_torch INTERFACE ${TORCH_LIBRARIES})

# torch/torch.h takes 14 s to parse; every torch target shares one precompiled copy of it.
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/torch_pch.cpp" CONTENT "")
add_library(rtlynx_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cpp")
target_link_libraries(rtlynx_torch_pch PRIVATE rtlynx_torch rtlynx_flags)
target_precompile_headers(rtlynx_torch_pch PRIVATE <torch/torch.h>)
function(rtlynx_use_torch_pch name)
  target_precompile_headers(rtlynx_${name} REUSE_FROM rtlynx_torch_pch)
endfunction()
