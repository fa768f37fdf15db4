// SPDX-License-Identifier: Apache-2.0
// The only source that sees the TOML library.
#include "tools/cli/config_file.h"

#include <fcntl.h>
#include <unistd.h>

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>

#include "blockmig/base/nearest_name.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

constexpr const char* kStateDir = "state-dir";
constexpr std::size_t kMaxFileBytes = 1024 * 1024;

using Texts = std::vector<std::string>;

class ConfigReader final {
 public:
  ConfigReader(std::string name, ConfiguredDaemon& daemon)
      : name_(std::move(name)), daemon_(daemon) {}

  Status read(const toml::table& table);

 private:
  Error at(const toml::node& node, const std::string& text) const {
    return Error(ErrorCode::kInvalid,
                 name_ + ":" + std::to_string(node.source().begin.line) + ": " + text);
  }
  Error unknown(const std::string& key, const toml::node& node) const;
  Status read_option(const ProcessOption& option, const toml::node& node);
  Status read_octal(std::string& place, const std::string& key, const toml::node& node);
  Status read_into(std::string& place, const std::string& key, const toml::node& node);
  Status read_into(Texts& place, const std::string& key, const toml::node& node);
  Status read_texts(Texts& texts, const std::string& key, const toml::node& node);
  Status read_into(bool& place, const std::string& key, const toml::node& node);
  Status append(Texts& texts, const std::string& key, const toml::node& node);

  const std::string name_;
  ConfiguredDaemon& daemon_;
};

/// Text, or a whole number as text.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  return std::nullopt;
}

Error ConfigReader::unknown(const std::string& key, const toml::node& node) const {
  Texts names = {kStateDir};
  for (const ProcessOption& option : process_options()) names.emplace_back(option.name);
  return at(node, "unknown key '" + key + "'" + did_you_mean(key, names));
}

Status ConfigReader::read(const toml::table& table) {
  for (const auto& [toml_key, node] : table) {
    const std::string key(toml_key.str());
    if (key == kStateDir) {
      const Status state_dir = read_into(daemon_.state_dir, key, node);
      if (!state_dir) return state_dir;
      continue;
    }
    const ProcessOption* found = nullptr;
    for (const ProcessOption& option : process_options()) {
      if (key == option.name) found = &option;
    }
    if (found == nullptr) return unknown(key, node);
    const Status option = read_option(*found, node);
    if (!option) return option;
  }
  return {};
}

Status ConfigReader::read_option(const ProcessOption& option, const toml::node& node) {
  if (option.octal) {
    return read_octal(daemon_.process.*std::get<std::string RawProcess::*>(option.place),
                      option.name, node);
  }
  return std::visit(
      [&](auto place) { return read_into(daemon_.process.*place, option.name, node); },
      option.place);
}

Status ConfigReader::read_into(std::string& place, const std::string& key, const toml::node& node) {
  const auto text = text_of(node);
  if (!text) return at(node, "'" + key + "' must be a text or a whole number");
  if (text->empty()) return at(node, "'" + key + "' is empty");
  if (place.empty()) place = *text;
  return {};
}

bool is_named(const std::string& key) {
  const auto options = process_options();
  return std::any_of(options.begin(), options.end(), [&key](const ProcessOption& option) {
    return key == option.name && std::string_view(option.type).starts_with("NAME=");
  });
}

std::string_view name_in(std::string_view text) { return text.substr(0, text.find('=')); }

/// A number that does not say that it is octal might be meant in either base.
Status ConfigReader::read_octal(std::string& place, const std::string& key,
                                const toml::node& node) {
  const auto* number = node.as_integer();
  if (number == nullptr) return read_into(place, key, node);
  if (number->flags() != toml::value_flags::format_as_octal) {
    return at(node, "'" + key + "' must be octal, as 0o660 or \"0660\"");
  }
  if (!place.empty()) return {};
  std::array<char, 32> digits{};
  constexpr int kBase = 8;
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), number->get(), kBase).ptr;
  place.assign(digits.data(), end);
  return {};
}

Status ConfigReader::read_into(bool& place, const std::string& key, const toml::node& node) {
  const auto* flag = node.as_boolean();
  if (flag == nullptr) return at(node, "'" + key + "' must be true or false");
  place = place || flag->get();
  return {};
}

/// Of NAME=VALUE both count, and of the same name what is given already; else that replaces all.
Status ConfigReader::read_into(Texts& place, const std::string& key, const toml::node& node) {
  Texts texts;
  const Status read = read_texts(texts, key, node);
  if (!read) return read;
  if (is_named(key)) {
    std::erase_if(texts, [&place](const std::string& text) {
      return std::any_of(place.begin(), place.end(), [&text](const std::string& given) {
        return name_in(given) == name_in(text);
      });
    });
    place.insert(place.begin(), texts.begin(), texts.end());
  } else if (place.empty()) {
    place = std::move(texts);
  }
  return {};
}

Status ConfigReader::read_texts(Texts& texts, const std::string& key, const toml::node& node) {
  if (const auto* table = node.as_table()) {
    // NAME = VALUE, as the option's NAME=VALUE.
    for (const auto& [name, value] : *table) {
      const auto text = text_of(value);
      if (!text) return at(value, "'" + key + "' must hold texts or whole numbers");
      texts.push_back(std::string(name.str()) + "=" + *text);
    }
  } else if (const auto* array = node.as_array()) {
    for (const toml::node& element : *array) {
      const Status appended = append(texts, key, element);
      if (!appended) return appended;
    }
  } else {
    const Status appended = append(texts, key, node);
    if (!appended) return appended;
  }
  // An empty list of who is allowed would let everybody in.
  if (texts.empty()) return at(node, "'" + key + "' is empty: leave it out");
  return {};
}

Status ConfigReader::append(Texts& texts, const std::string& key, const toml::node& node) {
  const auto text = text_of(node);
  if (!text) return at(node, "'" + key + "' must be a text, or a list of texts");
  if (text->empty()) return at(node, "'" + key + "' holds an empty text");
  texts.push_back(*text);
  return {};
}

}  // namespace

Status read_config_text(const std::string& text, const std::string& name,
                        ConfiguredDaemon& daemon) {
  const toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return Error(ErrorCode::kInvalid, name + ":" + std::to_string(error.source().begin.line) +
                                          ": " + std::string(error.description()));
  }
  return ConfigReader(name, daemon).read(parsed.table());
}

Status read_config_file(const std::string& path, ConfiguredDaemon& daemon) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Error::from_errno(errno, "cannot read '" + path + "'");
  std::string text(kMaxFileBytes + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "cannot read '" + path + "'");
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > kMaxFileBytes) {
    return Error(ErrorCode::kInvalid, "'" + path + "' is too large for a configuration");
  }
  text.resize(size);
  return read_config_text(text, path, daemon);
}

}  // namespace blockmig
