// SPDX-License-Identifier: BSD-3-Clause
// The verbs of the program: what each is asked for, and the function that does it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/base/error.h>

#include "output.h"

namespace torchkeep::cli {

/// Exit statuses.
enum Exit : int {
  kGood = 0,
  kDifferent = 1,  ///< a difference or damage was found
  kUsage = 2,      ///< the command makes no sense: an unknown option, a key that is not there
  kFailed = 3,     ///< a file cannot be read or written
};

/// The exit status that an error means.
int status_of(const Error& error) noexcept;

/// What all verbs share.
struct Session {
  Output out;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  int failed = kGood;  ///< the worst exit status of what attempt() went on after

  bool progress() const noexcept { return !quiet && !json; }
  /// Does one part of the work and goes on after an error, which is told and remembered; the one part of all throws it.
  template <class Work>
  void attempt(bool is_all, Work&& work) {
    try {
      work();
    } catch (const Error& error) {
      if (is_all) throw;
      out.flush();
      complain(error.what());
      failed = std::max(failed, status_of(error));
    }
  }

  /// Keeps something until the process ends, which is quicker than to take 100,000 tensors apart one by one.
  template <class T>
  const T& keep(T value) {
    auto kept = std::make_shared<const T>(std::move(value));
    kept_.push_back(kept);
    return *kept;
  }

 private:
  std::vector<std::shared_ptr<const void>> kept_;
};

struct LsOptions {
  std::vector<std::string> paths;
  std::string sort = "none";  ///< none, path, size, type
  bool reverse = false;
  std::vector<std::string> filters;  ///< globs on paths; any
  std::size_t depth = std::numeric_limits<std::size_t>::max();
  bool tensors_only = false;
  bool values_only = false;
  bool names = false;  ///< only paths, one a line
  bool wide = false;   ///< strides, storage, flags too
  bool inspect = false;
};
int run_ls(Session& session, const LsOptions& options);

struct ShowOptions {
  std::string path;
  std::string key;
  std::size_t depth = std::numeric_limits<std::size_t>::max();
  std::string hash;  ///< empty or "sha256"
  bool statistics = false;
  unsigned bins = 24;
  std::size_t numbers = 0;  ///< of a tensor to print; 0: a few of each end
  bool inspect = false;
};
int run_show(Session& session, const ShowOptions& options);

struct VerifyOptions {
  std::vector<std::string> paths;
  std::string repair;  ///< where to write what survived
  bool force = false;
  unsigned threads = 0;
};
int run_verify(Session& session, const VerifyOptions& options);

struct DiffCommand {
  std::string a;
  std::string b;
  bool content_only = false;
  bool with_provenance = false;
  std::vector<std::string> ignore;  ///< globs on paths
  std::size_t limit = 20;           ///< places shown per section; 0: all
  unsigned threads = 0;
};
int run_diff(Session& session, const DiffCommand& options);

struct ConvertOptions {
  std::string input;
  std::string output;
  std::string to;  ///< "pt", "safetensors", "folder" or empty: by the name of the output
  std::vector<std::string> only;
  std::string max_shard_size = "5GB";  ///< of a folder of safetensors files
  std::string dtype;
  std::vector<std::string> strip_prefixes;
  std::vector<std::string> renamings;  ///< OLD=NEW
  std::vector<std::string> metadata;   ///< NAME=TEXT
  bool strict = false;
  bool drop_objects = false;
  bool flatten_modules = false;
  bool force = false;
};
int run_convert(Session& session, const ConvertOptions& options);

struct ExtractOptions {
  std::string path;
  std::string key;
  std::string output;
  bool raw_bits = false;
  bool force = false;
};
int run_extract(Session& session, const ExtractOptions& options);

struct PruneOptions {
  std::string directory;
  std::optional<std::int64_t> keep_last;
  std::optional<std::int64_t> keep_every;
  std::optional<std::int64_t> keep_best;
  std::string metric;
  bool maximize = false;
  bool dry_run = false;
  bool without_lock = false;
};
int run_prune(Session& session, const PruneOptions& options);

struct PinOptions {
  std::string directory;
  std::vector<std::string> checkpoints;  ///< last, best, or steps
  bool dry_run = false;
};
int run_pin(Session& session, const PinOptions& options);
int run_unpin(Session& session, const PinOptions& options);

struct RmOptions {
  std::string directory;
  std::vector<std::string> checkpoints;  ///< last, best, or steps
  bool broken = false;                   ///< those that were set aside
  bool force = false;                    ///< the newest and pinned ones too
  bool dry_run = false;
  bool without_lock = false;
};
int run_rm(Session& session, const RmOptions& options);

struct PathOptions {
  std::string directory;
  std::string checkpoint = "last";
  std::string metric;
  bool maximize = false;
};
int run_path(Session& session, const PathOptions& options);

struct PlotOptions {
  std::string directory;
  std::string output;
  std::vector<std::string> metrics;
  bool force = false;
};
int run_plot(Session& session, const PlotOptions& options);

}  // namespace torchkeep::cli
