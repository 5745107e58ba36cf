// SPDX-License-Identifier: BSD-3-Clause
// A counted pointer of one word, for the many small parts of a Value.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif

namespace torchkeep::detail {

/// Counts the handles to what derives from it; it begins with the one that its maker holds.
class Counted {
 public:
  Counted() noexcept = default;
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  void add_handle() noexcept {
    if (has_one_thread())
      handles_.store(handles_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    else
      handles_.fetch_add(1, std::memory_order_relaxed);
  }
  /// True when that was the last one.
  bool drop_handle() noexcept {
    if (!has_one_thread()) return handles_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    const std::uint32_t left = handles_.load(std::memory_order_relaxed) - 1;
    handles_.store(left, std::memory_order_relaxed);
    return left == 0;
  }
  std::uint32_t handles() const noexcept { return handles_.load(std::memory_order_acquire); }

 private:
  // Counting for other threads costs several times as much; std::shared_ptr makes the same distinction.
  static bool has_one_thread() noexcept {
#if __has_include(<sys/single_threaded.h>)
    return __libc_single_threaded != 0;
#else
    return false;
#endif
  }

  std::atomic<std::uint32_t> handles_{1};
};

/// Like a std::shared_ptr<T> of half the size, without the block that one allocates. T derives from Counted, and may be
/// incomplete where nothing is done with it; kDestroy ends a T without handles. Copies of one handle may be used by
/// several threads at once, one handle by one.
template <class T, void (*kDestroy)(Counted*) noexcept>
class Handle {
 public:
  Handle() noexcept = default;
  /// Takes over the handle that the maker of `object` holds.
  explicit Handle(Counted* object) noexcept : object_(object) {}
  Handle(const Handle& other) noexcept : object_(other.object_) {
    if (object_ != nullptr) object_->add_handle();
  }
  Handle(Handle&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Handle& operator=(const Handle& other) noexcept {
    Handle(other).swap(*this);
    return *this;
  }
  Handle& operator=(Handle&& other) noexcept {
    Handle(std::move(other)).swap(*this);
    return *this;
  }
  ~Handle() { reset(); }

  void reset() noexcept {
    if (Counted* const object = std::exchange(object_, nullptr); object != nullptr && object->drop_handle()) {
      kDestroy(object);
    }
  }
  /// Gives up the handle without ending what it leads to.
  Counted* release() noexcept { return std::exchange(object_, nullptr); }
  void swap(Handle& other) noexcept { std::swap(object_, other.object_); }
  const void* address() const noexcept { return object_; }
  T* get() const noexcept { return static_cast<T*>(object_); }
  T& operator*() const noexcept { return *get(); }
  T* operator->() const noexcept { return get(); }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  std::uint32_t use_count() const noexcept { return object_ == nullptr ? 0 : object_->handles(); }

 private:
  Counted* object_ = nullptr;
};

}  // namespace torchkeep::detail
