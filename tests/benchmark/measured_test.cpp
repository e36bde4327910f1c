// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/measured.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmark/config_name.h"
#include "io/json.h"
#include "kernels/gemm/time_model.h"

namespace rtlynx::benchmark {
namespace {

/// A whole linear layer with rank 64, as `rtlynx bench` wrote it down.
struct Record {
  std::int64_t tokens = 0, outputs = 0, channels = 0;
  std::string config;
  double sparse_us = 0;   // pack and product
  double product_us = 0;  // of an input that is packed already; 0 where it ran dense
  double dense_us = 0;
};

std::vector<Record> records_of(const std::string& name) {
  const auto path = std::filesystem::path(RTLYNX_SOURCE_DIR) / "bench" / "results" / name;
  const nlohmann::json report = read_json_file(path);
  std::vector<Record> records;
  for (const auto& shape : report.at("shapes")) {
    const auto& linear = shape.at("linear");
    const auto us = [&](const char* which) {
      const nlohmann::json times = linear.value(which, nlohmann::json());
      return times.is_object() ? times.at("burst_us").get<double>() : 0.0;
    };
    records.push_back({.tokens = shape.at("m"),
                       .outputs = shape.at("n"),
                       .channels = shape.at("k"),
                       .config = shape.at("linear_choice").at("config"),
                       .sparse_us = us("rtlynx"),
                       .product_us = us("gemm"),
                       .dense_us = us("cublaslt")});
  }
  return records;
}

std::vector<Record> records_of_bench() { return records_of("2026-11-21-h200-bf16-bench.json"); }

std::vector<Record> all_records() {
  std::vector<Record> records = records_of_bench();
  for (const char* name :
       {"2026-11-21-h200-bf16-paper-text.json", "2026-11-21-h200-bf16-few-tokens.json"}) {
    for (Record& record : records_of(name)) records.push_back(std::move(record));
  }
  return records;
}

// The table has one decimal.
bool is_copy(const gpu::MeasuredShape& row, const Record& record) {
  constexpr double kRounding = 0.05001;
  return row.tokens == record.tokens && row.outputs == record.outputs &&
         row.channels == record.channels && name_of(row.config) == record.config &&
         std::abs(row.sparse_us - record.sparse_us) <= kRounding &&
         std::abs(row.dense_us - record.dense_us) <= kRounding;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

TEST(MeasuredTest, EveryRowIsARecord) {
  const std::vector<Record> records = all_records();
  for (const gpu::MeasuredShape& row : gpu::kH200Shapes) {
    EXPECT_EQ(row.rank, 64);
    EXPECT_TRUE(std::any_of(records.begin(), records.end(),
                            [&](const Record& record) { return is_copy(row, record); }))
        << row.tokens << " " << row.outputs << " " << row.channels << " " << name_of(row.config);
  }
}

TEST(MeasuredTest, EverySparseRecordOfTheModelsIsARow) {
  ASSERT_EQ(records_of_bench().size(), 14U);
  for (const Record& record : records_of_bench()) {
    ASSERT_NE(record.config, "dense");
    EXPECT_TRUE(std::any_of(gpu::kH200Shapes.begin(), gpu::kH200Shapes.end(),
                            [&](const gpu::MeasuredShape& row) { return is_copy(row, record); }))
        << record.tokens << " " << record.outputs << " " << record.channels;
  }
}

// The model without its rows, against what was measured. measured.h promises a tenth for most.
TEST(MeasuredTest, TheModelEstimatesWhatWasMeasured) {
  gpu::Measurements model = gpu::kH200;
  model.shapes = {};
  std::vector<double> sparse, dense, pack;
  for (const Record& record : records_of_bench()) {
    const gpu::LinearTimes times = gpu::linear_times({.tokens = record.tokens,
                                                      .outputs = record.outputs,
                                                      .channels = record.channels,
                                                      .rank = 64},
                                                     model);
    ASSERT_EQ(times.source, "estimated");
    sparse.push_back(std::abs(*times.sparse_us / record.sparse_us - 1));
    dense.push_back(std::abs(times.dense_us / record.dense_us - 1));
    pack.push_back((record.sparse_us - record.product_us) / times.pack_us);
  }
  EXPECT_LT(median(sparse), 0.1);
  EXPECT_LT(median(dense), 0.1);
  // Single differences of two times scatter: a pack hides behind a long product.
  EXPECT_NEAR(median(pack), 1, 0.25);
}

}  // namespace
}  // namespace rtlynx::benchmark
