# The libtorch inside the pip package of the Python that RTLYNX_PYTHON names (by default the
# project's own .venv, else python3), as target rtlynx_torch.
#
# torch's own TorchConfig.cmake is not used: with a CUDA build of torch it insists on a CUDA toolkit,
# which a CPU build of rtlynx does not need, and it replaces the project's GPU architectures.
if(NOT DEFINED RTLYNX_PYTHON)
  if(EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
    set(RTLYNX_PYTHON "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  else()
    set(RTLYNX_PYTHON "python3")
  endif()
endif()
execute_process(
  COMMAND "${RTLYNX_PYTHON}" -c
          "import os, torch; print(torch.__version__, os.path.dirname(torch.__file__), sep=';')"
  OUTPUT_VARIABLE torch_found OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing
  ERROR_QUIET)
if(torch_missing)
  message(FATAL_ERROR "rtlynx needs torch 2.11 or later in ${RTLYNX_PYTHON}: run `make setup`, set "
                      "RTLYNX_PYTHON, or build with RTLYNX_TORCH=OFF.")
endif()
list(GET torch_found 0 RTLYNX_TORCH_VERSION)
list(GET torch_found 1 RTLYNX_TORCH_DIR)
if(RTLYNX_TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "rtlynx needs torch 2.11 or later, got ${RTLYNX_TORCH_VERSION} in "
                      "${RTLYNX_PYTHON}.")
endif()

set(RTLYNX_TORCH_HAS_CUDA OFF)
set(torch_libraries torch torch_cpu c10)
if(EXISTS "${RTLYNX_TORCH_DIR}/lib/libtorch_cuda.so")
  set(RTLYNX_TORCH_HAS_CUDA ON)
  list(APPEND torch_libraries torch_cuda c10_cuda)
endif()
list(TRANSFORM torch_libraries REPLACE "(.+)" "${RTLYNX_TORCH_DIR}/lib/lib\\1.so")
message(STATUS "rtlynx: torch ${RTLYNX_TORCH_VERSION}, with CUDA: ${RTLYNX_TORCH_HAS_CUDA}")

add_library(rtlynx_torch INTERFACE)
target_include_directories(rtlynx_torch SYSTEM INTERFACE
  "${RTLYNX_TORCH_DIR}/include" "${RTLYNX_TORCH_DIR}/include/torch/csrc/api/include")
# libtorch_cuda registers torch's GPU kernels when it is loaded; nothing refers to it by name.
# libtorch_cpu exports a std::filesystem of its own compiler. The system's comes first: half of one
# and half of the other removes a folder by a segmentation fault.
target_link_libraries(rtlynx_torch INTERFACE
  -Wl,--push-state,--no-as-needed -lstdc++ ${torch_libraries} -Wl,--pop-state)

# It takes 14 s to parse; every torch target shares one precompiled copy of it.
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/torch_pch.cpp" CONTENT "")
add_library(rtlynx_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cpp")
target_link_libraries(rtlynx_torch_pch PRIVATE rtlynx_torch rtlynx_flags)
target_precompile_headers(rtlynx_torch_pch PRIVATE "${PROJECT_SOURCE_DIR}/src/base/libtorch.h")

# rtlynx_compile_torch(<target> [ALONE file...]): what makes a target with libtorch.h quick to
# compile: the header, and rtlynx_compile_together, since torch's templates alone cost a file 10 s.
function(rtlynx_compile_torch target)
  target_precompile_headers(${target} REUSE_FROM rtlynx_torch_pch)
  rtlynx_compile_together(${target} ${ARGN})
endfunction()
