// SPDX-License-Identifier: Apache-2.0
#include "benchmark/sections.h"

#include "benchmark/config_name.h"
#include "benchmark/summary.h"

namespace rtlynx::benchmark {
namespace {

constexpr const char* kDenseChosen = "the dense GEMM was chosen";

// Without a call: why it is missing.
struct Entrant {
  std::string name;
  Call call;
  std::string missing;
};

Entrant entrant_if(bool present, std::string name, Call call, const std::string& missing) {
  if (!present) return {std::move(name), nullptr, missing};
  return {std::move(name), std::move(call), ""};
}

std::vector<Figure> time_entrants(const std::vector<Entrant>& entrants, int sets, Timer& timer) {
  std::vector<Call> calls;
  for (const Entrant& entrant : entrants) {
    if (entrant.call) calls.push_back(entrant.call);
  }
  const std::vector<Timing> timings = timer.time(calls, sets);
  std::vector<Figure> figures;
  std::size_t next = 0;
  for (const Entrant& entrant : entrants) {
    Figure& figure = figures.emplace_back(Figure{entrant.name, std::nullopt, entrant.missing});
    if (entrant.call) figure.timing = timings[next++];
  }
  return figures;
}

class Entrants {
 public:
  Entrants(const Contenders& contenders, cudaStream_t stream)
      : all_(contenders), problem_(contenders.problem), stream_(stream) {}

  std::vector<Entrant> gemm() const {
    const Call ours = [this](int set) {
      problem_.product(set, all_.gemm.config, /*low_rank=*/false, stream_);
    };
    const Entrant dense = {"cublaslt", dense_call(), all_.dense_missing};
    return {all_.packs_gemm() ? Entrant{"rtlynx", ours, ""}
                              : Entrant{"rtlynx", dense.call, dense.missing},
            dense,
            entrant_if(
                all_.sparse != nullptr, "cusparselt",
                [this](int set) { all_.sparse->gemm(set, stream_); }, all_.sparse_missing)};
  }

  std::vector<Entrant> pack() const {
    return {{"rtlynx", pack_call({}), ""},
            {"rank64", pack_call({.low_rank = true}), ""},
            entrant_if(problem_.has_transform(), "transform64", pack_call({.transform = true}),
                       "channels are not a multiple of the block of 64"),
            entrant_if(
                all_.sparse != nullptr, "cusparselt",
                [this](int set) { all_.sparse->compress(set, stream_); }, all_.sparse_missing),
            {"copy", copy_call(), ""}};
  }

  std::vector<Entrant> linear() const {
    const Entrant dense = {"cublaslt", dense_bias_call(), all_.dense_missing};
    const Call gemm = [this](int set) {
      problem_.product(set, all_.linear.config, /*low_rank=*/true, stream_);
    };
    return {all_.packs_linear() ? Entrant{"rtlynx", packed_linear_call(/*produced=*/false), ""}
                                : Entrant{"rtlynx", dense.call, dense.missing},
            entrant_if(all_.packs_linear(), "gemm", gemm, kDenseChosen), dense};
  }

  std::vector<Entrant> fused() const {
    const Entrant dense = {"cublaslt", produced_dense_call(), all_.dense_missing};
    return {all_.packs_linear() ? Entrant{"rtlynx", packed_linear_call(/*produced=*/true), ""}
                                : Entrant{"rtlynx", dense.call, dense.missing},
            entrant_if(all_.packs_linear(), "pack", pack_call({.low_rank = true, .produced = true}),
                       kDenseChosen),
            {"producer", [this](int set) { problem_.produce_dense(set, stream_); }, ""},
            dense};
  }

  std::vector<Entrant> e4m3() const {
    const bool present = all_.e4m3 != nullptr, has_dense = present && all_.e4m3->has_dense();
    const auto call = [this](void (E4m3Problem::*method)(int, bool, cudaStream_t) const,
                             bool low_rank) {
      return Call([=, this](int set) { ((*all_.e4m3).*method)(set, low_rank, stream_); });
    };
    const Call product = call(&E4m3Problem::product, /*low_rank=*/false);
    const Call pack = call(&E4m3Problem::pack, /*low_rank=*/true);
    const Call product_of_layer = call(&E4m3Problem::product, /*low_rank=*/true);
    const std::string& dense_missing = present ? all_.e4m3_dense_missing : all_.e4m3_missing;
    return {entrant_if(present, "rtlynx", product, all_.e4m3_missing),
            entrant_if(
                has_dense, "cublaslt", [this](int set) { all_.e4m3->dense(set, stream_); },
                dense_missing),
            entrant_if(
                all_.packs_gemm(), "bf16",
                [this](int set) { problem_.product(set, all_.gemm.config, false, stream_); },
                kDenseChosen),
            entrant_if(present, "pack", pack, all_.e4m3_missing),
            entrant_if(
                present, "linear", [=](int set) { pack(set), product_of_layer(set); },
                all_.e4m3_missing),
            entrant_if(
                has_dense, "cublaslt linear",
                [this](int set) { all_.e4m3->dense_linear(set, stream_); }, dense_missing),
            {"cublaslt bf16 linear", dense_bias_call(), all_.dense_missing}};
  }

  std::vector<Entrant> weight() const {
    return {
        entrant_if(all_.weight != nullptr, "rtlynx", weight_call(all_.weight), all_.weight_missing),
        {"cublaslt", dense_call(), all_.dense_missing},
        weight_linear(all_.weight),
        {"cublaslt linear", dense_bias_call(), all_.dense_missing}};
  }

