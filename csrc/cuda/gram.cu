// G = F F^T / N, D = G - A and mean(D^2) of all layers in three launches:
//
//   gram_partials   the lower triangle of F F^T in tiles of 64 x 64, each cut along N into chunks;
//                   a block sums one tile of one chunk
//   gram_reduce     the chunks summed in order, in double; both triangles of G and D written; the
//                   squares of D summed by block
//   gram_losses     those sums added up, in order
//
// No result depends on the order in which blocks run, nor on the device.
//
// The least that VGG-19's layers of a 512 x 512 picture take, for an H100 (3.35 TB/s, and 990, 495
// and 67 Tflop/s in bfloat16, TF32 and float):
//
//     C x N          C (C + 1) N flops    bytes of F: bf16, fp32
//     64 x 262144    1.09 G               34 M   67 M
//     128 x 65536    1.08 G               17 M   34 M
//     256 x 16384    1.08 G                8 M   17 M
//     512 x 4096     1.08 G                4 M    8 M
//     512 x 1024     0.27 G                1 M    2 M
//     all            4.60 G               64 M  128 M
//
// so 19 us of memory against 5 us of products in bfloat16, 38 against 9 in TF32, and 38 against 69
// in float. A tile of 64 channels reads F once for C = 64; beyond, the blocks of one chunk follow
// each other and find its rows in the L2 cache.

#include <algorithm>

#include "layers.cuh"
#include "product.cuh"

namespace fastnst {
namespace cuda {
namespace {

constexpr std::int64_t kTileArea = kTile * kTile;
constexpr std::int64_t kBlocks = 256;  // chunks are cut until a layer has so many: two for each
                                       // multiprocessor of a large GPU
constexpr int kReduceRows = 2;         // of a tile, by one block of gram_reduce
constexpr int kGroups = 8;             // of threads there: chunk g, g + 8, ... are group g's
constexpr int kReduceThreads = kGroups * kReduceRows * kTile / 4;

struct GramEntry {
    GramLayer layer;
    CudaGramExtra extra;
    bool vectors;
    std::int64_t tiles, chunks, chunk;  // of the triangle; of the positions; positions in one
    float* partials;                    // [batch, chunks, tiles, 64, 64]
    double* squares;                    // [batch, tiles, 32]
};

// Tile number -> its place in the lower triangle, row by row.
struct TilePlace {
    std::int64_t row = 0, column;

    __device__ __forceinline__ explicit TilePlace(std::int64_t tile) : column(tile) {
        while (column > row) column -= ++row;
    }
};

template <class Arithmetic, class T, bool kChannelsContiguous>
__global__ void __launch_bounds__(kThreads, Arithmetic::kBlocks)
    gram_partials(const __grid_constant__ Work<GramEntry> work) {
    if constexpr (Arithmetic::kCompiled) {
        auto& stages = shared_memory<Stages<typename Arithmetic::Element>>();
        std::int64_t block = blockIdx.x;
        const GramEntry& entry = find(work, block);
        const Features& f = entry.layer.features;
        const TilePlace place(block % entry.tiles);
        const std::int64_t first = block / entry.tiles % entry.chunks * entry.chunk;
        const std::int64_t left = f.positions - first;
        const std::int64_t end = first + (left < entry.chunk ? left : entry.chunk);
        const std::int64_t sample = block / entry.tiles / entry.chunks;
        const Matrix<T> x{static_cast<const T*>(f.data) + sample * f.batch_stride, f.channel_stride,
                          f.position_stride, f.channels, entry.vectors};
        const Warp warp;
        const bool diagonal = place.row == place.column;
        const bool idle = diagonal && warp.column > warp.row;  // all of it above the diagonal
        Sums sums;
        product<Arithmetic, true, kChannelsContiguous, kChannelsContiguous>(
            x, place.row * kTile, x, place.column * kTile, first, end, diagonal, idle, warp, stages,
            sums, [](std::int64_t, const auto*) {});
        if (idle) return;
        float* partial = entry.partials + block * kTileArea;
        sums.for_pairs(warp, [&](int row, int column, float even, float odd) {
            *reinterpret_cast<float2*>(partial + row * kTile + column) = float2{even, odd};
        });
    }
}

// G[i, j] from its sum; D there, which it returns.
__device__ __forceinline__ float finish(const GramEntry& entry, std::int64_t sample, std::int64_t i,
                                        std::int64_t j, float g) {
    const GramLayer& layer = entry.layer;
    const std::int64_t channels = layer.features.channels;
    const std::int64_t at = (sample * channels + i) * channels + j;
    if (layer.gram) layer.gram[at] = g;
    if (!layer.target) return 0;
    const float d = g - layer.target[sample * layer.target_batch_stride + i * channels + j];
    if (layer.difference) layer.difference[at] = d;
    return d;
}

// S[i, j]
__device__ __forceinline__ void put_symmetric(const GramEntry& entry, std::int64_t sample,
                                              std::int64_t i, std::int64_t j, float s) {
    const std::int64_t channels = entry.layer.features.channels;
    const std::int64_t at = (sample * channels + i) * (ceil_div(channels, 8) * 8) + j;
    if (entry.extra.dtype == DType::bfloat16) {
        static_cast<bf16*>(entry.extra.symmetric)[at] = from_float<bf16>(s);
    } else {
        static_cast<float*>(entry.extra.symmetric)[at] = s;
    }
}

// values[0] = the sum of values[0 .. count), by halves; count is a power of two.
__device__ __forceinline__ void sum_up(double* values, int count) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int half = count / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) values[thread] += values[thread + half];
    }
}

