// SPDX-License-Identifier: BSD-3-Clause
// Every file of the catalogue is refused for its reason, or read when it is honest, within the memory that is promised.
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <malloc.h>
#include <new>
#include <set>
#include <sstream>

#include "support/broken_files.h"

// All memory of this program is counted: reading a file of n bytes may take max_free_bytes + n * max_expansion.
namespace {

std::size_t in_use = 0;
std::size_t peak = 0;

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  in_use += malloc_usable_size(memory);
  peak = std::max(peak, in_use);
  return memory;
}

void release(void* memory) noexcept {
  in_use -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) {
  return counted(std::malloc(size));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return ::operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto step = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(step, (size + step - 1) / step * step));
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  release(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  release(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  release(memory);
}

namespace torchkeep {
namespace {

using testing::broken_files;
using testing::BrokenFile;
using testing::read_whole;

// What became of the file: nothing when it was read.
std::optional<Error> outcome(const BrokenFile& file) {
  try {
    read_whole(file.bytes, file.options);
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

TEST(BrokenFiles, EachIsRefusedForItsReasonAndHonestOnesAreRead) {
  for (const BrokenFile& file : broken_files()) {
    SCOPED_TRACE(file.name);
    const auto error = outcome(file);
    if (!file.code) {
      EXPECT_FALSE(error) << error->what();
    } else if (!error) {
      ADD_FAILURE() << "was read";
    } else {
      EXPECT_EQ(to_string(error->code()), to_string(*file.code)) << error->what();
      EXPECT_NE(std::string_view(error->what()).find(file.message), std::string_view::npos) << error->what();
      EXPECT_NE(std::string_view(error->what()).find("test.pt"), std::string_view::npos) << error->what();
    }
  }
}

TEST(BrokenFiles, NoneTakesMoreMemoryThanPromised) {
  constexpr std::size_t kOverhead = std::size_t{1} << 20;
  for (const BrokenFile& file : broken_files()) {
    const Limits& limits = file.options.limits;
    const std::size_t before = in_use;
    peak = in_use;
    outcome(file);
    EXPECT_LE(peak - before, limits.max_free_bytes + file.bytes.size() * limits.max_expansion + kOverhead) << file.name;
  }
}

TEST(BrokenFiles, AreManyAndOfDifferentNames) {
  std::set<std::string> names;
  std::size_t broken = 0;
  for (const BrokenFile& file : broken_files()) {
    EXPECT_TRUE(names.insert(file.name).second) << file.name;
    broken += file.code.has_value();
    EXPECT_TRUE(!file.code || !file.message.empty()) << file.name;
  }
  EXPECT_GE(broken, 200u);
}

// The names of the catalogue that docs/threats.md speaks of, in backquotes.
std::set<std::string> names_in_page() {
  std::ifstream page(TORCHKEEP_SOURCE_DIR "/docs/threats.md");
  std::stringstream text;
  text << page.rdbuf();
  std::set<std::string> names;
  std::string part;
  for (bool quoted = false; std::getline(text, part, '`'); quoted = !quoted) {
    if (quoted) names.insert(part);
  }
  return names;
}

// As the page should have it.
std::string row_of(const BrokenFile& file) {
  constexpr std::string_view kFile = "test.pt: ";
  const auto error = outcome(file);
  std::string text = error ? error->what() : "";
  if (text.starts_with(kFile)) text.erase(0, kFile.size());
  return "| `" + file.name + "` | " + (error ? std::string(to_string(error->code())) : "read") + " | " + text + " |";
}

TEST(ThreatsPage, ListsEveryFileOfTheCatalogue) {
  const std::set<std::string> names = names_in_page();
  for (const BrokenFile& file : broken_files()) {
    EXPECT_TRUE(names.contains(file.name)) << "docs/threats.md lacks\n" << row_of(file);
  }
}

TEST(ThreatsPage, NamesNoFileThatTheCatalogueLacks) {
  std::set<std::string> known;
  std::set<std::string> parts;  // of the catalogue: "zip", "pickle"
  for (const BrokenFile& file : broken_files()) {
    known.insert(file.name);
    parts.insert(file.name.substr(0, file.name.find('.')));
  }
  for (const std::string& name : names_in_page()) {
    const std::size_t dot = name.find('.');
    const bool is_case = dot != std::string::npos && parts.contains(name.substr(0, dot)) &&
                         name.find_first_of(" /(*") == std::string::npos;
    EXPECT_TRUE(!is_case || known.contains(name)) << name;
  }
}

}  // namespace
}  // namespace torchkeep
