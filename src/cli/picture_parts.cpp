// SPDX-License-Identifier: Apache-2.0
#include "cli/picture_parts.h"

#include <algorithm>
#include <set>
#include <string>

namespace rtlynx::cli {
namespace {

// 4 MB each with FLUX.1 in bf16, the longest.
constexpr std::size_t kPromptsAtOnce = 256;
constexpr std::size_t kComparedAtOnce = 8;

/// Pictures of a part: whole batches, one at least.
std::size_t most_pictures(const PictureRun& run) {
  const auto batch = static_cast<std::size_t>(run.request.batch);
  const std::size_t most = run.compare ? kComparedAtOnce : kPromptsAtOnce;
  return std::max(most / batch, std::size_t{1}) * batch;
}

}  // namespace

int PicturePart::steps() const {
  const std::size_t count = request.prompts.size();
  const auto batch = static_cast<std::size_t>(request.batch);
  return static_cast<int>((count + batch - 1) / batch) * settings.steps_to_run();
}

std::vector<PicturePart> parts_of(const PictureRun& run) {
  std::vector<PicturePart> parts;
  for (std::size_t i = 0; i < run.jobs.size(); ++i) {
    const PictureJob& job = run.jobs[i];
    const bool fits = i > 0 && job.size == run.jobs[i - 1].size &&
                      parts.back().request.prompts.size() < most_pictures(run);
    if (!fits) {
      parts.push_back({.first = i, .request = run.request, .settings = {}});
      if (job.size) {
        parts.back().request.width = job.size->width;
        parts.back().request.height = job.size->height;
      }
    }
    parts.back().request.prompts.push_back(job.prompt);
    parts.back().request.seeds.push_back(job.seed);
  }
  return parts;
}

std::size_t end_of_prompts_at_once(const std::vector<PicturePart>& parts, std::size_t first) {
  std::set<std::string> prompts;
  std::size_t end = first;
  for (; end < parts.size(); ++end) {
    const auto& more = parts[end].request.prompts;
    prompts.insert(more.begin(), more.end());
    if (end > first && prompts.size() > kPromptsAtOnce) break;
  }
  return end;
}

PictureRequest request_of(const std::vector<PicturePart>& parts, std::size_t first,
                          std::size_t end) {
  PictureRequest request = parts[first].request;
  for (std::size_t i = first + 1; i < end; ++i) {
    const PictureRequest& more = parts[i].request;
    request.prompts.insert(request.prompts.end(), more.prompts.begin(), more.prompts.end());
    request.seeds.insert(request.seeds.end(), more.seeds.begin(), more.seeds.end());
  }
  return request;
}

}  // namespace rtlynx::cli
