# Builds EXAMPLE of examples/cpp against this library, USE = package (installed) or
# package_subdirectory (from the sources), runs it and checks what it prints.
cmake_minimum_required(VERSION 3.24)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Public headers, archives and the package's CMake files; nothing of torch.
function(check_installed prefix)
  file(GLOB_RECURSE installed RELATIVE "${prefix}" "${prefix}/*")
  foreach(path IN LISTS installed)
    if(NOT path MATCHES "^(include/rtlynx/.*\\.h|lib[^.]*/lib.*\\.a|lib[^.]*/cmake/rtlynx/.*\\.cmake)$")
      message(FATAL_ERROR "the package has ${path}")
    endif()
    if(path MATCHES "\\.(h|cmake)$")
      file(STRINGS "${prefix}/${path}" torch REGEX "[Tt]orch/|libtorch|rtlynx_torch|ATen")
      if(torch)
        message(FATAL_ERROR "${path} needs torch: ${torch}")
      endif()
    endif()
  endforeach()
  if(NOT "include/rtlynx/pack24.h" IN_LIST installed)
    message(FATAL_ERROR "the package has no headers")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
set(configure "${CMAKE_COMMAND}" -B "${WORK_DIR}/build" -G "${GENERATOR}"
    "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=${FLAGS}" -DCMAKE_BUILD_TYPE=Release)
if(USE STREQUAL "package")
  run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --component kernels
      --prefix "${WORK_DIR}/prefix")
  check_installed("${WORK_DIR}/prefix")
  run(${configure} -S "${SOURCE_DIR}/examples/cpp" "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix")
else()
  run(${configure} -S "${SOURCE_DIR}/tests/package/subdirectory" -DRTLYNX_TORCH=OFF
      -DRTLYNX_CUDA=OFF "-DRTLYNX_SOURCE_DIR=${SOURCE_DIR}" ${DEPENDENCIES})
endif()
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build" --target ${EXAMPLE})

find_program(example ${EXAMPLE} PATHS "${WORK_DIR}/build" "${WORK_DIR}/build/Release"
             NO_DEFAULT_PATH REQUIRED)
run("${example}")
# A printed error is below 1 only if the layer computed something like the dense one.
set(error "error against dense 0\\.[0-9]+\n$")
string(REPLACE "." "\\." version "${VERSION}")
set(expected_sparse_linear "^rtlynx ${version}\nkept energy 0\\.[0-9]+\n(s 1\\.[0-9]+\n)+${error}")
set(expected_fused_block "^x \\[6, 64\\] .*${error}")
set(expected_gpu_linear "^[^\n]+\n${error}")  # how it runs, and why
set(expected_gpu_graph "^the graph gives the same bits\n$")
if(NOT output MATCHES "${expected_${EXAMPLE}}")
  message(FATAL_ERROR "${EXAMPLE} printed:\n${output}")
endif()
