// SPDX-License-Identifier: BSD-3-Clause
// The C++ side of `make bench`: a process that holds a training state and does, one line of standard input after
// another, what it is told to: "OPERATION PATH". It answers with one line of JSON: seconds, and what else was asked
// for.
//
//   bench_worker SHAPES.json      {"params": [[768, 768], ...], "buffers": [...], "adam": true}
#include <atomic>
#include <chrono>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include <torch/torch.h>

#include <torchkeep/base/parallel.h>
#include <torchkeep/state/walk.h>
#include <torchkeep/torch.h>
#include <torchkeep/torchkeep.h>

#include "memory.h"

namespace {

namespace tk = torchkeep;
using nlohmann::json;

/// A module with the given parameters and buffers: what a checkpoint sees of one.
struct ShapesImpl final : torch::nn::Module {
  explicit ShapesImpl(const json& shapes) {
    int number = 0;
    for (const auto& shape : shapes.at("params")) {
      register_parameter(fmt::format("p{}", number++), torch::randn(shape.get<std::vector<std::int64_t>>()));
    }
    for (const auto& shape : shapes.at("buffers")) {
      register_buffer(fmt::format("b{}", number++), torch::randn(shape.get<std::vector<std::int64_t>>()));
    }
  }
};

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw std::runtime_error("cannot " + what + " " + path + ": " + std::strerror(errno));
}

class Worker {
 public:
  explicit Worker(const json& shapes) : model_(std::make_shared<ShapesImpl>(shapes)) {
    torch::manual_seed(1);
    if (shapes.at("adam").get<bool>()) make_adam();
    reference_ = state().clone();
  }

