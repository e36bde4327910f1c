// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <torch/version.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/draw_pictures.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/product_choice.h"
#include "compensate/compensation_file.h"
#include "compensate/fold_transform.h"
#include "io/terminal.h"
#include "io/text.h"
#include "models/blockwise/blockwise.h"
#include "models/recipe.h"
#include "rtlynx/version.h"

namespace rtlynx::cli {
namespace {

struct InfoOptions {
  ModelOptions model;
  ProductOptions products;
  std::string compensation;
  bool layers = false;
  bool vocabulary = false;
  bool json = false;
};

nlohmann::ordered_json describe_build() {
  return {{"rtlynx", version()},
          {"torch", TORCH_VERSION},
          {"gpu_kernels", RTLYNX_GPU_KERNELS != 0},
          {"cpu_threads", torch::get_num_threads()},
          {"gpus_seen_by_torch", torch::cuda::device_count()},
          {"device_by_default", choose_device("auto").str()}};
}

std::string describe_replacement(const LayerCompensation& layer) {
  const Replacement& values = *layer.replacement;
  std::string text = fmt::format("{}: {}", layer.method, kind_of(layer));
  if (values.axes.defined()) {
    text += fmt::format(", {} of every {} axes", values.axes.size(2), values.axes.size(1));
  }
  if (values.rank() > 0) text += fmt::format(", rank {}", values.rank());
  return text;
}

// `left` of the layer's transform is done at run time, the rest by the weights before it.
std::string describe_sparsified(const LayerCompensation& layer, const InputTransform& left) {
  const auto free_unless = [](const torch::Tensor& part) {
    return part.defined() ? "" : " at no cost";
  };
  const Compensation24& values = layer.values;
  const InputTransform& transform = values.transform;
  std::string text = values.norm ? "norm" : "no norm";
  if (values.weight.defined()) text += ", own weight";
  if (values.rank() > 0) text += fmt::format(", rank {}", values.rank());
  if (transform.blocks.defined()) text += fmt::format(", blocks of {}", transform.blocks.size(1));
  if (transform.scale.defined()) text += fmt::format(", column norms{}", free_unless(left.scale));
  if (transform.permutation.defined()) {
    text += fmt::format(", permuted{}", free_unless(left.permutation));
  }
  return text;
}

nlohmann::ordered_json describe_compensation(const std::string& file,
                                             const ModelCompensation& compensation) {
  return {{"file", path_text(file)},
          {"method", compensation.method},
          {"transform", compensation.transform},
          {"recipe", compensation.recipe},
          {"rank", compensation.rank},
          {"made_for", compensation.base_model},
          {"revision", compensation.base_revision}};
}

/// A model's Linears and what they do: as a compensation says, or sparse where the paper has them.
struct LayerList {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  std::int64_t sparse_layers = 0;
  std::int64_t sparse_weights = 0, weights = 0;

