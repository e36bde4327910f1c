// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <span>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/file_kind.h"
#include "io/text.h"

namespace rtlynx {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxJsonFileBytes = std::size_t{64} << 20;

/// Reads characters and remembers how far the parser has come, for errors of our own.
struct TrackingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at;
  const char** furthest;

  reference operator*() const { return *at; }
  TrackingIterator& operator++() {
    *furthest = ++at;
    return *this;
  }
  bool operator==(const TrackingIterator& other) const { return at == other.at; }
};

std::string position(std::string_view what, std::string_view read) {
  const auto line = 1 + std::count(read.begin(), read.end(), '\n');
  const std::size_t line_start = read.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("{}, line {}, column {}", what, line, read.size() - line_start);
}

/// Builds the value as nlohmann's own parser does, except that it refuses where that one is silent:
/// a repeated key (the last would win) and unbounded depth.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  StrictBuilder(std::string_view text, std::string_view what, int max_depth)
      : text_(text), what_(what), max_depth_(static_cast<std::size_t>(max_depth)) {}

  json build() {
    const char* end = text_.data() + text_.size();
    furthest_ = text_.data();
    json::sax_parse(TrackingIterator{text_.data(), &furthest_}, TrackingIterator{end, &furthest_},
                    this);
    return std::move(root_);
  }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [slot, added] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    if (!added) fail(here(), "each key once in an object", in_quotes(name) + " again");
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t read, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: detail"
    std::string_view detail = error.what();
    for (const std::string_view skipped : {"] ", ": "}) {
      if (const auto at = detail.find(skipped); at != std::string_view::npos) {
        detail.remove_prefix(at + skipped.size());
      }
    }
    fail(position(what_, text_.substr(0, read)), "valid JSON", printable(detail));
  }

 private:
  std::string here() const {
    return position(what_, text_.substr(0, static_cast<std::size_t>(furthest_ - text_.data())));
  }

  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_array()) return &open_.back()->emplace_back(std::move(value));
    return &(*slot_ = std::move(value));
  }

  bool add(json value) {
    place(std::move(value));
    return true;
  }

  bool open(json value) {
    if (open_.size() == max_depth_) {
      fail(here(), fmt::format("at most {} nested levels", max_depth_), "one more");
    }
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string_view what_;
  std::size_t max_depth_;
  const char* furthest_ = nullptr;
  json root_;
  std::vector<json*> open_;  // arrays and objects not yet closed, outermost first
  json* slot_ = nullptr;     // where the value of the last key goes
};

/// How a value that find_value does not give arrived.
std::string_view absence(const json& object, std::string_view key) {
  return object.contains(key) ? "null" : "no such key";
}

std::string field_name(std::string_view where, std::string_view key) {
  return fmt::format("{}, key {}", where, in_quotes(key));
}

/// The value of `key`, or null when it is absent or null.
const json* find_value(const json& object, std::string_view key, std::string_view where) {
  if (!object.is_object()) fail(where, "a JSON object", printable_json(object));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

/// "an integer of at least 1": `kind` and those bounds that are not the widest.
template <typename Number>
std::string range_text(std::string_view kind, Number min, Number max) {
  const bool has_min = min != std::numeric_limits<Number>::lowest();
  const bool has_max = max != std::numeric_limits<Number>::max();
  if (has_min && has_max) return fmt::format("{} from {} to {}", kind, min, max);
  if (has_min) return fmt::format("{} of at least {}", kind, min);
  if (has_max) return fmt::format("{} of at most {}", kind, max);
  return std::string(kind);
}

std::int64_t checked_int(const json& value, const std::string& name, const JsonIntField& field) {
  const auto in_range = [&] {
    if (value.is_number_unsigned() && !std::in_range<std::int64_t>(value.get<std::uint64_t>())) {
      return false;
    }
    const auto number = value.get<std::int64_t>();
    return number >= field.min && number <= field.max;
  };
  if (!value.is_number_integer() || !in_range()) {
    fail(name, range_text("an integer", field.min, field.max), printable_json(value));
  }
  return value.get<std::int64_t>();
}

void check_finite(const nlohmann::ordered_json& value, std::string_view where,
                  const std::string& place) {
  if (value.is_structured()) {
    for (const auto& [key, item] : value.items()) check_finite(item, where, place + "/" + key);
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    fail(fmt::format("{}, {}", where, printable(place)), "a finite number",
         std::isnan(value.get<double>()) ? "NaN" : "infinity");
  }
}

}  // namespace

