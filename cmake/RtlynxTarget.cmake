# rtlynx_library(<folder name> SOURCES ... LINK ...) defines the target of one folder of src/.
# All code includes its headers as "folder/file.h".

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -O3 takes longer to compile. The CPU's kernels, whose loops it is for, ask for it themselves.
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

add_library(rtlynx_flags INTERFACE)
target_compile_options(rtlynx_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wno-unknown-pragmas
    # A designated initialiser that leaves a member at its default is what it is for.
    -Wno-missing-field-initializers>)
if(RTLYNX_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>)
  add_link_options(-fsanitize=address,undefined)
endif()

# rtlynx_compile_together(<target> [ALONE file...]) compiles six files of a target at a time, which
# share what their headers cost. ALONE lists those whose local names are also another's.
function(rtlynx_compile_together target)
  cmake_parse_arguments(arg "" "" "ALONE" ${ARGN})
  if(NOT RTLYNX_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
  # What the file that is compiled includes may well use its anonymous namespace: it is a source.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
  foreach(file ${arg_ALONE})
    set_source_files_properties(${file} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endforeach()
endfunction()

function(rtlynx_library name)
  cmake_parse_arguments(arg "SHARED" "" "SOURCES;LINK" ${ARGN})
  if(arg_SHARED)
    add_library(rtlynx_${name} SHARED ${arg_SOURCES})
  else()
    add_library(rtlynx_${name} STATIC ${arg_SOURCES})
  endif()
  target_include_directories(rtlynx_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
                                                   $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                   $<INSTALL_INTERFACE:include>)
  target_link_libraries(rtlynx_${name} PUBLIC ${arg_LINK} PRIVATE $<BUILD_INTERFACE:rtlynx_flags>)
endfunction()

# rtlynx_test(<folder name> [TORCH [SEPARATE] [ALONE ...]] SOURCES ... LINK ...) defines one test
# binary, tests/<folder>. TORCH: as rtlynx_compile_torch, which only position-independent objects
# can. SEPARATE: each file by itself, where many have alike local names.
function(rtlynx_test name)
  cmake_parse_arguments(arg "TORCH;SEPARATE" "" "ALONE;SOURCES;LINK" ${ARGN})
  add_library(test_${name}_objects OBJECT ${arg_SOURCES})
  target_link_libraries(test_${name}_objects PUBLIC ${arg_LINK} GTest::gtest GTest::gmock
                                                    rtlynx_flags)
  target_compile_options(test_${name}_objects PRIVATE $<$<CONFIG:Release>:-O1>)
  target_include_directories(test_${name}_objects PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(test_${name}_objects
                             PRIVATE RTLYNX_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(arg_SEPARATE)
    target_precompile_headers(test_${name}_objects REUSE_FROM rtlynx_torch_pch)
  elseif(arg_TORCH)
    rtlynx_compile_torch(test_${name}_objects ALONE ${arg_ALONE})
  endif()
  add_executable(test_${name} $<TARGET_OBJECTS:test_${name}_objects>)
  target_link_libraries(test_${name} PRIVATE test_${name}_objects GTest::gtest_main)
  add_test(NAME ${name} COMMAND test_${name})
endfunction()
