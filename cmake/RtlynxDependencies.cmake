# Third-party libraries. System packages are taken first; otherwise they are fetched, unless
# FETCHCONTENT_SOURCE_DIR_<NAME> points at sources already on disk.
include(FetchContent)
set(BUILD_SHARED_LIBS OFF)
set(JSON_BuildTests OFF)
set(INSTALL_GTEST OFF)

FetchContent_Declare(nlohmann_json
  URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
  FIND_PACKAGE_ARGS 3.11)
FetchContent_MakeAvailable(nlohmann_json)

FetchContent_Declare(fmt
  URL https://github.com/fmtlib/fmt/archive/refs/tags/9.1.0.tar.gz
  FIND_PACKAGE_ARGS 9)
FetchContent_MakeAvailable(fmt)

FetchContent_Declare(CLI11
  URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
  FIND_PACKAGE_ARGS 2.1)
FetchContent_MakeAvailable(CLI11)

find_path(STB_INCLUDE_DIR stb_image_write.h PATH_SUFFIXES stb)
if(NOT STB_INCLUDE_DIR)
  FetchContent_Declare(stb
    URL https://github.com/nothings/stb/archive/5c205738c191bcb0abc65c4febfa9bd25ff35234.tar.gz)
  FetchContent_MakeAvailable(stb)
  FetchContent_GetProperties(stb SOURCE_DIR STB_INCLUDE_DIR)
endif()

# Compresses the pictures.
find_package(ZLIB QUIET)
add_library(rtlynx_zlib INTERFACE)
if(ZLIB_FOUND)
  target_link_libraries(rtlynx_zlib INTERFACE ZLIB::ZLIB)
else()
  set(ZLIB_BUILD_EXAMPLES OFF)
  set(SKIP_INSTALL_ALL ON)
  FetchContent_Declare(zlib
    URL https://github.com/madler/zlib/releases/download/v1.3.1/zlib-1.3.1.tar.gz)
  FetchContent_MakeAvailable(zlib)
  target_link_libraries(rtlynx_zlib INTERFACE zlibstatic)
  target_include_directories(rtlynx_zlib SYSTEM
    INTERFACE "${zlib_SOURCE_DIR}" "${zlib_BINARY_DIR}")
endif()

# The tokenizers'. Their packages describe themselves to pkg-config, not to CMake.
find_package(PkgConfig QUIET)
# rtlynx_from_pkg_config(<target> <module> <package>) makes <target> where pkg-config knows the
# module, which Debian and Ubuntu have in <package>.
function(rtlynx_from_pkg_config target module package)
  if(PkgConfig_FOUND)
    pkg_check_modules(${target}_module QUIET IMPORTED_TARGET GLOBAL "${module}")
  endif()
  if(TARGET PkgConfig::${target}_module)
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    target_link_libraries(${target} INTERFACE PkgConfig::${target}_module)
  else()
    message(WARNING "rtlynx needs ${module}; pkg-config does not find it (${package} on Debian and "
                    "Ubuntu), so that its sources are fetched and built")
  endif()
endfunction()

rtlynx_from_pkg_config(rtlynx_pcre2 "libpcre2-8>=10.40" libpcre2-dev)
if(NOT TARGET rtlynx_pcre2)
  set(PCRE2_BUILD_TESTS OFF)
  set(PCRE2_BUILD_PCRE2GREP OFF)
  FetchContent_Declare(pcre2
    URL https://github.com/PCRE2Project/pcre2/releases/download/pcre2-10.42/pcre2-10.42.tar.gz)
  FetchContent_MakeAvailable(pcre2)
  add_library(rtlynx_pcre2 INTERFACE)
  target_link_libraries(rtlynx_pcre2 INTERFACE pcre2-8-static)
endif()

rtlynx_from_pkg_config(rtlynx_utf8proc libutf8proc libutf8proc-dev)
if(NOT TARGET rtlynx_utf8proc)
  set(UTF8PROC_INSTALL OFF)
  FetchContent_Declare(utf8proc
    URL https://github.com/JuliaStrings/utf8proc/archive/refs/tags/v2.8.0.tar.gz)
  FetchContent_MakeAvailable(utf8proc)
  add_library(rtlynx_utf8proc INTERFACE)
  target_link_libraries(rtlynx_utf8proc INTERFACE utf8proc)
endif()

rtlynx_from_pkg_config(rtlynx_sentencepiece "sentencepiece>=0.1.97" libsentencepiece-dev)
if(NOT TARGET rtlynx_sentencepiece)
  set(SPM_ENABLE_SHARED OFF)
  set(SPM_ENABLE_TCMALLOC OFF)
  FetchContent_Declare(sentencepiece
    URL https://github.com/google/sentencepiece/archive/refs/tags/v0.2.1.tar.gz)
  FetchContent_MakeAvailable(sentencepiece)
  add_library(rtlynx_sentencepiece INTERFACE)
  target_link_libraries(rtlynx_sentencepiece INTERFACE sentencepiece-static)
  target_include_directories(rtlynx_sentencepiece SYSTEM
    INTERFACE "${sentencepiece_SOURCE_DIR}/src")
  # Its protobuf must not stand in for the one that libtorch brings along.
  target_link_options(rtlynx_sentencepiece INTERFACE "LINKER:--exclude-libs,libsentencepiece.a")
endif()

if(RTLYNX_TESTS)
  FetchContent_Declare(GTest
    URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    FIND_PACKAGE_ARGS 1.12)
  FetchContent_MakeAvailable(GTest)
endif()

if(RTLYNX_TORCH)
  include(RtlynxTorch)
endif()
