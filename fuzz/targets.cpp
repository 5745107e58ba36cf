// SPDX-License-Identifier: BSD-3-Clause
// The targets, and the promises that they hold the readers to.
#include "targets.h"

#include <cstdio>
#include <cstdlib>

#include <torchkeep/format/check.h>
#include <torchkeep/format/dcp.h>
#include <torchkeep/format/open_file.h>
#include <torchkeep/format/safetensors.h>
#include <torchkeep/state/hash.h>

#include "legacy/stream.h"
#include "pickle/pickle.h"
#include "promises.h"
#include "support/broken_files.h"
#include "support/dcp_folder.h"
#include "support/pt_files.h"
#include "support/rank_folder.h"
#include "tar/tar.h"
#include "zip/zip.h"

namespace torchkeep::fuzz {

void broken(const char* promise) {
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

Limits small_limits() {
  Limits limits;
  limits.max_free_bytes = std::uint64_t{4} << 20;
  limits.max_expanded_bytes = 65536;
  return limits;
}

namespace {

PtReadOptions options(UnknownClasses unknown = UnknownClasses::inspect) {
  PtReadOptions options;
  options.unknown_classes = unknown;
  options.limits = small_limits();
  return options;
}

// Visits everything in the value, elements of tensors included.
void look_at(const Value& value) {
  hash(value, {.threads = 1});
}

// Runs `read`, which may throw Error and nothing else.
template <class Read>
std::optional<Value> attempt(Read read) {
  try {
    return read();
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::shared_ptr<const ReadAt> as_file(std::string_view bytes) {
  return testing::as_file(std::string(bytes));
}

// The bytes are the manifest.pt of a folder whose data files are honest.
void run_manifest(std::string_view bytes) {
  static const testing::RankFolder honest = testing::sample_rank_folder();
  testing::RankFolder changed = honest;
  changed.files.erase(".metadata");
  changed.files[std::string(kManifestName)] = bytes;
  const auto value = attempt([&] { return open_dcp(changed.folder(), options(UnknownClasses::opaque)).value.clone(); });
  if (value) look_at(*value);
  try {
    const FileCheck check = check_dcp(changed.folder(), {.limits = options().limits, .threads = 1});
    expect(value || !check.good(), "what is good can be read");
  } catch (const Error&) {
  }
}

// The bytes are the .metadata of a folder with two honest data files, or a manifest.
void run_dcp(std::string_view bytes) {
  if (bytes.starts_with("PK")) return run_manifest(bytes);
  static const testing::DcpFolder honest = testing::sample_dcp_folder();
  testing::DcpFolder changed = honest;
  changed.metadata = std::string(bytes);
  const Folder folder = changed.folder();
  const auto value = attempt([&] { return open_dcp(folder, options(UnknownClasses::opaque)).value.clone(); });
  if (value) look_at(*value);
  try {
    const FileCheck check = check_dcp(folder, {.limits = options().limits, .threads = 1});
    expect(!value || check.good(), "what can be read is good");
  } catch (const Error&) {
  }
}

void run_pickle(std::string_view bytes) {
  constexpr std::uint64_t kMaxStorage = 4096;
  const PtReadOptions limits = options();
  pickle::ReadContext context;
  context.limits = limits.limits;
  context.unknown_classes = UnknownClasses::inspect;
  context.load_storage = [](const pickle::StorageReference& reference) -> pickle::LoadedStorage {
    if (reference.nbytes > kMaxStorage) throw Error(Code::corrupt, "no such storage");
    return {std::make_shared<OwnedStorage>(as_bytes(std::string(reference.nbytes, '\1'))),
            reference.dtype.value_or(DType::uint8)};
  };
  const auto value = attempt([&] { return pickle::read(as_bytes(bytes), context); });
  if (!value) return;
  look_at(*value);
  const auto end = pickle::find_end(*as_file(bytes), 0, bytes.size(), bytes.size());
  try {
    pickle::read(as_bytes(bytes.substr(0, end)), context);
  } catch (const Error& error) {
    // Without the bytes behind it, it may take less memory.
    expect(error.code() == Code::refused, "a pickle ends where find_end() says");
  }
}

void run_zip(std::string_view bytes) {
  try {
    const zip::Reader zip(as_file(bytes), options().limits);
    for (const zip::Record& record : zip.records()) {
      expect(zip.find(record.name) == &record, "a record is found by its name");
      expect(record.stored_size <= bytes.size(), "a record lies inside its file");
      attempt([&] {
        const std::string loose = zip.read(record, false, record.size);
        const std::string checked = zip.read(record, true, record.size);
        expect(loose == checked && checked.size() == record.size, "a record is the same whenever it is read");
        return Value();
      });
    }
  } catch (const Error&) {
  }
}

void run_stream(std::string_view bytes) {
  if (const auto value = attempt([&] { return read_all(legacy::read_stream(as_file(bytes), options(), 0)); }))
    look_at(*value);
}

void run_tar(std::string_view bytes) {
  if (const auto value = attempt([&] { return read_all(tar::read(as_file(bytes), options(), 0)); })) look_at(*value);
}

void run_safetensors(std::string_view bytes) {
  const auto value = attempt([&] {
    const SafetensorsFile file = open_safetensors(as_file(bytes));
    return Value{{"tensors", file.tensors.clone()}};
  });
  if (!value) return;
  look_at(*value);
  const Value tensors = (*value)["tensors"];
  const std::string written = testing::assemble(plan_safetensors(tensors).plan);
  const Value again = open_safetensors(as_file(written)).tensors.clone();
  expect(again.size() == tensors.size(), "safetensors: as many tensors after writing as before");
  for (const Entry& entry : tensors.items()) {
    expect(again[entry.key.as_string()] == entry.value, "safetensors: each tensor is the same after writing");
  }
}

// The strictest reader calls nothing good that another one takes for damaged.
void check_strictness(std::string_view bytes) {
  const PtReadOptions loading = options(UnknownClasses::opaque);
  try {
    CheckOptions checking;
    checking.limits = loading.limits;
    checking.threads = 1;
    if (!check_file(as_file(bytes), checking).good()) return;
  } catch (const Error&) {
    return;
  }
  try {
    testing::read_whole(std::string(bytes), loading);
  } catch (const Error& error) {
    expect(error.code() == Code::refused || error.code() == Code::unsupported, "what verify calls good is not damaged");
  }
}

void run_load(std::string_view bytes) {
  check_strictness(bytes);
  const auto seen = attempt([&] { return testing::read_whole(std::string(bytes), options()); });
  if (seen) look_at(*seen);
  const auto strict = attempt([&] { return testing::read_whole(std::string(bytes), options(UnknownClasses::refuse)); });
  expect(!strict || seen, "what is read without unknown classes is read with them too");
  expect(!strict || *strict == *seen, "a file without unknown classes is the same however they are taken");
}

void run_round_trip(std::string_view bytes) {
  const auto value = attempt([&] { return testing::read_whole(std::string(bytes), options()); });
  if (!value) return;
  std::string written;
  try {
    written = testing::pt_bytes(*value);
  } catch (const Error& error) {
    expect(error.code() == Code::unsupported, "what cannot be written is unsupported");
    return;
  }
  const Value again = testing::read_whole(written);
  expect(again == *value, "what was read and written is read again as the same");
  expect(testing::pt_bytes(again) == written, "the same value is written as the same bytes");
}

}  // namespace

const std::vector<Target>& targets() {
  static const std::vector<Target> all = {{"dcp", run_dcp},
                                          {"pickle", run_pickle},
                                          {"zip", run_zip},
                                          {"stream", run_stream},
                                          {"tar", run_tar},
                                          {"safetensors", run_safetensors},
                                          {"load", run_load},
                                          {"round_trip", run_round_trip},
                                          {"load_into", run_load_into},
                                          {"compounds", run_compounds},
                                          {"run_directory", run_run_directory},
                                          {"plot", run_plot}};
  return all;
}

const Target& find_target(std::string_view name) {
  for (const Target& target : targets()) {
    if (name == target.name) return target;
  }
  broken("there is a target of this name");
}

}  // namespace torchkeep::fuzz