  json run(const std::string& operation, const std::string& path) {
    const auto action = actions_.find(operation);
    if (action == actions_.end()) throw std::runtime_error("unknown operation " + operation);
    const std::int64_t before = bench::memory("VmRSS");
    bench::forget_peak();
    const auto begin = std::chrono::steady_clock::now();
    json answer = action->second(path);
    answer["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    answer["extra_bytes"] = std::max<std::int64_t>(0, bench::memory("VmHWM") - before);
    held_ = tk::Value();  // what was loaded is let go outside the time
    return answer;
  }

 private:
  void make_adam() {
    adam_ = std::make_unique<torch::optim::Adam>(model_->parameters(), torch::optim::AdamOptions(1e-3));
    for (const torch::Tensor& parameter : model_->parameters()) {
      auto moments = std::make_unique<torch::optim::AdamParamState>();
      moments->step(100);
      moments->exp_avg(torch::randn_like(parameter));
      moments->exp_avg_sq(torch::rand_like(parameter));
      adam_->state()[parameter.unsafeGetTensorImpl()] = std::move(moments);
    }
  }

  tk::Value state() const {
    tk::Value state{{"model", tk::state_dict(*model_)}};
    if (adam_) state.set("optimizer", tk::state_dict(*adam_, *model_));
    return state;
  }

  /// All live tensors, for what is written by hand.
  std::vector<torch::Tensor> tensors() const {
    std::vector<torch::Tensor> all = model_->parameters();
    for (const torch::Tensor& buffer : model_->buffers()) all.push_back(buffer);
    if (!adam_) return all;
    for (const torch::Tensor& parameter : model_->parameters()) {
      auto& moments = static_cast<torch::optim::AdamParamState&>(*adam_->state().at(parameter.unsafeGetTensorImpl()));
      all.push_back(moments.exp_avg());
      all.push_back(moments.exp_avg_sq());
    }
    return all;
  }

  // ---- the plain copies that are the limit

  json write_plain(const std::string& path, bool sync) const {
    const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (fd < 0) fail("create", path);
    for (const torch::Tensor& tensor : tensors()) {
      const auto* bytes = static_cast<const char*>(tensor.data_ptr());
      for (std::size_t done = 0; done < tensor.nbytes();) {
        const ssize_t count = ::write(fd, bytes + done, std::min<std::size_t>(tensor.nbytes() - done, 1 << 20));
        if (count <= 0) fail("write", path);
        done += static_cast<std::size_t>(count);
      }
    }
    if (sync && ::fsync(fd) != 0) fail("sync", path);
    ::close(fd);
    return json::object();
  }

  /// The way past the page cache that torchkeep takes, without a format and without checksums.
  json write_ring(const std::string& path) const {
    const auto file = tk::posix_fs().create(path, {.path = tk::WritePath::direct});
    std::uint64_t size = 0;
    for (const torch::Tensor& tensor : tensors()) size += tensor.nbytes();
    file->reserve(size);
    std::uint64_t offset = 0;
    for (const torch::Tensor& tensor : tensors()) {
      const std::size_t bytes = tensor.nbytes();
      file->write_at(offset, {static_cast<const std::byte*>(tensor.data_ptr()), bytes});
      offset += bytes;
    }
    file->sync();
    file->close();
    return json::object();
  }

  /// Live memory in pieces, one thread after the other taking the next.
  void in_pieces(unsigned threads, const std::function<void(char*, std::size_t, off_t)>& work) const {
    constexpr std::size_t kPiece = std::size_t{8} << 20;
    struct Piece {
      char* bytes;
      std::size_t size;
      off_t offset;
    };
    std::vector<Piece> pieces;
    off_t offset = 0;
    for (const torch::Tensor& tensor : tensors()) {
      for (std::size_t done = 0; done < tensor.nbytes(); done += kPiece) {
        const std::size_t size = std::min(kPiece, tensor.nbytes() - done);
        pieces.push_back({static_cast<char*>(tensor.data_ptr()) + done, size, offset});
        offset += static_cast<off_t>(size);
      }
    }
    tk::parallel_for(pieces.size(), threads,
                     [&](std::uint64_t i) { work(pieces[i].bytes, pieces[i].size, pieces[i].offset); });
  }

  /// No checks, into live memory.
  json read_plain(const std::string& path, unsigned threads) const {
    const int fd = ::open(path.c_str(), O_RDONLY);
    if (fd < 0) fail("open", path);
    in_pieces(threads, [&](char* bytes, std::size_t size, off_t offset) {
      for (std::size_t done = 0; done < size;) {
        const ssize_t count = ::pread(fd, bytes + done, size - done, offset + static_cast<off_t>(done));
        if (count <= 0) fail("read", path);
        done += static_cast<std::size_t>(count);
      }
    });
    ::close(fd);
    return json::object();
  }

  /// How fast all cores read memory.
  json read_memory() const {
    std::atomic<std::uint64_t> sum = 0;
    in_pieces(0, [&](const char* bytes, std::size_t size, off_t) {
      std::uint64_t part = 0, word = 0;
      for (std::size_t i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
        std::memcpy(&word, bytes + i, sizeof(word));
        part += word;
      }
      sum += part;
    });
    return {{"sum", sum.load()}};
  }

  // ---- LibTorch's own archives

  json save_archive(const std::string& path) const {
    torch::serialize::OutputArchive archive, model, optimizer;
    model_->save(model);
    archive.write("model", model);
    if (adam_) {
      adam_->save(optimizer);
      archive.write("optimizer", optimizer);
    }
    archive.save_to(path);
    return json::object();
  }

  json load_archive(const std::string& path) {
    torch::serialize::InputArchive archive, model, optimizer;
    archive.load_from(path);
    archive.read("model", model);
    model_->load(model);
    if (adam_) {
      archive.read("optimizer", optimizer);
      adam_->load(optimizer);
    }
    return json::object();
  }

  // ---- torchkeep

  json save(const std::string& path, const tk::SaveOptions& options) const {
    tk::save(state(), path, options);
    return json::object();
  }

  json load(const std::string& path, const tk::LoadOptions& options) {
    held_ = tk::load(path, options);
    return json::object();
  }

  json resume(const std::string& path) {
    if (adam_)
      tk::load_into(path, {{"model", *model_}, {"optimizer", {*adam_, *model_}}});
    else
      tk::load_into(path, {{"model", *model_}});
    return json::object();
  }

  json verify(const std::string& path, unsigned threads) const {
    tk::verify(path, {.threads = threads});
    return json::object();
  }

  static json list(const std::string& path) {
    std::size_t names = 0;
    tk::walk(tk::read_pt(tk::posix_fs().open_read(path)), [&names](const tk::Visit& visit) {
      names += visit.value.is(tk::Kind::tensor) && !visit.place.text().empty();
      return tk::Next::inside;
    });
    return {{"tensors", names}};
  }

  // ---- around the measurements

  /// Whether the file (or, without a path, live memory) is the state this process began with, bit for bit.
  /// Without the parameters' names, which C++ and Python have in different places.
  static tk::Value nameless(tk::Value state) {
    if (!state.is_mapping() || !state.contains("param_groups")) return state;
    state.erase("param_names");
    tk::Value groups = tk::Value::sequence(tk::Kind::list, {});
    const tk::Value named = state["param_groups"];
    for (tk::Value group : named.elements()) {
      group.erase("param_names");
      groups.append(group);
    }
    state.set("param_groups", groups);
    return state;
  }

  json check(const std::string& path) const {
    const tk::Value found = path.empty() ? state() : tk::load(path);
    for (const char* part : {"model", "optimizer"}) {
      if (reference_.contains(part) && !(nameless(found[part]) == nameless(reference_[part]))) return {{"equal", false}};
    }
    return {{"equal", true}};
  }

  json scramble() const {
    for (torch::Tensor& tensor : std::vector<torch::Tensor>(tensors())) tensor.detach().zero_();
    return json::object();
  }

  /// Touches so many bytes of memory and gives them back: free memory that the host has taken away is there again.
  static json warm(const std::string& bytes) {
    const std::size_t size = std::stoull(bytes);
    const std::unique_ptr<char[]> memory(new char[size]);
    for (std::size_t i = 0; i < size; i += 4096) memory[i] = 1;
    return {{"last", static_cast<int>(memory[size - 1])}};
  }

  std::shared_ptr<ShapesImpl> model_;
  std::unique_ptr<torch::optim::Adam> adam_;
  tk::Value reference_;
  tk::Value held_;
  using Action = std::function<json(const std::string&)>;
  const std::map<std::string, Action> actions_ = {
      {"save", [this](const std::string& path) { return save(path, {.durable = false}); }},
      {"save_durable", [this](const std::string& path) { return save(path, {}); }},
      {"save_durable_cached",
       [this](const std::string& path) { return save(path, {.write_path = tk::WritePath::page_cache}); }},
      {"load", [this](const std::string& path) { return load(path, {}); }},
      {"load_1", [this](const std::string& path) { return load(path, {.threads = 1}); }},
      {"map", [this](const std::string& path) { return load(path, {.map = true}); }},
      {"resume", [this](const std::string& path) { return resume(path); }},
      {"verify", [this](const std::string& path) { return verify(path, 0); }},
      {"verify_1", [this](const std::string& path) { return verify(path, 1); }},
      {"list", list},
      {"archive_save", [this](const std::string& path) { return save_archive(path); }},
      {"archive_load", [this](const std::string& path) { return load_archive(path); }},
      {"plain_write", [this](const std::string& path) { return write_plain(path, false); }},
      {"plain_write_sync", [this](const std::string& path) { return write_plain(path, true); }},
      {"ring_write_sync", [this](const std::string& path) { return write_ring(path); }},
      {"plain_read_1", [this](const std::string& path) { return read_plain(path, 1); }},
      {"plain_read", [this](const std::string& path) { return read_plain(path, 0); }},
      {"memory_read", [this](const std::string&) { return read_memory(); }},
      {"check", [this](const std::string& path) { return check(path); }},
      {"scramble", [this](const std::string&) { return scramble(); }},
      {"warm", warm},
  };
};

}  // namespace

int main(int count, char** arguments) try {
  if (count != 2) throw std::runtime_error("expected the file with the shapes");
  json shapes;
  std::ifstream(arguments[1]) >> shapes;
  Worker worker(shapes);
  std::cout << json{{"ready", true}} << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string operation, path;
    words >> operation >> path;
    std::cout << worker.run(operation, path) << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "bench_worker: " << error.what() << '\n';
  return 1;
}
