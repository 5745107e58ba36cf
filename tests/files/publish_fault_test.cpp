// SPDX-License-Identifier: BSD-3-Clause
// Every call that publish() makes fails in turn, in every way: the old or the new file, complete, and no litter.
#include <cerrno>
#include <gtest/gtest.h>
#include <optional>
#include <string>

#include <torchkeep/files/publish.h>

#include "support/fault_fs.h"
#include "support/memory_fs.h"
#include "support/ring_fs.h"
#include "support/temp_dir.h"
#include "support/whole_file.h"

namespace torchkeep {
namespace {

using torchkeep::testing::create_file;
using torchkeep::testing::Fault;
using torchkeep::testing::FaultFs;
using torchkeep::testing::MemoryFs;
using torchkeep::testing::read_file;
using torchkeep::testing::TempDir;

const std::string kOld = "old";
const std::string kNew = "a new checkpoint";

/// The Error that publishing throws on `fs`; nothing when it succeeds.
std::optional<Error> publish_new(Fs& fs, const std::string& path, const PublishOptions& options) {
  const auto fill = [](File& file) {
    file.write_at(0, as_bytes(kNew).first(4));
    file.write_at(4, as_bytes(kNew).subspan(4));
  };
  try {
    publish(fs, path, fill, options);
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

/// Publishes over kOld in `folder` of `inner` with the fault and checks the promise. False: the fault was past the end.
bool survives(Fs& inner, const std::string& folder, const Fault& fault, const PublishOptions& options,
              bool through_ring = false) {
  const std::string path = folder + "/a.pt";
  create_file(inner, path, kOld);
  FaultFs fs(inner, fault);
  torchkeep::testing::RingFs ring(fs);
  const auto error = publish_new(through_ring ? static_cast<Fs&>(ring) : fs, path, options);
  const std::vector<std::string> calls = fs.calls();
  const std::string faulty = fs.happened() ? calls.at(fault.call - 1) : "none";
  SCOPED_TRACE("failing call: " + faulty + ", errno " + std::to_string(fault.error));

  const std::string found = read_file(inner, path);
  const bool renamed = found == kNew;
  EXPECT_TRUE(found == kOld || renamed) << found;
  if (!error) {
    EXPECT_TRUE(renamed);
  }
  if (error) {
    EXPECT_EQ(error->system_error(), fault.error) << error->what();
    EXPECT_EQ(error->where().file, path) << error->what();
    const bool in_place = std::string(error->what()).find("the new file is in place") != std::string::npos;
    EXPECT_EQ(in_place, faulty.starts_with("sync the folder")) << error->what();
  }
  // A create that did its work and then reported failure cannot be told from one that found another's file.
  const bool may_litter = fault.and_ever_after || (faulty.starts_with("create") && fault.when == Fault::When::after);
  for (const std::string& name : inner.list(folder)) {
    EXPECT_TRUE(name == "a.pt" || (may_litter && is_temporary_name(name))) << name;
    inner.remove(folder + "/" + name);
  }
  return fs.happened();
}

TEST(PublishFault, EveryCallFailingInEveryWayKeepsTheOldOrTheNewFile) {
  std::size_t cases = 0;
  for (const int error : {EIO, ENOSPC, EDQUOT, EMFILE, EINTR, EROFS}) {
    for (const auto when : {Fault::When::before, Fault::When::halfway, Fault::When::after}) {
      for (const bool ever_after : {false, true}) {
        for (const PublishOptions& options : {PublishOptions{true, {}}, {true, 16}, {false, {}}, {false, 16}}) {
          MemoryFs memory;
          memory.make_directory("/runs");
          Fault fault{.call = 1, .error = error, .and_ever_after = ever_after, .when = when};
          for (; survives(memory, "/runs", fault, options); ++fault.call) ++cases;
          EXPECT_GE(fault.call, options.durable ? 10U : 8U);
          fault.call = 1;
          for (; survives(memory, "/runs", fault, options, true); ++fault.call) ++cases;
          EXPECT_GE(fault.call, options.durable ? 10U : 8U);
        }
      }
    }
  }
  EXPECT_GT(cases, 1000U);
}

TEST(PublishFault, TheSameOnTheRealFileSystem) {
  const TempDir folder;
  for (const auto when : {Fault::When::before, Fault::When::halfway, Fault::When::after}) {
    Fault fault{.call = 1, .error = EIO, .when = when};
    for (; survives(posix_fs(), folder.path(), fault, {.size = 16}); ++fault.call) {
    }
    EXPECT_GE(fault.call, 10U);
  }
}

TEST(PublishFault, AFreeSpaceThatCannotBeReadIsNoReasonToFail) {
  MemoryFs memory({}, {.capacity = 1000, .reserves = false});
  FaultFs counting(memory, {});
  publish(counting, "/a.pt", as_bytes(kNew));
  std::size_t call = 0;
  while (!counting.calls().at(call).starts_with("read the free space")) ++call;
  FaultFs fs(memory, {.call = call + 1, .error = EIO, .when = Fault::When::before});
  publish(fs, "/a.pt", as_bytes(kOld));
  EXPECT_TRUE(fs.happened());
  EXPECT_EQ(read_file(memory, "/a.pt"), kOld);
}

}  // namespace
}  // namespace torchkeep