struct ReduceMemory {
    double sums[kGroups][kReduceRows * kTile];
    double squares[kReduceRows * kTile];
};

__global__ void __launch_bounds__(kReduceThreads)
    gram_reduce(const __grid_constant__ Work<GramEntry> work) {
    auto& memory = shared_memory<ReduceMemory>();
    std::int64_t block = blockIdx.x;
    const GramEntry& entry = find(work, block);
    const Features& f = entry.layer.features;
    constexpr int strips = kTile / kReduceRows;
    const int strip = static_cast<int>(block % strips);
    const std::int64_t tile = block / strips % entry.tiles;
    const std::int64_t sample = block / strips / entry.tiles;
    const TilePlace place(tile);
    const bool diagonal = place.row == place.column;
    const int thread = static_cast<int>(threadIdx.x);

    // sums[group] = the group's share of  sum over chunks of partial,  four columns to a thread
    const int group = thread / (kReduceRows * kTile / 4), lane = thread % (kReduceRows * kTile / 4);
    const int row = strip * kReduceRows + lane / (kTile / 4), column = lane % (kTile / 4) * 4;
    double sum[4] = {};
    if (!(diagonal && column > row)) {
        const std::int64_t step = entry.tiles * kTileArea;
        const float* partial =
            entry.partials + sample * entry.chunks * step + tile * kTileArea + row * kTile + column;
#pragma unroll 8
        for (std::int64_t chunk = group; chunk < entry.chunks; chunk += kGroups) {
            const float4 p = *reinterpret_cast<const float4*>(partial + chunk * step);
            sum[0] += static_cast<double>(p.x);
            sum[1] += static_cast<double>(p.y);
            sum[2] += static_cast<double>(p.z);
            sum[3] += static_cast<double>(p.w);
        }
    }
    for (int c = 0; c < 4; ++c) memory.sums[group][lane * 4 + c] = sum[c];
    __syncthreads();

    if (thread < kReduceRows * kTile) {
        double total = 0, squares = 0;
        for (int g = 0; g < kGroups; ++g) total += memory.sums[g][thread];
        const std::int64_t i = place.row * kTile + strip * kReduceRows + thread / kTile;
        const std::int64_t j = place.column * kTile + thread % kTile;
        if (i < f.channels && j <= i) {
            const float g = static_cast<float>(total / static_cast<double>(f.positions));
            const float d = finish(entry, sample, i, j, g);
            const float mirrored = i != j ? finish(entry, sample, j, i, g) : 0;
            squares = static_cast<double>(d) * static_cast<double>(d) +
                      static_cast<double>(mirrored) * static_cast<double>(mirrored);
            if (entry.extra.symmetric) {
                const float s = i != j ? (d + mirrored) / 2 : d;
                put_symmetric(entry, sample, i, j, s);
                if (i != j) put_symmetric(entry, sample, j, i, s);
            }
        }
        memory.squares[thread] = squares;
    }
    sum_up(memory.squares, kReduceRows * kTile);
    if (thread == 0) entry.squares[block] = memory.squares[0];
}

struct LossMemory {
    double sums[kReduceThreads];
};

__global__ void __launch_bounds__(kReduceThreads)
    gram_losses(const __grid_constant__ Work<GramEntry> work) {
    auto& memory = shared_memory<LossMemory>();
    std::int64_t block = blockIdx.x;
    const GramEntry& entry = find(work, block);
    const Features& f = entry.layer.features;
    const std::int64_t count = f.batch * entry.tiles * (kTile / kReduceRows);
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < count; i += kReduceThreads) sum += entry.squares[i];
    memory.sums[threadIdx.x] = sum;
    sum_up(memory.sums, kReduceThreads);
    if (threadIdx.x == 0) {
        const double terms = static_cast<double>(f.batch) * static_cast<double>(f.channels) *
                             static_cast<double>(f.channels);
        *entry.layer.loss = static_cast<float>(memory.sums[0] / terms);
    }
}

