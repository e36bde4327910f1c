# Builds EXAMPLE of examples/cpp against this library, USE = package (installed) or
# package_subdirectory (from the sources), runs it and checks what it prints.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
set(configure "${CMAKE_COMMAND}" -B "${WORK_DIR}/build" -G "${GENERATOR}"
    "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=${FLAGS}" -DCMAKE_BUILD_TYPE=Release)
if(USE STREQUAL "package")
  run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --component kernels
      --prefix "${WORK_DIR}/prefix")
  run(${configure} -S "${SOURCE_DIR}/examples/cpp" "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix")
else()
  run(${configure} -S "${SOURCE_DIR}/tests/package/subdirectory" -DRTLYNX_TORCH=OFF
      -DRTLYNX_CUDA=OFF "-DRTLYNX_SOURCE_DIR=${SOURCE_DIR}" ${DEPENDENCIES})
endif()
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build" --target ${EXAMPLE})

find_program(example ${EXAMPLE} PATHS "${WORK_DIR}/build" "${WORK_DIR}/build/Release"
             NO_DEFAULT_PATH REQUIRED)
run("${example}")
if(EXAMPLE STREQUAL "sparse_linear")
  string(REPLACE "." "\\." version "${VERSION}")
  set(expected "^rtlynx ${version}\nkept energy 0\\.[0-9]+\n(s 1\\.[0-9]+\n)+")
else()
  set(expected "^[^\n]+\n")  # how it runs, and why
endif()
# The printed error is below 1 only if the layer computed something like the dense one.
string(APPEND expected "error against dense 0\\.[0-9]+\n$")
if(NOT output MATCHES "${expected}")
  message(FATAL_ERROR "${example} printed:\n${output}")
endif()