json parse_json(std::string_view text, std::string_view what, int max_depth) {
  // nlohmann takes a NUL for the end of the input and would ignore what follows.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    fail(position(what, text.substr(0, nul + 1)), "valid JSON", "a NUL byte");
  }
  return StrictBuilder(text, what, max_depth).build();
}

std::string printable_json(const json& value) {
  constexpr auto kReplace = json::error_handler_t::replace;
  return printable(value.dump(-1, ' ', /*ensure_ascii=*/false, kReplace));
}

json read_json_file(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMaxJsonFileBytes);
  const std::string what = printable(path.string());
  if (const auto foreign = describe_foreign_file(std::as_bytes(std::span(text)))) {
    fail(what, "JSON", *foreign);
  }
  return parse_json(text, what);
}

bool json_has(const json& object, std::string_view key) {
  return object.is_object() && object.contains(key) && !object.find(key)->is_null();
}

std::string report_text(const nlohmann::ordered_json& report, std::string_view where) {
  check_finite(report, where, "");
  return report.dump(2) + "\n";
}

nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

std::string json_complaint(const json::exception& error) {
  // "[json.exception.type_error.302] type must be number, but is null"
  std::string_view text = error.what();
  if (const auto end = text.find("] "); end != std::string_view::npos) text.remove_prefix(end + 2);
  return printable(text);
}

std::int64_t json_int(const json& object, std::string_view key, std::string_view where,
                      const JsonIntField& field) {
  const json* value = find_value(object, key, where);
  if (value != nullptr) return checked_int(*value, field_name(where, key), field);
  if (!field.fallback) fail(field_name(where, key), "an integer", absence(object, key));
  return *field.fallback;
}

double json_number(const json& object, std::string_view key, std::string_view where,
                   const JsonNumberField& field) {
  const json* value = find_value(object, key, where);
  if (value == nullptr) {
    if (!field.fallback) fail(field_name(where, key), "a number", absence(object, key));
    return *field.fallback;
  }
  const double number = value->is_number() ? value->get<double>() : 0.0;
  if (!value->is_number() || number < field.min || number > field.max) {
    fail(field_name(where, key), range_text("a number", field.min, field.max),
         printable_json(*value));
  }
  return number;
}

bool json_bool(const json& object, std::string_view key, std::string_view where,
               std::optional<bool> fallback) {
  const json* value = find_value(object, key, where);
  if (value == nullptr) {
    if (!fallback) fail(field_name(where, key), "true or false", absence(object, key));
    return *fallback;
  }
  if (!value->is_boolean()) fail(field_name(where, key), "true or false", printable_json(*value));
  return value->get<bool>();
}

std::string json_string(const json& object, std::string_view key, std::string_view where,
                        const std::optional<std::string>& fallback) {
  const json* value = find_value(object, key, where);
  if (value == nullptr) {
    if (!fallback) fail(field_name(where, key), "a string", absence(object, key));
    return *fallback;
  }
  if (!value->is_string()) fail(field_name(where, key), "a string", printable_json(*value));
  return value->get<std::string>();
}

std::vector<std::int64_t> json_ints(const json& object, std::string_view key,
                                    std::string_view where, const JsonIntField& field) {
  const std::string name = field_name(where, key);
  const json* value = find_value(object, key, where);
  if (value == nullptr) fail(name, "a list of integers", absence(object, key));
  if (!value->is_array()) fail(name, "a list of integers", printable_json(*value));
  std::vector<std::int64_t> numbers;
  numbers.reserve(value->size());
  for (const json& item : *value) numbers.push_back(checked_int(item, name, field));
  return numbers;
}

std::vector<std::string> json_strings(const json& object, std::string_view key,
                                      std::string_view where) {
  const std::string name = field_name(where, key);
  const json* value = find_value(object, key, where);
  if (value == nullptr) fail(name, "a list of strings", absence(object, key));
  if (!value->is_array()) fail(name, "a list of strings", printable_json(*value));
  std::vector<std::string> strings;
  strings.reserve(value->size());
  for (const json& item : *value) {
    if (!item.is_string()) fail(name, "a list of strings", printable_json(item));
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

}  // namespace rtlynx
