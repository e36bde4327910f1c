// SPDX-License-Identifier: Apache-2.0
#include "io/folder_use.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

namespace rtlynx {

FolderUse::FolderUse(const std::filesystem::path& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  while (descriptor_ >= 0 && ::flock(descriptor_, LOCK_SH) != 0 && errno == EINTR) {
  }
}

FolderUse::~FolderUse() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool FolderUse::end_alone() {
  const bool refused = descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0;
  return !refused || errno != EWOULDBLOCK;
}

}  // namespace rtlynx
