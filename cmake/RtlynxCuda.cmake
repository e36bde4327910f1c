# Finds nvcc when the GPU kernels are wanted. Sets RTLYNX_WITH_CUDA.
set(oldest_nvcc 12.4)
set(RTLYNX_WITH_CUDA OFF)
if(NOT RTLYNX_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # PTX of sm_80 serves newer GPUs; wgmma exists on sm_90a alone.
      set(CMAKE_CUDA_ARCHITECTURES "80;90a-real")
    endif()
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL oldest_nvcc)
      set(RTLYNX_WITH_CUDA ON)
    endif()
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know what nvcc 13 can do
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  endif()
  if(RTLYNX_CUDA STREQUAL "ON" AND NOT RTLYNX_WITH_CUDA)
    message(FATAL_ERROR "RTLYNX_CUDA=ON needs nvcc ${oldest_nvcc} or later, got "
                        "\"${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}\". Set CUDACXX to "
                        "the path of one, or RTLYNX_CUDA=OFF for a CPU build.")
  endif()
endif()
message(STATUS "rtlynx: GPU kernels ${RTLYNX_WITH_CUDA}")

# What ptxas says of a target's kernels decides whether it builds.
function(rtlynx_strict_ptxas target)
  if(RTLYNX_STRICT_PTXAS)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
    set_target_properties(${target} PROPERTIES
      RULE_LAUNCH_COMPILE "\"${PROJECT_SOURCE_DIR}/cmake/strict_ptxas.sh\"")
  endif()
endfunction()
