// Many layers in one launch: which layer a block works on, and what its features look like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../checks.h"
#include "../cpu/kernels/integers.h"
#include "../fastnst.h"
#include "gpu.cuh"
#include "tile.cuh"

namespace fastnst::cuda {

constexpr int kMaxLayers = 16;  // per launch: descriptors are kernel parameters, of at most 4 KiB

// The blocks of a launch: those of entries[0], then those of entries[1] from first[1] on, and so
// on. By value in the parameters, so that a captured launch owns them.
template <class Entry>
struct Work {
    int count;
    std::int64_t first[kMaxLayers];
    Entry entries[kMaxLayers];
};

// The entry that a block belongs to; the block's number becomes the one within it.
template <class Entry>
__device__ __forceinline__ const Entry& find(const Work<Entry>& work, std::int64_t& block) {
    int at = work.count - 1;
    while (block < work.first[at]) --at;
    block -= work.first[at];
    return work.entries[at];
}

// launch(work, blocks) for as few launches as take all entries.
template <class Entry, class Blocks, class Launch>
void in_launches(const std::vector<Entry>& entries, Blocks blocks_of, Launch launch) {
    static_assert(sizeof(Work<Entry>) <= 4096, "kernel parameters");
    for (std::size_t begin = 0; begin < entries.size(); begin += kMaxLayers) {
        Work<Entry> work{};
        std::int64_t blocks = 0;
        for (std::size_t i = begin; i < entries.size() && i < begin + kMaxLayers; ++i) {
            work.first[work.count] = blocks;
            work.entries[work.count++] = entries[i];
            blocks += blocks_of(entries[i]);
        }
        launch(work, blocks);
    }
}

// What of the features decides which kernel takes them.
struct Kind {
    bool bfloat16, channels_contiguous;
};
constexpr Kind kKinds[] = {{false, false}, {false, true}, {true, false}, {true, true}};

inline bool is_kind(const Features& f, Kind kind) {
    return (f.dtype == DType::bfloat16) == kind.bfloat16 &&
           (f.channel_stride == 1) == kind.channels_contiguous;
}

// Whether vectors of `bytes` bytes can walk [B, C, N] along its contiguous dimension.
inline bool aligned(const void* data, DType dtype, std::int64_t batch_stride,
                    std::int64_t channel_stride, std::int64_t position_stride, std::int64_t bytes) {
    const std::int64_t other = channel_stride == 1 ? position_stride : channel_stride;
    return (channel_stride == 1 || position_stride == 1) &&
           reinterpret_cast<std::uintptr_t>(data) % bytes == 0 &&
           other * size_of(dtype) % bytes == 0 && batch_stride * size_of(dtype) % bytes == 0;
}

inline bool aligned(const Features& f, std::int64_t bytes) {
    return aligned(f.data, f.dtype, f.batch_stride, f.channel_stride, f.position_stride, bytes);
}

// Hands out the caller's workspace piece by piece; with no workspace it only counts.
class Workspace {
  public:
    Workspace(void* memory, std::size_t bytes) : memory_(static_cast<char*>(memory)), size_(bytes) {
        expect(reinterpret_cast<std::uintptr_t>(memory) % 16 == 0,
               "workspace: expected an address that is a multiple of 16");
    }

    void* take(std::int64_t bytes) {
        const std::size_t at = used_;
        used_ += static_cast<std::size_t>(ceil_div(bytes, 16) * 16);
        expect(memory_ == nullptr || used_ <= size_, "workspace: too small");
        return memory_ == nullptr ? nullptr : memory_ + at;
    }
    std::size_t used() const { return used_; }

  private:
    char* memory_;
    std::size_t size_, used_ = 0;
};

}  // namespace fastnst::cuda
