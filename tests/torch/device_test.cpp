// SPDX-License-Identifier: BSD-3-Clause
// Tensors on a device, here a false one that is as late as a device may be: it works off a stream's queue only when
// somebody waits for an event of it. Who reads without waiting reads what was there before.
#include <deque>
#include <functional>
#include <map>

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include "bits.h"
#include "support/temp_dir.h"

namespace torchkeep {
namespace {

using testing::TempDir;

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr c10::StreamId kOwn = 7;  ///< from the pool; 0 is the program's
const c10::Device kDevice(kType, 0);

/// What is queued, by stream.
class LateDevice {
 public:
  using Work = std::function<void()>;

  void queue(c10::StreamId stream, Work work) { queues_[stream].push_back(std::move(work)); }
  std::size_t length(c10::StreamId stream) { return queues_[stream].size(); }
  /// Works off the queue until so much is left.
  void work_off(c10::StreamId stream, std::size_t left = 0) {
    while (queues_[stream].size() > left) {
      const Work work = std::move(queues_[stream].front());
      queues_[stream].pop_front();
      ++done_[stream];
      work();
    }
  }
  std::size_t position(c10::StreamId stream) { return done_[stream] + queues_[stream].size(); }
  void work_off_until(c10::StreamId stream, std::size_t position) {
    while (done_[stream] < position) work_off(stream, queues_[stream].size() - 1);
  }
  c10::StreamId current = 0;
  std::size_t copies = 0;

 private:
  std::map<c10::StreamId, std::deque<Work>> queues_;
  std::map<c10::StreamId, std::size_t> done_;
};

LateDevice& late() {
  static LateDevice device;
  return device;
}

struct EventState {
  c10::StreamId stream;
  std::size_t position;
};

struct LateGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, late().current);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, kOwn);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return c10::Stream(c10::Stream::UNSAFE, kDevice, std::exchange(late().current, stream.id()));
  }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new EventState;
    *static_cast<EventState*>(*event) = {stream.id(), late().position(stream.id())};
  }
  void block(void* event, const c10::Stream& stream) const override {
    late().queue(stream.id(),
                 [state = *static_cast<EventState*>(event)] { late().work_off_until(state.stream, state.position); });
  }
  bool queryEvent(void*) const override { return false; }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<EventState*>(event); }
  void synchronizeEvent(void* event) const override {
    const EventState& state = *static_cast<EventState*>(event);
    late().work_off_until(state.stream, state.position);
  }
  void synchronizeStream(const c10::Stream& stream) const override { late().work_off(stream.id()); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, LateGuard)

at::Tensor copy_late(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  EXPECT_TRUE(non_blocking);
  EXPECT_EQ(late().current, kOwn) << "copies have a stream of their own";
  ++late().copies;
  late().queue(late().current, [from, to] { std::memcpy(to.data_ptr(), from.data_ptr(), from.nbytes()); });
  return to;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_copy_from", &copy_late);
}

/// Numbers on the device, changed by work that is queued.
class DeviceNumbers {
 public:
  explicit DeviceNumbers(std::size_t count) : numbers_(count, 0) {}
  at::Tensor tensor() {
    return at::for_blob(numbers_.data(), {static_cast<std::int64_t>(numbers_.size())})
        .options(at::TensorOptions(at::kLong).device(kDevice))
        .target_device(kDevice)
        .make_tensor();
  }
  void queue_fill(std::int64_t value) {
    late().queue(0, [this, value] { std::fill(numbers_.begin(), numbers_.end(), value); });
  }

 private:
  std::vector<std::int64_t> numbers_;
};

constexpr std::size_t kCount = 500'000;  // 4 MB: several pieces

bool all_are(const Value& saved, std::int64_t expected) {
  return saved.as_tensor().to_vector<std::int64_t>() == std::vector<std::int64_t>(kCount, expected);
}

TEST(TorchDevice, ASaveWaitsForTheProgramsWorkAndForItsOwnCopies) {
  const TempDir folder;
  DeviceNumbers numbers(kCount);
  for (const std::int64_t value : {5, 6}) {
    numbers.queue_fill(value);
    const std::size_t before = late().copies;
    save({{"weight", numbers.tensor()}}, folder / "a.pt");
    EXPECT_GE(late().copies - before, 4U) << "piece by piece";
    EXPECT_TRUE(all_are(load(folder / "a.pt")["weight"], value));
    EXPECT_EQ(late().length(kOwn), 0U);
  }
}

TEST(TorchDevice, TheFileNamesTheDevice) {
  const TempDir folder;
  DeviceNumbers numbers(3);
  save({{"weight", numbers.tensor()}}, folder / "a.pt");
  EXPECT_EQ(load(folder / "a.pt")["weight"].as_tensor().storage->location(), "privateuseone:0");
}

TEST(TorchDevice, ARunInTheBackgroundSavesTheStateOfEachStep) {
  struct OnDevice final : torch::nn::Module {
    explicit OnDevice(at::Tensor weight) { register_buffer("weight", std::move(weight)); }
  };
  const TempDir folder;
  DeviceNumbers numbers(kCount);
  const auto module = std::make_shared<OnDevice>(numbers.tensor());
  auto run = Run::open(folder / "run", {.save_every = 1, .keep_last = 0, .on_event = [](const Event&) {}});
  run.track("model", module);
  run.resume();
  for (std::int64_t step = 1; step <= 6; ++step) {
    numbers.queue_fill(step);
    run.finish_step(step);
  }
  run.finish();
  for (std::int64_t step = 1; step <= 6; ++step) {
    const Value saved = load(find_checkpoint(folder / "run", std::to_string(step)));
    EXPECT_TRUE(all_are(saved["model"]["weight"], step)) << "step " << step;
  }
}

}  // namespace
}  // namespace torchkeep
