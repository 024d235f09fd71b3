// out <- (accumulate ? out : 0) + scale * mask(F) * S F  with  S = (D + D^T) / 2, in two launches:
//
//   symmetrise      S, in the type that the product takes, its rows padded to 16 bytes; none for
//                   the layers whose S is given
//   gram_gradient   a tile of 64 channels x 64 positions of S F, and all that is done to it
//
// The least that it takes for VGG-19's layers at 512 x 512: 2 C^2 N flops, 9.1 G in all, and F and
// out once each, 128 MB in bfloat16 and 256 MB in float, with accumulate half as much again. On an
// H100 (figures in gram.cu): 38, 57 with accumulate, us of memory against 9 us of products in
// bfloat16, 77 and 115 against 18 in TF32. The blocks of the same positions follow each other: they
// find F in the L2 cache. A block hardly computes: what counts is how seldom it waits for memory.
// Features and out of one type in channels_last (SameVectors) make it wait once for both, or twice.

#include <algorithm>

#include "layers.cuh"
#include "product.cuh"

namespace fastnst {
namespace cuda {
namespace {

struct GradientEntry {
    GradientLayer layer;
    bool masked_sum;
    bool given;         // S is
    bool vectors;       // F can be read in vectors of 16 bytes
    bool out_vectors;   // F and out can be walked together, four elements at a time
    bool same_vectors;  // they have one type, contiguous channels and whole vectors of 16 bytes
    void* symmetric;    // [B, C, pitch]
    std::int64_t pitch;
};

// --------------------------------------------------------------------------------- symmetrise --

constexpr int kSymmetriseThreads = 256;

template <class Element>
__global__ void __launch_bounds__(kSymmetriseThreads)
    symmetrise(const __grid_constant__ Work<GradientEntry> work) {
    std::int64_t block = blockIdx.x;
    const GradientEntry& entry = find(work, block);
    const std::int64_t channels = entry.layer.features.channels;
    const std::int64_t at = block * kSymmetriseThreads + threadIdx.x;
    const std::int64_t j = at % entry.pitch, i = at / entry.pitch % channels;
    const std::int64_t sample = at / entry.pitch / channels;
    if (sample >= entry.layer.features.batch) return;
    const float* d = entry.layer.difference + sample * channels * channels;
    const float s = j < channels ? (d[i * channels + j] + d[j * channels + i]) / 2 : 0;
    static_cast<Element*>(entry.symmetric)[at] = from_float<Element>(s);
}

// ------------------------------------------------------------------------------------ gradient --

constexpr int kOutPitch = kTile + 4;  // transposed, the lanes (g, t) write bank 8 t + g

template <class Element>
union GradientMemory {
    Stages<Element> stages;
    float out[kTile * kOutPitch];  // by lines of what is contiguous in out
};

// What an element of out becomes. kept: the mask leaves it.
__device__ __forceinline__ float result(const GradientEntry& entry, bool kept, float sum,
                                        float before) {
    const float value = kept ? entry.layer.scale * sum : 0;
    const bool adds = entry.layer.accumulate && (kept || !entry.masked_sum);
    return adds ? before + value : value;
}

// kCount elements that follow each other in out, and in F where kCount > 1.
template <int kCount, class T, class Out>
__device__ __forceinline__ void finish(const GradientEntry& entry, const float* sums, const T* f,
                                       Out* out) {
    const GradientLayer& layer = entry.layer;
    using Values = Vector<Out, kCount>;
    Vector<T, kCount> mask{};
    Values before{}, after;
    if (layer.relu_mask) mask = *reinterpret_cast<const Vector<T, kCount>*>(f);
    if (layer.accumulate) before = *reinterpret_cast<const Values*>(out);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        const bool kept = !(layer.relu_mask && to_float(mask.at[i]) <= 0);
        after.at[i] = from_float<Out>(result(entry, kept, sums[i], to_float(before.at[i])));
    }
    *reinterpret_cast<Values*>(out) = after;
}

// The tile at (channel, position) from shared memory to out, line by line.
template <class T, class Out>
__device__ __forceinline__ void write_tile(const GradientEntry& entry, std::int64_t sample,
                                           std::int64_t channel, std::int64_t position,
                                           const float* sums) {
    const GradientLayer& layer = entry.layer;
    const Features& features = layer.features;
    const T* f = static_cast<const T*>(features.data) + sample * features.batch_stride +
                 channel * features.channel_stride + position * features.position_stride;
    Out* out = static_cast<Out*>(layer.out) + sample * layer.out_batch_stride +
               channel * layer.out_channel_stride + position * layer.out_position_stride;
    const bool by_channels = layer.out_channel_stride == 1;
    const std::int64_t channels = features.channels - channel;
    const std::int64_t positions = features.positions - position;
    const std::int64_t lines = by_channels ? positions : channels;
    const std::int64_t length = by_channels ? channels : positions;
    const std::int64_t f_line = by_channels ? features.position_stride : features.channel_stride;
    const std::int64_t f_step = by_channels ? features.channel_stride : features.position_stride;
    const std::int64_t out_line =
        by_channels ? layer.out_position_stride : layer.out_channel_stride;
    const std::int64_t out_step =
        by_channels ? layer.out_channel_stride : layer.out_position_stride;
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < kTile * (kTile / 4); i += kThreads) {
        const int line = i / (kTile / 4), at = i % (kTile / 4) * 4;
        if (line >= lines) break;
        const float* s = sums + line * kOutPitch + at;
        if (entry.out_vectors && at + 4 <= length) {
            finish<4>(entry, s, f + line * f_line + at, out + line * out_line + at);
            continue;
        }
#pragma unroll 1
        for (int e = 0; e < 4 && at + e < length; ++e) {
            finish<1>(entry, s + e, f + line * f_line + (at + e) * f_step,
                      out + line * out_line + (at + e) * out_step);
        }
    }
}

// The tile of a layer with same_vectors: a thread has 16 bytes of channels of several positions.
// What was in out is asked for before the products, and the mask is taken from the tiles of F that
// pass through shared memory: so little waits, and F is read once.
template <class T>
struct SameVectors {
    static constexpr int kWidth = 16 / static_cast<int>(sizeof(T));
    static constexpr int kPerLine = kTile / kWidth, kLines = kThreads / kPerLine;
    static constexpr int kCount = kTile / kLines;
    static_assert(kCount * kWidth == 32, "a bit of the mask for each element of a thread");
    // in float the registers are needed by the products
    static constexpr bool kEarly = sizeof(T) == 2;
    using Values = Vector<T, kWidth>;

