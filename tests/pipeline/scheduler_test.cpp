// SPDX-License-Identifier: Apache-2.0
#include "pipeline/scheduler.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/json.h"
#include "refusal.h"

namespace rtlynx {
namespace {

nlohmann::json scheduler_json(nlohmann::json options = nlohmann::json::object()) {
  options["_class_name"] = "FlowMatchEulerDiscreteScheduler";
  return options;
}

// The goldens come from diffusers' own scheduler (tools/make_goldens.py).
TEST(Scheduler, SigmasAndStepsMatchDiffusers) {
  const auto path =
      std::filesystem::path(RTLYNX_SOURCE_DIR) / "tests" / "goldens" / "scheduler.json";
  const nlohmann::json goldens = read_json_file(path);
  int compared = 0;
  for (const auto& golden : goldens["cases"]) {
    const auto config = scheduler_config_from_json(scheduler_json(golden["config"]), "golden");
    const std::int64_t tokens =
        golden["image_tokens"].is_null() ? 256 : golden["image_tokens"].get<std::int64_t>();
    const Schedule schedule = make_schedule(config, golden["steps"].get<int>(), tokens);
    if (!golden["mu"].is_null()) {
      EXPECT_NEAR(dynamic_shift_mu(config, tokens), golden["mu"].get<double>(), 1e-12);
    }
    const auto sigmas = golden["sigmas"].get<std::vector<double>>();
    ASSERT_EQ(schedule.sigmas.size(), sigmas.size());
    for (std::size_t i = 0; i < sigmas.size(); ++i) {
      EXPECT_NEAR(schedule.sigmas[i], sigmas[i], 1e-6) << golden["name"] << " level " << i;
    }
    for (const auto& step : golden["step"]) {
      if (step["dtype"] != "float32") continue;
      const auto values = [&](const char* key) {
        return torch::tensor(step[key].get<std::vector<float>>());
      };
      const torch::Tensor moved =
          euler_step(schedule, step["index"].get<int>(), values("sample"), values("velocity"));
      EXPECT_LE((moved - values("result")).abs().max().item<double>(), 1e-6) << golden["name"];
      ++compared;
    }
  }
  EXPECT_GE(compared, 30);
}

TEST(Scheduler, AnswersToOneStep) {
  const Schedule schedule = make_schedule(SchedulerConfig{.shift = 2.0}, 1, 256);
  EXPECT_EQ(schedule.sigmas, (std::vector<float>{1.0F, 0.0F}));
  EXPECT_THROW(make_schedule(SchedulerConfig{}, 0, 256), UsageError);
}

TEST(Scheduler, ConfigSurvivesARoundTrip) {
  const auto config = scheduler_config_from_json(
      scheduler_json({{"shift", 3.0}, {"use_dynamic_shifting", true}, {"shift_terminal", 0.02}}),
      "s");
  const auto again = scheduler_config_from_json(to_json(config), "s");
  EXPECT_EQ(to_json(again), to_json(config));
  EXPECT_EQ(again.shift_terminal, 0.02);
}

TEST(Scheduler, RefusesWhatItDoesNotHave) {
  EXPECT_THROW(scheduler_config_from_json(scheduler_json({{"use_karras_sigmas", true}}), "s"),
               Error);
  EXPECT_NO_THROW(scheduler_config_from_json(scheduler_json({{"use_karras_sigmas", false}}), "s"));
  EXPECT_NO_THROW(scheduler_config_from_json(
      scheduler_json({{"use_karras_sigmas", nullptr}, {"time_shift_type", nullptr}}), "s"));
  try {
    scheduler_config_from_json(scheduler_json({{"time_shift_type", "linear"}}), "s.json");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "s.json: required time_shift_type = \"exponential\", got \"linear\", which is not "
                 "supported");
  }
  EXPECT_THROW(scheduler_config_from_json({{"_class_name", "DDIMScheduler"}}, "s"), Error);
  EXPECT_THROW(scheduler_config_from_json(scheduler_json({{"shift", 0.0}}), "s"), Error);
}

TEST(Scheduler, NamesTheFileOfLevelsThatCannotBe) {
  const auto refused = [](const nlohmann::json& options) {
    const auto config = scheduler_config_from_json(scheduler_json(options), "s.json");
    return refusal([&] { make_schedule(config, 4, 256); });
  };
  EXPECT_EQ(refused({{"shift_terminal", 0.02}}), "accepted");
  for (const nlohmann::json& options :
       {nlohmann::json{{"shift_terminal", 1.0}}, nlohmann::json{{"shift", 1e308}},
        nlohmann::json{{"use_dynamic_shifting", true}, {"base_shift", 1e6}},
        nlohmann::json{{"use_dynamic_shifting", true}, {"base_shift", -1e6}}}) {
    EXPECT_EQ(refused(options).substr(0, 16), "s.json: required") << options;
  }
}

}  // namespace
}  // namespace rtlynx
