// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint/single_file.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "layers/finite.h"
#include "models/tensor_bytes.h"

namespace rtlynx {
namespace {

constexpr std::string_view kModelPrefix = "model.diffusion_model.";
// Marks that ComfyUI adds, scales of inputs, which only an FP8 product would need, and a norm that
// Z-Image's files hold and its transformer does not have.
constexpr std::array<std::string_view, 5> kIgnoredEndings = {
    "scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant", "norm_final.weight"};
constexpr std::array<std::string_view, 2> kScaleEndings = {".scale_weight", ".weight_scale"};

/// Where a parameter is in the file: rows of a tensor, without the model's prefix.
struct Source {
  std::string module;
  std::string tensor;  ///< of the module: weight, bias, scale
  std::int64_t first_row = 0;
  bool whole = true;  ///< all rows of the tensor
  bool halves_swapped = false;
};

/// "a.b.weight" as "a.b" and "weight"; a parameter of the model itself has no module.
std::pair<std::string, std::string> split_last(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {"", name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

std::string join(const std::string& module, const std::string& tensor) {
  return module.empty() ? tensor : module + "." + tensor;
}

class SingleFile {
 public:
  SingleFile(const std::filesystem::path& path, const std::vector<ForeignModule>& foreign)
      : file_(SafetensorsModel::open(path)),
        path_(printable(path.string())),
        unused_(file_.names().begin(), file_.names().end()) {
    const bool prefixed = std::any_of(
        file_.names().begin(), file_.names().end(),
        [](const std::string& name) { return std::string_view(name).starts_with(kModelPrefix); });
    if (prefixed) prefix_ = kModelPrefix;
    for (const ForeignModule& module : foreign) {
      if (!file_.contains(prefix_ + module.name + "." + module.weight)) continue;
      for (std::size_t part = 0; part < module.parts.size(); ++part) {
        foreign_[module.parts[part]] = {&module, part};
      }
    }
  }

  /// Names, types and shapes of all that `model` needs, and that there is nothing else.
  void check(const torch::nn::Module& model) {
    const auto parameters = model.named_parameters();
    for (const auto& item : parameters) {
      check_parameter(item.value(), source_of(item.key(), parameters));
    }
    check_unused();
  }

  void fill(torch::nn::Module& model) {
    const torch::NoGradGuard no_grad;
    const auto parameters = model.named_parameters();
    for (const auto& item : parameters) {
      fill_parameter(item.value(), source_of(item.key(), parameters));
    }
  }

 private:
  using Parameters = torch::OrderedDict<std::string, torch::Tensor>;

  Source source_of(const std::string& name, const Parameters& parameters) const {
    const auto [module, tensor] = split_last(name);
    const auto found = foreign_.find(module);
    if (found == foreign_.end()) return {.module = module, .tensor = tensor};
    const auto [foreign, part] = found->second;
    Source source{.module = foreign->name,
                  .tensor = tensor == "weight" ? foreign->weight : tensor,
                  .whole = foreign->parts.size() == 1,
                  .halves_swapped = foreign->halves_swapped};
    for (std::size_t before = 0; before < part; ++before) {
      source.first_row += parameters[join(foreign->parts[before], tensor)].size(0);
    }
    return source;
  }

  void check_parameter(const torch::Tensor& parameter, const Source& source) {
    const std::string name = prefix_ + join(source.module, source.tensor);
    const std::string where = path_ + ", tensor " + name;
    if (!file_.contains(name)) {
      fail(where, "shape " + c10::str(parameter.sizes()), "no such tensor");
    }
    const TensorEntry& entry = file_.entry(name);
    const auto type = scalar_type_of(entry.dtype);
    if (!type || !torch::isFloatingType(*type)) {
      fail(where, "a floating-point type", std::string(dtype_name(entry.dtype)));
    }
    const torch::IntArrayRef shape = entry.shape;
    const std::int64_t rows = parameter.size(0);
    const bool holds = std::ssize(shape) == parameter.dim() &&
                       (source.whole ? shape[0] == rows : shape[0] >= source.first_row + rows) &&
                       shape.slice(1) == parameter.sizes().slice(1);
    if (!holds) {
      fail(where,
           "rows " + std::to_string(source.first_row) + " to " +
               std::to_string(source.first_row + rows) + " of shape " + c10::str(parameter.sizes()),
           c10::str(shape));
    }
    unused_.erase(name);
    if (const auto scale = scale_name(source)) {
      number(*scale);  // throws unless it is one
      unused_.erase(*scale);
    }
  }

  void fill_parameter(torch::Tensor parameter, const Source& source) const {
    const std::string name = prefix_ + join(source.module, source.tensor);
    std::string where = path_ + ", tensor " + name;
    torch::Tensor value = copy_to_tensor(file_.entry(name), where);
    value = value.narrow(0, source.first_row, parameter.size(0));
    if (const auto scale = scale_name(source)) value = value.to(torch::kFloat32) * number(*scale);
    value = value.to(parameter.options());
    if (!source.whole) where += " from row " + std::to_string(source.first_row) + " on";
    require_finite(value, where);  // as it will be used: a conversion may overflow
    if (source.halves_swapped) {
      const auto halves = value.chunk(2, 0);
      value = torch::cat({halves[1], halves[0]});
    }
    parameter.copy_(value);
  }

  /// Of the number beside an FP8 weight, if there is one.
  std::optional<std::string> scale_name(const Source& source) const {
    if (source.tensor != "weight") return std::nullopt;
    for (const std::string_view ending : kScaleEndings) {
      const std::string name = prefix_ + source.module + std::string(ending);
      if (file_.contains(name)) return name;
    }
    return std::nullopt;
  }

  double number(const std::string& name) const {
    const std::string where = path_ + ", tensor " + name;
    const torch::Tensor value = copy_to_tensor(file_.entry(name), where);
    require(value.numel() == 1, where, "one number", "several");
    const auto number = value.item<double>();
    require_finite(number, where);
    return number;
  }

  void check_unused() const {
    for (const std::string& name : unused_) {
      const std::string_view view = name;
      const bool of_another_model = !view.starts_with(prefix_);
      const bool ignored = std::any_of(kIgnoredEndings.begin(), kIgnoredEndings.end(),
                                       [&](std::string_view end) { return view.ends_with(end); });
      if (of_another_model || ignored) continue;
      fail(path_ + ", tensor " + printable(name), "only tensors of this transformer", "another");
    }
  }

  SafetensorsModel file_;
  std::string path_;
  std::string prefix_;
  std::set<std::string> unused_;
  std::map<std::string, std::pair<const ForeignModule*, std::size_t>> foreign_;  // by our module
};

}  // namespace

void load_single_file(torch::nn::Module& model, const std::filesystem::path& path,
                      const std::vector<ForeignModule>& foreign) {
  SingleFile file(path, foreign);
  file.check(model);
  file.fill(model);
}

void check_single_file(const torch::nn::Module& model, const std::filesystem::path& path,
                       const std::vector<ForeignModule>& foreign) {
  SingleFile(path, foreign).check(model);
}

}  // namespace rtlynx
