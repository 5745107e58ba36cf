// SPDX-License-Identifier: BSD-3-Clause
// bash completion, the manual page and docs/cli.md, all made from the description of the verbs.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/format.h>

#include "app.h"
#include "version.h"

namespace torchkeep::cli {
namespace {

std::vector<CLI::App*> verbs(CLI::App& app) {
  return app.get_subcommands([](CLI::App*) { return true; });
}

// "-q", "--quiet"; nothing for an argument.
std::vector<std::string> spellings(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

// All options of a verb: "-q --quiet --json ...".
std::string option_words(CLI::App& verb) {
  std::string words;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : spellings(*option)) words += (words.empty() ? "" : " ") + name;
  }
  return words;
}

// "auto always never" for an option whose type is "{auto,always,never}".
std::string choice_words(const CLI::Option& option) {
  std::string words = option.get_type_name();
  if (!words.starts_with('{')) return {};
  words = words.substr(1, words.size() - 2);
  std::replace(words.begin(), words.end(), ',', ' ');
  return words;
}

// For roff: hyphens are no dashes, and a line must not begin with a dot.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    if (c == '\n') continue;
  }
  return out.starts_with('.') || out.starts_with('\'') ? "\\&" + out : out;
}

std::string synopsis(CLI::App& verb) {
  std::string text = fmt::format(".B torchkeep {}\n.RI [ options ]", verb.get_name());
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->get_positional()) continue;
    const std::string name = option->get_name() + (option->get_items_expected_max() > 1 ? "..." : "");
    text += option->get_required() ? fmt::format("\n.I {}", name) : fmt::format("\n.RI [ {} ]", name);
  }
  return text + "\n";
}

std::string describe(const CLI::Option& option) {
  std::string names;
  for (const std::string& name : option.get_snames()) names += fmt::format("{}-{}", names.empty() ? "" : ", ", name);
  for (const std::string& name : option.get_lnames()) names += fmt::format("{}--{}", names.empty() ? "" : ", ", name);
  const std::string head = option.get_positional() ? fmt::format(".I {}", option.get_name())
                           : option.get_type_name().empty()
                               ? fmt::format(".B {}", roff(names))
                               : fmt::format(".BI \"{} \" {}", roff(names), option.get_type_name());
  return fmt::format(".TP\n{}\n{}\n", head, roff(option.get_description()));
}

constexpr std::string_view kBashScript = R"bash(# bash completion for torchkeep: source <(torchkeep completion bash)
_torchkeep() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
  local options= choices= arguments=() i IFS=$' \t\n'
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "@VERBS@ --help --version" -- "$word"))
    return
  fi
  case $verb in
@OPTIONS@  esac
  case "$verb $previous" in
@CHOICES@  esac
  if [ -n "$choices" ]; then
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
    return
  fi
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
    return
  fi
  for ((i = 2; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == -* ]] || arguments+=("${COMP_WORDS[i]}")
  done
  if [ ${#arguments[@]} -eq 1 ]; then
    IFS=$'\n'
    case $verb in
      show | extract)  # the path of a part
        COMPREPLY=($(compgen -W "$(torchkeep ls --names -- "${arguments[0]}" 2>/dev/null)" -- "$word"))
        return ;;
      path) COMPREPLY=($(compgen -W "last
best
$(torchkeep ls --names -- "${arguments[0]}" 2>/dev/null | sed -n 's/.*step-0*\([0-9][0-9]*\).pt$/\1/p')" -- "$word"))
        return ;;
    esac
  fi
  case $verb in
    completion) COMPREPLY=($(compgen -W "bash man markdown" -- "$word")) ;;
    *) compopt -o filenames 2>/dev/null
      IFS=$'\n'
      COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}
complete -F _torchkeep torchkeep
)bash";

void replace(std::string& text, std::string_view mark, const std::string& by) {
  text.replace(text.find(mark), mark.size(), by);
}

}  // namespace

std::string bash_completion(CLI::App& app) {
  std::string names, options, choices;
  for (CLI::App* verb : verbs(app)) {
    names += (names.empty() ? "" : " ") + verb->get_name();
    options += fmt::format("    {}) options=\"{}\" ;;\n", verb->get_name(), option_words(*verb));
    for (const CLI::Option* option : verb->get_options()) {
      const std::string words = choice_words(*option);
      if (words.empty()) continue;
      std::string patterns;
      for (const std::string& name : spellings(*option))
        patterns += fmt::format("{}\"{} {}\"", patterns.empty() ? "" : " | ", verb->get_name(), name);
      choices += fmt::format("    {}) choices=\"{}\" ;;\n", patterns, words);
    }
  }
  std::string script(kBashScript);
  replace(script, "@VERBS@", names), replace(script, "@OPTIONS@", options), replace(script, "@CHOICES@", choices);
  return script;
}

std::string man_page(CLI::App& app) {
  std::string text =
      fmt::format(".TH TORCHKEEP 1 \"\" \"{}\" \"User Commands\"\n.SH NAME\ntorchkeep \\- {}\n.SH SYNOPSIS\n", kVersion,
                  roff("look into, check, compare, convert and tidy PyTorch checkpoints"));
  for (CLI::App* verb : verbs(app)) text += (verb == verbs(app).front() ? "" : ".br\n") + synopsis(*verb);
  text += fmt::format(".SH DESCRIPTION\n{}\n", roff(app.get_description()));
  for (CLI::App* verb : verbs(app)) {
    text += fmt::format(".SH \"torchkeep {}\"\n{}.\n", verb->get_name(), roff(verb->get_description()));
    for (const CLI::Option* option : verb->get_options()) text += describe(*option);
    text += fmt::format(".PP\n.nf\n{}\n.fi\n", roff(verb->get_footer()));
  }
  text +=
      ".SH \"EXIT STATUS\"\n.TP\n.B 0\nGood.\n.TP\n.B 1\nA difference or damage was found.\n.TP\n.B 2\nWrong usage.\n"
      ".TP\n.B 3\nA file cannot be read or written.\n.SH ENVIRONMENT\n.TP\n.B NO_COLOR\nWhen set, nothing is "
      "coloured.\n";
  return text;
}

std::string markdown(CLI::App& app) {
  std::string text = fmt::format(
      "# The command `torchkeep`\n\n<!-- Made by `torchkeep completion markdown`; a test compares. -->\n\n"
      "One program without PyTorch in it. It never runs code from a file. [cli-json.md](cli-json.md) describes what\n"
      "`--json` writes.\n\n```\n{}```\n",
      app.get_formatter()->make_help(&app, app.get_name(), CLI::AppFormatMode::Normal));  // help() is the verb's
  for (CLI::App* verb : verbs(app)) {
    text += fmt::format("\n## torchkeep {}\n\n```\n{}```\n", verb->get_name(), verb->help(app.get_name()));
  }
  return text;
}

}  // namespace torchkeep::cli
