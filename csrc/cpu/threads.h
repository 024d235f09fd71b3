// What the baseline sources share: scratch memory, and tasks handed to threads. Never included by a
// kernel source (it uses the STL).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels/integers.h"

namespace fastnst {

// Asks for huge pages where much memory is about to be touched for the first time: 64 x 512 x 512
// floats in pages of 4 KiB cost as much time as the arithmetic. For filters and scratch memory it
// is 2 to 5 % of an evaluation in float32 at 512 x 384, nothing that shows in bfloat16.
inline void expect_writes(void* data, std::int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::int64_t huge = std::int64_t{1} << 21;
    const std::int64_t begin = round_up(reinterpret_cast<std::intptr_t>(data), 4096);
    const std::int64_t size = (reinterpret_cast<std::intptr_t>(data) + bytes - begin) / 4096 * 4096;
    if (size >= 2 * huge)
        madvise(reinterpret_cast<void*>(begin), static_cast<std::size_t>(size), MADV_HUGEPAGE);
#else
    (void)data;
    (void)bytes;
#endif
}

// 64-byte aligned, uninitialised floats. One buffer of at most 32 MiB outlives its use and serves
// the next call: fresh pages cost a quarter of the time of a small layer.
class Buffer {
  public:
    explicit Buffer(std::int64_t floats) : size_(std::max<std::int64_t>(floats, 1)) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (spare_size_ >= size_) {
                data_ = std::move(spare_);
                size_ = spare_size_;
                spare_size_ = 0;
            }
        }
        if (!data_) {
            const std::size_t bytes = static_cast<std::size_t>(size_) * sizeof(float);
            data_.reset(static_cast<float*>(::operator new(bytes, std::align_val_t{64})));
            expect_writes(data_.get(), static_cast<std::int64_t>(bytes));
        }
    }
    ~Buffer() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (size_ > spare_size_ && size_ <= std::int64_t{8} << 20) {
            spare_ = std::move(data_);
            spare_size_ = size_;
        }
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    float* get() const { return data_.get(); }

  private:
    struct Delete {
        void operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }
    };
    using Floats = std::unique_ptr<float, Delete>;
    Floats data_;
    std::int64_t size_;
    inline static std::mutex mutex_;
    inline static Floats spare_;
    inline static std::int64_t spare_size_ = 0;
};

inline int team_size(int threads, std::size_t tasks) {
    return static_cast<int>(
        std::min<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), tasks));
}

// run(task, thread) for every task, in any order, each by one of `threads` threads.
template <class Task, class Run>
void for_each(std::vector<Task>& tasks, [[maybe_unused]] int threads, const Run& run) {
    const std::int64_t count = static_cast<std::int64_t>(tasks.size());
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (std::int64_t i = 0; i < count; ++i)
            run(tasks[static_cast<std::size_t>(i)], omp_get_thread_num());
        return;
    }
#endif
    for (std::int64_t i = 0; i < count; ++i) run(tasks[static_cast<std::size_t>(i)], 0);
}

}  // namespace fastnst
