// SPDX-License-Identifier: BSD-3-Clause
// Signals ask a run to stop, and leave everything else as it was.
#include <csignal>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <torchkeep/torch.h>

#include "support/memory_fs.h"

namespace torchkeep {
namespace {

using testing::MemoryFs;

constexpr int kAll[] = {SIGTERM, SIGINT, SIGUSR1};

/// A run over one number.
struct SmallRun {
  std::int64_t number = 0;
  std::string stop_message;
  Run run;

  explicit SmallRun(Fs& fs, RunOptions options = {}, const std::string& directory = "/run")
      : run(Run::open(directory, with(fs, options))) {
    run.track("number", number);
    run.resume();
  }
  void step() { run.finish_step(run.last_step() + 1); }

 private:
  RunOptions with(Fs& fs, RunOptions options) {
    options.fs = &fs;
    options.on_event = [this](const Event& event) {
      if (event.kind == Event::Kind::stop_requested) stop_message = event.message;
    };
    return options;
  }
};

/// The status (as waitpid gives it) of a child process that runs `work`.
int in_a_child(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

bool died_of(int status, int signal) {
  return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

TEST(RunSignals, EachMakesTheNextStepSaveAndStop) {
  for (const int signal : kAll) {
    MemoryFs fs;
    SmallRun small(fs, {.save_every = 100});
    small.step();
    ::raise(signal);
    EXPECT_FALSE(small.run.stopping());
    small.step();
    EXPECT_TRUE(small.run.stopping());
    EXPECT_EQ(find_checkpoint("/run", "last", {}, fs), "/run/step-00000002.pt");
    EXPECT_NE(small.stop_message.find("on SIG"), std::string::npos) << small.stop_message;
    small.run.finish();
    EXPECT_EQ(small.run.exit_code(), kExitAgain);
  }
}

int calls = 0;
void count_plain(int) {
  ++calls;
}
void count_info(int signal, siginfo_t* info, void*) {
  if (info->si_signo == signal) calls += 10;
}

TEST(RunSignals, EarlierHandlersStillRunAndComeBack) {
  for (const bool with_info : {false, true}) {
    struct sigaction earlier {
    }, saved{};
    if (with_info) {
      earlier.sa_flags = SA_SIGINFO;
      earlier.sa_sigaction = count_info;
    } else {
      earlier.sa_handler = count_plain;
    }
    ::sigaction(SIGTERM, &earlier, &saved);
    calls = 0;
    {
      MemoryFs fs;
      SmallRun small(fs);
      ::raise(SIGTERM);
      EXPECT_EQ(calls, with_info ? 10 : 1);
      small.step();
      EXPECT_TRUE(small.run.stopping());
    }
    struct sigaction now {};
    ::sigaction(SIGTERM, &saved, &now);
    EXPECT_TRUE(with_info ? now.sa_sigaction == count_info : now.sa_handler == count_plain);
  }
}

TEST(RunSignals, AHandlerInstalledLaterIsLeftAlone) {
  struct sigaction before {};
  ::sigaction(SIGUSR1, nullptr, &before);
  {
    MemoryFs fs;
    SmallRun small(fs);
    ::signal(SIGUSR1, count_plain);
  }
  struct sigaction now {};
  ::sigaction(SIGUSR1, &before, &now);
  EXPECT_EQ(now.sa_handler, count_plain);
}

struct sigaction chained {};
void count_and_chain(int signal, siginfo_t* info, void* context) {
  ++calls;
  chained.sa_sigaction(signal, info, context);
}
void install_chain() {
  struct sigaction chain {};
  chain.sa_flags = SA_SIGINFO;
  chain.sa_sigaction = count_and_chain;
  ::sigaction(SIGTERM, &chain, &chained);
}

TEST(RunSignals, AHandlerThatCallsTheOneBeforeItOutlivesARunWithoutACircle) {
  const int status = in_a_child([] {
    MemoryFs fs;
    {
      SmallRun first(fs, {}, "/first");
      install_chain();
    }
    SmallRun second(fs, {}, "/second");
    calls = 0;
    ::raise(SIGTERM);
    second.step();
    ::_exit(second.run.stopping() && calls == 1 ? 0 : 1);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(died_of(in_a_child([] {
                        MemoryFs fs;
                        {
                          SmallRun run(fs);
                          install_chain();
                        }
                        ::raise(SIGTERM);
                      }),
                      SIGTERM));
}

TEST(RunSignals, EachHandlerOfAChainAroundSeveralRunsIsCalledOnce) {
  const int status = in_a_child([] {
    MemoryFs fs;
    ::signal(SIGTERM, count_plain);
    {
      SmallRun first(fs, {}, "/first");
      install_chain();
    }
    {
      SmallRun second(fs, {}, "/second");
      calls = 0;
      ::raise(SIGTERM);
      second.step();
      if (!second.run.stopping() || calls != 2) ::_exit(1);
    }
    ::raise(SIGTERM);  // no run is open: the two handlers of the program
    ::_exit(calls == 4 ? 0 : 2);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(RunSignals, TheLiveRunStopsAndNoHandlerStaysInWhateverOrderRunsAreClosed) {
  struct sigaction before {
  }, after{};
  ::sigaction(SIGTERM, nullptr, &before);
  MemoryFs fs;
  auto first = std::make_unique<SmallRun>(fs, RunOptions{}, "/first");
  auto second = std::make_unique<SmallRun>(fs, RunOptions{}, "/second");
  first.reset();
  ::raise(SIGTERM);
  second->step();
  EXPECT_TRUE(second->run.stopping());
  second.reset();
  ::sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST(RunSignals, ARunOfAForkedChildHasItsOwn) {
  MemoryFs fs;
  SmallRun parents(fs, {}, "/parents");
  const int status = in_a_child([&] {
    SmallRun own(fs, {}, "/own");
    ::raise(SIGTERM);
    own.step();
    ::_exit(own.run.stopping() ? 0 : 1);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(RunSignals, AnIgnoredSignalStaysIgnored) {
  const auto before = ::signal(SIGINT, SIG_IGN);
  {
    MemoryFs fs;
    SmallRun small(fs);
    ::raise(SIGINT);
    small.step();
    EXPECT_FALSE(small.run.stopping());
  }
  EXPECT_EQ(::signal(SIGINT, before), SIG_IGN);
}

TEST(RunSignals, ASecondInterruptEndsTheProcessAtOnce) {
  EXPECT_TRUE(died_of(in_a_child([] {
                        MemoryFs fs;
                        SmallRun small(fs);
                        ::raise(SIGINT);
                        ::raise(SIGINT);
                      }),
                      SIGINT));
  const int twice_term = in_a_child([] {
    MemoryFs fs;
    SmallRun small(fs);
    ::raise(SIGTERM);
    ::raise(SIGTERM);
    ::raise(SIGINT);
  });
  EXPECT_TRUE(WIFEXITED(twice_term));
}

TEST(RunSignals, AForkedChildDiesOfThemAsBefore) {
  MemoryFs fs;
  SmallRun small(fs);
  for (const int signal : kAll) {
    EXPECT_TRUE(died_of(in_a_child([signal] { ::raise(signal); }), signal)) << signal;
  }
  small.step();
  EXPECT_FALSE(small.run.stopping());
}

TEST(RunSignals, AreNotTouchedWhenTheOptionSaysSo) {
  struct sigaction before {
  }, during{};
  ::sigaction(SIGTERM, nullptr, &before);
  MemoryFs fs;
  SmallRun small(fs, {.signals = false});
  ::sigaction(SIGTERM, nullptr, &during);
  EXPECT_EQ(before.sa_handler, during.sa_handler);
}

TEST(RunSignals, OneThatCameBeforeTheRunDoesNotStopIt) {
  MemoryFs fs;
  SmallRun first(fs, {}, "/first");
  ::raise(SIGTERM);
  SmallRun second(fs, {}, "/second");
  first.step();
  second.step();
  EXPECT_TRUE(first.run.stopping());
  EXPECT_FALSE(second.run.stopping());
}

}  // namespace
}  // namespace torchkeep