  std::vector<Entrant> e4m3_weight() const {
    const bool present = all_.e4m3_weight != nullptr;
    const bool has_dense = present && all_.e4m3->has_dense();
    const std::string& missing = present ? all_.e4m3_dense_missing : all_.weight_missing;
    return {
        entrant_if(present, "rtlynx", weight_call(all_.e4m3_weight), all_.weight_missing),
        entrant_if(
            has_dense, "cublaslt", [this](int set) { all_.e4m3->dense(set, stream_); }, missing),
        weight_linear(all_.e4m3_weight),
        entrant_if(
            has_dense, "cublaslt linear",
            [this](int set) { all_.e4m3->dense_linear(set, stream_); }, missing)};
  }

 private:
  Call weight_call(const std::unique_ptr<WeightProblem>& weight) const {
    return [&weight, this](int set) { weight->product(set, /*low_rank=*/false, stream_); };
  }

  Entrant weight_linear(const std::unique_ptr<WeightProblem>& weight) const {
    const std::string& missing = weight == nullptr ? all_.weight_missing : all_.dense_missing;
    return entrant_if(
        weight != nullptr && weight->has_down(), "linear",
        [&weight, this](int set) { weight->linear(set, stream_); }, missing);
  }

  Call pack_call(const PackOptions& options) const {
    return [this, options](int set) { problem_.pack(set, options, stream_); };
  }

  Call packed_linear_call(bool produced) const {
    return [this, produced](int set) {
      problem_.pack(set, {.low_rank = true, .produced = produced}, stream_);
      problem_.product(set, all_.linear.config, /*low_rank=*/true, stream_);
    };
  }

  Call dense_call() const {
    if (all_.dense == nullptr) return nullptr;
    return [this](int set) {
      const OperandSet& operands = problem_.set(set);
      all_.dense->run(operands.x.data(), operands.weight.data(), operands.y.data(), stream_);
    };
  }

  Call dense_bias_call() const {
    if (all_.dense_bias == nullptr) return nullptr;
    return [this](int set) {
      const OperandSet& operands = problem_.set(set);
      all_.dense_bias->run(operands.x.data(), operands.weight.data(), operands.y.data(), stream_);
    };
  }

  Call produced_dense_call() const {
    if (all_.dense_bias == nullptr) return nullptr;
    return [this](int set) {
      const OperandSet& operands = problem_.set(set);
      problem_.produce_dense(set, stream_);
      all_.dense_bias->run(operands.dense.data(), operands.weight.data(), operands.y.data(),
                           stream_);
    };
  }

  // Reads and writes as many bytes as the pack does, half of them each.
  Call copy_call() const {
    const auto bytes = static_cast<std::size_t>(pack_bytes(problem_.shape()) / 2);
    return [this, bytes](int set) {
      const OperandSet& operands = problem_.set(set);
      check_cuda(cudaMemcpyAsync(operands.dense.data(), operands.x.data(), bytes,
                                 cudaMemcpyDeviceToDevice, stream_),
                 "cudaMemcpyAsync");
    };
  }

  const Contenders& all_;
  const Problem& problem_;
  cudaStream_t stream_;
};

}  // namespace

Section time_section(const std::string& name, const Contenders& contenders, Timer& timer) {
  const Entrants entrants(contenders, timer.stream());
  const auto timed = [&](const std::vector<Entrant>& chosen) {
    return Section{name, time_entrants(chosen, contenders.problem.sets(), timer)};
  };
  if (name == "gemm") return timed(entrants.gemm());
  if (name == "pack") return timed(entrants.pack());
  if (name == "linear") return timed(entrants.linear());
  if (name == "fused") return timed(entrants.fused());
  if (name == "e4m3") return timed(entrants.e4m3());
  if (name == "weight") return timed(entrants.weight());
  if (name == "e4m3-weight") return timed(entrants.e4m3_weight());
  throw UsageError("what: required gemm, pack, linear, fused, e4m3, weight or e4m3-weight, got " +
                   name);
}

std::vector<SweepEntry> sweep(Contenders& contenders, const gpu::DeviceTraits& device,
                              ShapeChecks& checks, Timer& timer,
                              std::vector<std::string>* failures) {
  Problem& problem = contenders.problem;
  std::vector<Entrant> entrants;
  const std::vector<gpu::Gemm24Config> configs =
      sweep_configs(problem.gemm_shape(/*rank=*/0), device);
  for (const gpu::Gemm24Config& config : configs) {
    Entrant& entrant = entrants.emplace_back(Entrant{name_of(config), nullptr, ""});
    try {
      problem.reserve_workspace(config, device);
      checks.check_gemm(config, "gemm " + entrant.name);
      entrant.call = [&problem, &timer, config](int set) {
        problem.product(set, config, /*low_rank=*/false, timer.stream());
      };
    } catch (const WrongResult& error) {
      entrant.missing = error.what();
      failures->push_back(error.what());
    } catch (const Error& error) {
      entrant.missing = error.what();
      // A refused launch leaves its error behind; one that broke the device comes back here.
      cudaGetLastError();
      check_cuda(cudaDeviceSynchronize(), "sweep of " + entrant.name);
    }
  }
  std::vector<Figure> figures = time_entrants(entrants, problem.sets(), timer);
  std::vector<SweepEntry> entries;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    entries.push_back({configs[i], std::move(figures[i])});
  }
  return entries;
}

}  // namespace rtlynx::benchmark