    const GradientEntry& entry;
    const std::int64_t channel;  // of the thread
    const int line, inner;       // its first position and channel in the tile
    const std::int64_t lines;
    T* const out;
    Values before[kCount] = {};
    std::uint32_t mask = 0;  // bits of what is kept

    __device__ __forceinline__ SameVectors(const GradientEntry& of, std::int64_t sample,
                                           std::int64_t first_channel, std::int64_t position)
        : entry(of),
          channel(first_channel + static_cast<int>(threadIdx.x) % kPerLine * kWidth),
          line(static_cast<int>(threadIdx.x) / kPerLine),
          inner(static_cast<int>(threadIdx.x) % kPerLine * kWidth),
          lines(channel < of.layer.features.channels ? of.layer.features.positions - position : 0),
          out(static_cast<T*>(of.layer.out) + sample * of.layer.out_batch_stride +
              (position + line) * of.layer.out_position_stride + channel) {}

    __device__ __forceinline__ Values* at(int i) const {
        return reinterpret_cast<Values*>(out + i * kLines * entry.layer.out_position_stride);
    }

    __device__ __forceinline__ void ask() {
        if (!entry.layer.accumulate) return;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            if (line + i * kLines < lines) before[i] = *at(i);
        }
    }

    // the tile of F [position][channel] of a step
    __device__ __forceinline__ void look(std::int64_t step, const T* tile) {
        if (channel / kDepth<T> != step) return;
        const int k = static_cast<int>(channel) % kDepth<T>;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const auto f =
                *reinterpret_cast<const Values*>(tile + place<T, false>(line + i * kLines, k));
#pragma unroll
            for (int e = 0; e < kWidth; ++e)
                mask |= static_cast<std::uint32_t>(!(to_float(f.at[e]) <= 0)) << (i * kWidth + e);
        }
    }

    __device__ __forceinline__ void write(const float* sums) const {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            if (line + i * kLines >= lines) break;
            const float* s = sums + (line + i * kLines) * kOutPitch + inner;
            Values after;
#pragma unroll
            for (int e = 0; e < kWidth; ++e) {
                const bool kept = !entry.layer.relu_mask || (mask >> (i * kWidth + e) & 1) != 0;
                after.at[e] = from_float<T>(result(entry, kept, s[e], to_float(before[i].at[e])));
            }
            *at(i) = after;
        }
    }
};

