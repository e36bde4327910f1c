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

if(RTLYNX_TESTS)
  FetchContent_Declare(GTest
    URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    FIND_PACKAGE_ARGS 1.12)
  FetchContent_MakeAvailable(GTest)
endif()

if(RTLYNX_TORCH)
  include(RtlynxTorch)
endif()