  void add_to(nlohmann::ordered_json& model) const {
    model["linear_layers"] = layers.size();
    model["sparsified_layers"] = sparse_layers;
    model["sparsified_weight_share"] =
        static_cast<double>(sparse_weights) / static_cast<double>(weights);
  }
};

/// `is_applied`: the layers hold the compensation, less what was folded into the weights.
LayerList list_layers(const torch::nn::Module& model, const std::vector<LayerGroup>& groups,
                      const std::optional<ModelCompensation>& compensation, bool is_applied) {
  const LayerFilter in_paper = paper_layers(groups);
  LayerList list;
  for (const auto& [name, linear] : named_linears(model)) {
    const bool sparse = compensation ? compensation->layers.contains(name) : in_paper(name);
    list.weights += linear->weight.numel();
    list.sparse_weights += sparse ? linear->weight.numel() : 0;
    list.sparse_layers += sparse ? 1 : 0;
    list.layers.push_back({{"name", name},
                           {"in", linear->in_features()},
                           {"out", linear->out_features()},
                           {"sparse", sparse}});
    if (compensation && sparse) {
      const LayerCompensation& layer = compensation->layers.at(name);
      list.layers.back()["kind"] = kind_of(layer);
      list.layers.back()["compensation"] =
          layer.replacement
              ? describe_replacement(layer)
              : describe_sparsified(
                    layer, is_applied ? linear->compensation()->transform : layer.values.transform);
    }
  }
  return list;
}

nlohmann::ordered_json describe_mini(const InfoOptions& options,
                                     const std::filesystem::path& folder,
                                     const std::optional<ModelCompensation>& compensation) {
  Pipeline pipeline = options.model.load();
  if (compensation) {
    apply_compensation(*pipeline.transformer, *compensation, options.compensation);
    fold_transforms(*pipeline.transformer, pipeline.transformer->groups());
  }
  const FluxConfig& config = pipeline.transformer->config();
  nlohmann::ordered_json model = {{"folder", path_text(folder)},
                                  {"parameters", pipeline.parameter_count()},
                                  {"hidden_size", config.hidden_dim()},
                                  {"double_blocks", config.num_layers},
                                  {"single_blocks", config.num_single_layers},
                                  {"trained_size", pipeline.trained_size}};
  const LayerList list = list_layers(*pipeline.transformer, pipeline.transformer->groups(),
                                     compensation, /*is_applied=*/true);
  list.add_to(model);
  if (options.layers) model["layers"] = list.layers;
  if (options.vocabulary) model["vocabulary"] = pipeline.text_encoder->vocabulary().words();
  return model;
}

/// Of FLUX.1, Qwen-Image and Z-Image the configuration is read, and no weights.
nlohmann::ordered_json describe_transformer(const InfoOptions& options,
                                            const std::filesystem::path& folder,
                                            const std::optional<ModelCompensation>& compensation) {
  if (options.vocabulary) {
    throw UsageError("--vocabulary: required lynx-mini, which has one, got " +
                     printable(folder.string()));
  }
  const auto transformer =
      open_blockwise(folder / "transformer", torch::TensorOptions(torch::kMeta));
  std::int64_t parameters = 0;
  for (const torch::Tensor& parameter : transformer->module().parameters()) {
    parameters += parameter.numel();
  }
  nlohmann::ordered_json model = {{"folder", path_text(folder)},
                                  {"transformer", transformer->class_name()},
                                  {"parameters", parameters},
                                  {"hidden_size", transformer->groups().front().channels},
                                  {"blocks", transformer->blocks().size()}};
  const LayerList list = list_layers(transformer->module(), transformer->groups(), compensation,
                                     /*is_applied=*/false);
  const auto known = static_cast<std::size_t>(list.sparse_layers);
  if (compensation && compensation->layers.size() != known) {
    fail(options.compensation, "layers of " + transformer->class_name(),
         fmt::format("{} that it does not have", compensation->layers.size() - known));
  }
  list.add_to(model);
  if (options.layers) model["layers"] = list.layers;
  return model;
}

nlohmann::ordered_json describe_model(const InfoOptions& options,
                                      const std::optional<ModelCompensation>& compensation) {
  const auto folder = options.model.model_folder();
  return holds_text_to_image_model(folder) ? describe_transformer(options, folder, compensation)
                                           : describe_mini(options, folder, compensation);
}

void print_section(const std::string& title, const nlohmann::ordered_json& section) {
  terminal::print("{}\n", title);
  for (const auto& [key, value] : section.items()) {
    if (key == "layers") {
      for (const auto& layer : value) {
        const std::string does = layer.value("compensation", std::string());
        const bool fixed = layer.value("kind", std::string()) == "fixed choice";
        const char* pattern = fixed ? "fixed" : layer["sparse"].get<bool>() ? "2:4" : "dense";
        terminal::print("  {:6} {:5} -> {:5}  {}{}{}\n", pattern, layer["in"].get<int>(),
                        layer["out"].get<int>(), layer["name"].get<std::string>(),
                        does.empty() ? "" : "  ", does);
      }
    } else {
      terminal::print("  {:24} {}\n", key,
                      value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

void print_costs(const nlohmann::ordered_json& costs) {
  terminal::print("    {:<40}{:>15}{:>10}{:>10}\n", "", "multiplications", "us", "of dense");
  for (const auto& cost : costs) {
    const auto number = [&](const char* key, int decimals) {
      return cost[key].is_null() ? std::string("-")
                                 : fmt::format("{:.{}f}", cost[key].get<double>(), decimals);
    };
    terminal::print("    {:<40}{:>15}{:>10}{:>10}  {}\n", cost["method"].get<std::string>(),
                    number("relative_flops", 3), number("us", 1), number("relative_us", 2),
                    cost["source"].get<std::string>());
  }
}

void print_products(const nlohmann::ordered_json& products) {
  terminal::print("products\n");
  for (const auto& product : products) {
    terminal::print("  {} x {} x {}, rank {}, {}  {}\n", product["tokens"].get<std::int64_t>(),
                    product["outputs"].get<std::int64_t>(), product["channels"].get<std::int64_t>(),
                    product["rank"].get<int>(), product["dtype"].get<std::string>(),
                    product["reason"].get<std::string>());
    if (product.contains("costs")) print_costs(product["costs"]);
  }
}

void info_products(const InfoOptions& options) {
  const nlohmann::ordered_json report = options.products.describe();
  if (options.json) {
    print_report(report, "info");
    return;
  }
  print_section("gpu", report["gpu"]);
  print_products(report["products"]);
}

void info(const InfoOptions& options) {
  if (!options.products.shapes.empty()) return info_products(options);
  if (options.model.threads > 0) torch::set_num_threads(options.model.threads);
  // The build is shown even where the model cannot be read: that is when one asks.
  const nlohmann::ordered_json build = describe_build();
  if (!options.json) print_section("build", build);
  std::optional<ModelCompensation> compensation;
  if (!options.compensation.empty()) compensation = read_compensation(options.compensation);
  const nlohmann::ordered_json model = describe_model(options, compensation);
  nlohmann::ordered_json report = {{"build", build}, {"model", model}};
  if (compensation) {
    report["compensation"] = describe_compensation(options.compensation, *compensation);
  }
  if (!options.json) {
    print_section("model", model);
    if (compensation) print_section("compensation", report["compensation"]);
    return;
  }
  print_report(report, "info");
}

}  // namespace

void add_info(CLI::App& app) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command =
      app.add_subcommand("info", "Show the build, the default device and the model");
  command->add_flag("--layers", options->layers, "List every Linear layer and what it does");
  command->add_option("--compensation", options->compensation,
                      "A file of rtlynx calibrate: what it is, and with --layers what it does");
  command->add_flag("--vocabulary", options->vocabulary, "List the words that prompts may use");
  command->add_flag("--json", options->json, "Print JSON");
  options->model.add_to(*command);
  // Nothing that is shown of a model depends on its arithmetic: here the option is the products'.
  command->remove_option(command->get_option("--dtype"));
  options->products.add_to(*command);
  command->footer(
      "Example:\n  rtlynx info --layers\n  rtlynx info --layers --compensation best.safetensors\n"
      "  rtlynx info --shape 4608,12288,3072 --rank 64 --costs");
  command->callback([options] { info(*options); });
}

}  // namespace rtlynx::cli