// Blocks that share a multiprocessor: of SameVectors in bfloat16, which waits for memory most of
// the time, one more.
template <class Arithmetic, bool kChannelsContiguous>
constexpr int kGradientBlocks =
    kChannelsContiguous && sizeof(typename Arithmetic::Element) == 2 ? 4 : Arithmetic::kBlocks;

template <class Arithmetic, class T, bool kChannelsContiguous>
__global__ void __launch_bounds__(kThreads, kGradientBlocks<Arithmetic, kChannelsContiguous>)
    gram_gradient(const __grid_constant__ Work<GradientEntry> work) {
    if constexpr (Arithmetic::kCompiled) {
        using Element = typename Arithmetic::Element;
        auto& memory = shared_memory<GradientMemory<Element>>();
        std::int64_t block = blockIdx.x;
        const GradientEntry& entry = find(work, block);
        const Features& f = entry.layer.features;
        const std::int64_t channel_tiles = ceil_div(f.channels, kTile);
        const std::int64_t position_tiles = ceil_div(f.positions, kTile);
        const std::int64_t channel = block % channel_tiles * kTile;
        const std::int64_t position = block / channel_tiles % position_tiles * kTile;
        const std::int64_t sample = block / channel_tiles / position_tiles;
        const Element* symmetric =
            static_cast<const Element*>(entry.symmetric) + sample * f.channels * entry.pitch;
        const Matrix<Element> s{symmetric, entry.pitch, 1, f.channels, true};
        const Matrix<T> x{static_cast<const T*>(f.data) + sample * f.batch_stride,
                          f.position_stride, f.channel_stride, f.positions, entry.vectors};
        const Warp warp;
        Sums sums;
        const bool by_channels = entry.layer.out_channel_stride == 1;
        const auto place_sums = [&] {
            sums.for_pairs(warp, [&](int row, int column, float even, float odd) {
                float* to = memory.out +
                            (by_channels ? column * kOutPitch + row : row * kOutPitch + column);
                to[0] = even;
                to[by_channels ? kOutPitch : 1] = odd;
            });
            __syncthreads();
        };
        if constexpr (kChannelsContiguous && sizeof(T) == sizeof(Element)) {
            if (entry.same_vectors) {
                SameVectors<T> tile(entry, sample, channel, position);
                if (tile.kEarly) tile.ask();
                product<Arithmetic, false, false, false>(
                    s, channel, x, position, 0, f.channels, false, false, warp, memory.stages, sums,
                    [&](std::int64_t step, const T* seen) { tile.look(step, seen); });
                if (!tile.kEarly) tile.ask();
                place_sums();
                tile.write(memory.out);
                return;
            }
        }
        product<Arithmetic, false, false, !kChannelsContiguous>(
            s, channel, x, position, 0, f.channels, false, false, warp, memory.stages, sums,
            [](std::int64_t, const Element*) {});
        place_sums();
        if (entry.layer.out_dtype == DType::bfloat16) {
            write_tile<T, bf16>(entry, sample, channel, position, memory.out);
        } else {
            write_tile<T, float>(entry, sample, channel, position, memory.out);
        }
    }
}

// ---------------------------------------------------------------------------------------- host --

std::int64_t symmetrise_blocks(const GradientEntry& entry) {
    const Features& f = entry.layer.features;
    return ceil_div(f.batch * f.channels * entry.pitch, kSymmetriseThreads);
}

std::int64_t gradient_blocks(const GradientEntry& entry) {
    const Features& f = entry.layer.features;
    return f.batch * ceil_div(f.channels, kTile) * ceil_div(f.positions, kTile);
}

