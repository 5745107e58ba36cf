// SPDX-License-Identifier: BSD-3-Clause
// The program: parse, run, and turn what went wrong into one line and an exit status.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <new>

#include <torchkeep/base/error.h>

#include "app.h"

namespace torchkeep::cli {
namespace {

int status_of(const Error& error) {
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
    complain(std::string(error.what()) + "; see torchkeep --help");
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
  std::signal(SIGPIPE, SIG_IGN);  // writing says so itself (OutputClosed), and no file is left half-written
  try {
    return run(argc, argv);
  } catch (const OutputClosed&) {
    return kGood;
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
