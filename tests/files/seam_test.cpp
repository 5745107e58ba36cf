// SPDX-License-Identifier: BSD-3-Clause
// Only posix_fs.cpp changes files, and the layer below formats knows nothing of them: read from the sources.
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <string>
#include <vector>

namespace torchkeep {
namespace {

namespace stdfs = std::filesystem;

struct Line {
  std::string file;
  std::string text;
};

/// The lines of all C++ files below `folder` of the project.
std::vector<Line> lines_below(const std::string& folder) {
  std::vector<Line> lines;
  for (const auto& entry : stdfs::recursive_directory_iterator(stdfs::path(TORCHKEEP_SOURCE_DIR) / folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".cpp" && extension != ".h") continue;
    std::ifstream file(entry.path());
    for (std::string text; std::getline(file, text);) {
      lines.push_back({stdfs::relative(entry.path(), TORCHKEEP_SOURCE_DIR).string(), text});
    }
  }
  return lines;
}

const std::regex kChangesFiles(
    R"((^|[^\w.>])(::(rename|renameat2?|fsync|fdatasync|syncfs|unlink|unlinkat|remove|pwrite|mkdir|truncate|link)\s*\()"
    R"(|(std::)?(filesystem|fs)::(rename|remove|remove_all|create_directory|create_directories|copy_file|resize_file)\s*\()"
    R"(|(std::)?ofstream|(std::)?fopen\s*\())");

TEST(Seam, OnlyPosixFsChangesFiles) {
  for (const Line& line : lines_below("src")) {
    // posix_lock.cpp writes the note of the lock file through the locked descriptor; it renames and syncs nothing.
    if (line.file == "src/files/posix_fs.cpp" || line.file == "src/files/posix_lock.cpp") continue;
    EXPECT_FALSE(std::regex_search(line.text, kChangesFiles)) << line.file << ": " << line.text;
  }
}

TEST(Seam, TheLockRenamesAndSyncsNothing) {
  const std::regex forbidden(R"(::(rename|fsync|fdatasync|unlink)\s*\()");
  for (const Line& line : lines_below("src/files")) {
    if (line.file == "src/files/posix_fs.cpp") continue;
    EXPECT_FALSE(std::regex_search(line.text, forbidden)) << line.file << ": " << line.text;
  }
}

TEST(Seam, TheSearchFindsWhatItLooksFor) {
  for (const char* text : {"  ::rename(a, b);", "if (::fsync(fd) != 0)", "std::filesystem::remove(path);",
                           "std::ofstream out(path);", "FILE* f = fopen(name, mode);"}) {
    EXPECT_TRUE(std::regex_search(text, kChangesFiles)) << text;
  }
  for (const char* text : {"fs.rename(a, b);", "fs_.remove(path_);", "void PosixFs::rename(x)", "names.remove(x)"}) {
    EXPECT_FALSE(std::regex_search(text, kChangesFiles)) << text;
  }
}

TEST(Seam, FilesIncludeNoOtherLayerButBase) {
  const std::regex include(R"(#include <torchkeep/(\w+)[/.])");
  for (const Line& line : lines_below("src/files")) {
    std::smatch found;
    if (!std::regex_search(line.text, found, include)) continue;
    EXPECT_TRUE(found[1] == "base" || found[1] == "files") << line.file << ": " << line.text;
  }
}

}  // namespace
}  // namespace torchkeep