std::vector<GradientEntry> plan(const GradientLayer* layers, const CudaGradientExtra* extras,
                                std::size_t count, Workspace& workspace) {
    std::vector<GradientEntry> entries;
    for (std::size_t i = 0; i < count; ++i) {
        const GradientLayer& layer = layers[i];
        const Features& f = layer.features;
        check_features(f);
        const CudaGradientExtra extra = extras ? extras[i] : CudaGradientExtra{nullptr, false};
        const bool given = extra.symmetric != nullptr;
        expect((layer.difference || given) && layer.out, "gradient: null pointer");
        expect(reinterpret_cast<std::uintptr_t>(extra.symmetric) % 16 == 0,
               "symmetric: expected an address that is a multiple of 16");
        expect(layer.relu_mask || !extra.masked_sum, "gradient: a masked sum without a mask");
        expect(layer.out_dtype == DType::float32 || layer.out_dtype == DType::bfloat16,
               "out: expected float32 or bfloat16");
        const bool same_walk =
            layer.out_channel_stride == 1 ? f.channel_stride == 1 : f.position_stride == 1;
        const bool out_vectors =
            same_walk && aligned(f, 4 * size_of(f.dtype)) &&
            aligned(layer.out, layer.out_dtype, layer.out_batch_stride, layer.out_channel_stride,
                    layer.out_position_stride, 4 * size_of(layer.out_dtype));
        const bool same_vectors = f.channel_stride == 1 && layer.out_channel_stride == 1 &&
                                  f.dtype == layer.out_dtype &&
                                  f.channels * size_of(f.dtype) % 16 == 0 && aligned(f, 16) &&
                                  aligned(layer.out, layer.out_dtype, layer.out_batch_stride,
                                          layer.out_channel_stride, layer.out_position_stride, 16);
        GradientEntry entry{layer,       extra.masked_sum, given,   aligned(f, 16),
                            out_vectors, same_vectors,     nullptr, ceil_div(f.channels, 8) * 8};
        entry.symmetric = given ? const_cast<void*>(extra.symmetric)
                                : workspace.take(f.batch * f.channels * entry.pitch *
                                                 static_cast<int>(sizeof(float)));
        entries.push_back(entry);
    }
    return entries;
}

template <class Arithmetic, class T>
void launch_gradient(const std::vector<GradientEntry>& entries, bool channels_contiguous,
                     void* stream) {
    std::vector<GradientEntry> wanting;
    std::copy_if(entries.begin(), entries.end(), std::back_inserter(wanting),
                 [](const GradientEntry& e) { return !e.given; });
    in_launches(wanting, symmetrise_blocks,
                [&](const Work<GradientEntry>& work, std::int64_t blocks) {
                    launch("symmetrise", symmetrise<typename Arithmetic::Element>, blocks,
                           kSymmetriseThreads, stream, work);
                });
    in_launches(entries, gradient_blocks,
                [&](const Work<GradientEntry>& work, std::int64_t blocks) {
                    launch("gram_gradient",
                           channels_contiguous ? gram_gradient<Arithmetic, T, true>
                                               : gram_gradient<Arithmetic, T, false>,
                           blocks, kThreads, stream, work);
                });
}

}  // namespace
}  // namespace cuda

std::size_t cuda_gram_gradient_workspace(const GradientLayer* layers, std::size_t count) {
    cuda::Workspace counted(nullptr, 0);
    cuda::plan(layers, nullptr, count, counted);
    return counted.used();
}

DType cuda_symmetric_dtype(DType features, CudaPrecision precision, int device) {
    using namespace cuda;
    if (features != DType::bfloat16 || precision != CudaPrecision::bf16) return DType::float32;
    const DeviceGuard guard(device);
    const bool products =
        compiled_for_tensor_cores("gram_gradient", cuda::gram_gradient<Bfloat16, bf16, false>);
    return products ? DType::bfloat16 : DType::float32;
}

void cuda_gram_gradient(const GradientLayer* layers, const CudaGradientExtra* extras,
                        std::size_t count, CudaPrecision precision, void* memory, std::size_t bytes,
                        int device, void* stream) {
    using namespace cuda;
    if (count == 0) return;
    expect(memory != nullptr, "workspace: null pointer");
    Workspace workspace(memory, bytes);
    const std::vector<GradientEntry> entries = plan(layers, extras, count, workspace);
    const DeviceGuard guard(device);
    if (precision != CudaPrecision::fp32 &&
        !compiled_for_tensor_cores("gram_gradient", cuda::gram_gradient<Bfloat16, bf16, false>))
        precision = CudaPrecision::fp32;
    for (const Kind kind : kKinds) {
        std::vector<GradientEntry> chosen;
        std::copy_if(entries.begin(), entries.end(), std::back_inserter(chosen),
                     [&](const GradientEntry& e) { return is_kind(e.layer.features, kind); });
        const bool exact = precision == CudaPrecision::fp32;
        const auto launch_them =
            !kind.bfloat16 ? exact ? launch_gradient<Exact, float> : launch_gradient<Tf32, float>
            : exact        ? launch_gradient<Exact, bf16>
            : precision == CudaPrecision::tf32 ? launch_gradient<Tf32, bf16>
                                               : launch_gradient<Bfloat16, bf16>;
        launch_them(chosen, kind.channels_contiguous, stream);
    }
}

}  // namespace fastnst
