// SPDX-License-Identifier: BSD-3-Clause
// The program: parse, run, and turn what went wrong into one line and an exit status.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <fmt/format.h>
#include <limits>
#include <new>
#if defined(__GLIBC__)
#include <malloc.h>
#include <unistd.h>
#endif

#include <torchkeep/base/error.h>
#include <torchkeep/base/memory.h>

#include "app.h"
#include "target.h"

namespace torchkeep::cli {

int status_of(const Error& error) noexcept {
  switch (error.code()) {
    case Code::corrupt:
      return kDifferent;
    case Code::invalid_argument:
    case Code::mismatch:
      return kUsage;
    case Code::not_found:
      return error.system_error() != 0 ? kFailed : kUsage;
    default:
      return kFailed;
  }
}

namespace {

// A checkpoint of 100,000 tensors becomes a million small objects, and large pages cost a fraction of small ones to
// get. Whoever needs little does not come to them: the heap begins with small ones.
void prefer_huge_pages_for_objects() {
#if defined(__GLIBC__)
  constexpr int kReserved = 512 << 20;  // addresses; memory is taken as it is used
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TOP_PAD, kReserved);
  auto* const grown = static_cast<std::byte*>(std::malloc(kHugePage));
  if (grown != nullptr && static_cast<std::byte*>(::sbrk(0)) >= grown + kReserved) {
    prefer_huge_pages({grown + kHugePage, static_cast<std::size_t>(kReserved) - kHugePage});
  }
  std::free(grown);
  mallopt(M_TOP_PAD, 1 << 20);
#endif
}

int run(int argc, char** argv) {
  Session session;
  Command command;
  const std::unique_ptr<CLI::App> app = make_app(session, command);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      std::ostringstream text;
      app->exit(error, text, text);
      session.out.write(text.str());
      session.out.flush();
      return kGood;
    }
    const std::string first = argc > 1 ? argv[1] : "-";
    const bool is_verb = !app->get_subcommands([&](CLI::App* verb) { return verb->check_name(first); }).empty();
    complain((is_verb || first.starts_with('-') ? error.what() : fmt::format("there is no verb '{}'", first)) +
             "; see torchkeep --help");
    return kUsage;
  }
  const int status = command.run(session);
  session.out.flush();
  std::_Exit(status);  // rather than return: see Session::keep
}

}  // namespace
}  // namespace torchkeep::cli

int main(int argc, char** argv) {
  using namespace torchkeep::cli;
  prefer_huge_pages_for_objects();
  std::signal(SIGPIPE, SIG_IGN);  // writing says so itself (OutputClosed), and no file is left half-written
  try {
    return run(argc, argv);
  } catch (const OutputClosed&) {
    return kGood;
  } catch (const Interrupted& interrupted) {
    std::signal(interrupted.signal, SIG_DFL);
    std::raise(interrupted.signal);  // so that a shell sees why
  } catch (const torchkeep::Error& error) {
    complain(error.what());
    return status_of(error);
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return kFailed;
}