// ---------------------------------------------------------------------------------------- host --

std::int64_t product_blocks(const GramEntry& entry) {
    return entry.layer.features.batch * entry.chunks * entry.tiles;
}

std::int64_t reduce_blocks(const GramEntry& entry) {
    return entry.layer.features.batch * entry.tiles * (kTile / kReduceRows);
}

std::vector<GramEntry> plan(const GramLayer* layers, const CudaGramExtra* extras, std::size_t count,
                            Workspace& workspace) {
    std::vector<GramEntry> entries;
    for (std::size_t i = 0; i < count; ++i) {
        const Features& f = layers[i].features;
        check_features(f);
        expect(!layers[i].target || layers[i].loss, "loss: null pointer");
        const CudaGramExtra extra = extras ? extras[i] : CudaGramExtra{nullptr, DType::float32};
        expect(!extra.symmetric || layers[i].target, "symmetric: expected a target");
        GramEntry entry{layers[i], extra, aligned(f, 16), 0, 0, 0, nullptr, nullptr};
        const std::int64_t rows = ceil_div(f.channels, kTile);
        entry.tiles = rows * (rows + 1) / 2;
        const std::int64_t wanted = ceil_div(kBlocks, f.batch * entry.tiles);
        entry.chunk = ceil_div(ceil_div(f.positions, wanted), kFlush) * kFlush;
        entry.chunks = ceil_div(f.positions, entry.chunk);
        entry.partials = static_cast<float*>(
            workspace.take(product_blocks(entry) * kTileArea * static_cast<int>(sizeof(float))));
        entry.squares = static_cast<double*>(
            workspace.take(reduce_blocks(entry) * static_cast<int>(sizeof(double))));
        entries.push_back(entry);
    }
    return entries;
}

template <class Arithmetic, class T>
void launch_partials(const std::vector<GramEntry>& entries, bool channels_contiguous,
                     void* stream) {
    in_launches(entries, product_blocks, [&](const Work<GramEntry>& work, std::int64_t blocks) {
        launch("gram_partials",
               channels_contiguous ? gram_partials<Arithmetic, T, true>
                                   : gram_partials<Arithmetic, T, false>,
               blocks, kThreads, stream, work);
    });
}

}  // namespace
}  // namespace cuda

std::size_t cuda_gram_workspace(const GramLayer* layers, std::size_t count) {
    cuda::Workspace counted(nullptr, 0);
    cuda::plan(layers, nullptr, count, counted);
    return counted.used();
}

void cuda_gram(const GramLayer* layers, const CudaGramExtra* extras, std::size_t count,
               CudaPrecision precision, void* memory, std::size_t bytes, int device, void* stream) {
    using namespace cuda;
    if (count == 0) return;
    expect(memory != nullptr, "workspace: null pointer");
    Workspace workspace(memory, bytes);
    const std::vector<GramEntry> entries = plan(layers, extras, count, workspace);
    const DeviceGuard guard(device);
    const bool exact =
        precision == CudaPrecision::fp32 ||
        !compiled_for_tensor_cores("gram_partials", gram_partials<Bfloat16, bf16, false>);
    for (const Kind kind : kKinds) {
        std::vector<GramEntry> chosen;
        std::copy_if(entries.begin(), entries.end(), std::back_inserter(chosen),
                     [&](const GramEntry& e) { return is_kind(e.layer.features, kind); });
        const auto launch_them =
            kind.bfloat16 ? exact ? launch_partials<Exact, bf16> : launch_partials<Bfloat16, bf16>
            : exact       ? launch_partials<Exact, float>
                          : launch_partials<Tf32, float>;
        launch_them(chosen, kind.channels_contiguous, stream);
    }
    in_launches(entries, reduce_blocks, [&](const Work<GramEntry>& work, std::int64_t blocks) {
        launch("gram_reduce", gram_reduce, blocks, kReduceThreads, stream, work);
    });
    std::vector<GramEntry> with_loss;
    std::copy_if(entries.begin(), entries.end(), std::back_inserter(with_loss),
                 [](const GramEntry& e) { return e.layer.target != nullptr; });
    const auto one = [](const GramEntry&) -> std::int64_t { return 1; };
    in_launches(with_loss, one, [&](const Work<GramEntry>& work, std::int64_t blocks) {
        launch("gram_losses", gram_losses, blocks, kReduceThreads, stream, work);
    });
}

}  // namespace fastnst
