// The curvature pairs of L-BFGS in eight bits, on a GPU: their layout is that of fastnst.h.
//
//   store_history         one row, quantised; 64 values are those of a half-warp
//   history_products      a block has one chunk of x in shared memory and takes 32 rows of it, four
//                         to a warp: each element of x that is read serves four rows. A lane reads
//                         16 bytes of each row, and those of the next step before it multiplies
//   history_combination   a thread has four positions and walks over all rows, eight at a time
//
// At 512 x 512 x 3 values and 100 rows each pass reads 79 MB of numbers and 5 MB of scales: 28 us
// at 3 TB/s. A number takes one conversion and one multiplication, 4 us of an H100's arithmetic.
// All sums have a fixed order, and rows that are not in use are not read.

#include "solver.cuh"

namespace fastnst {
namespace cuda {
namespace {

constexpr int kRowsOfWarp = 4;
constexpr int kRowsOfBlock = kSolverThreads / 32 * kRowsOfWarp;

__global__ void __launch_bounds__(kSolverThreads)
    store_history(const History history, const std::int64_t* slot, const float* x) {
    const std::int64_t n =
        (blockIdx.x * static_cast<std::int64_t>(kSolverThreads) + threadIdx.x) * 4;
    float four[4];
    load_four(x, n, history.length, four);
    store_row(history, *slot, n, four);
}

// A lane takes 16 numbers of a row at a time, of which all have one scale; a step of the warp is
// 512.
constexpr int kNumbers = 16;
constexpr int kStepOfWarp = 32 * kNumbers;
constexpr int kSteps = static_cast<int>(kChunk) / kStepOfWarp;

struct ProductsMemory {
    // four more floats after every 16: eight lanes that read 16 bytes each meet all banks
    alignas(16) float x[kChunk / kNumbers * (kNumbers + 4)];
};

// partials[chunk, row] = the chunk's share of row . x
__global__ void __launch_bounds__(kSolverThreads)
    history_products(const History history, const std::int64_t* used_rows, const float* x,
                     float* partials) {
    auto& memory = shared_memory<ProductsMemory>();
    const std::int64_t groups = ceil_div(history.rows, kRowsOfBlock);
    const std::int64_t chunk = blockIdx.x / groups, group = blockIdx.x % groups;
    const std::int64_t used = *used_rows;
    if (group * kRowsOfBlock >= used) return;  // the whole block
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const std::int64_t row = group * kRowsOfBlock + thread / 32 * kRowsOfWarp;
    const std::int8_t* values[kRowsOfWarp];
    const float* scales[kRowsOfWarp];
#pragma unroll
    for (int r = 0; r < kRowsOfWarp;
         ++r) {  // a row beyond those in use is read as the last of them
        const std::int64_t line = chunk * history.rows + (row + r < used ? row + r : used - 1);
        values[r] = history.values + line * kChunk + kNumbers * lane;
        scales[r] = history.scales + line * kScales + lane / (kScaled / kNumbers);
    }
    float sums[kRowsOfWarp] = {};
    uint4 numbers[kRowsOfWarp];
    float factors[kRowsOfWarp];
    const auto load = [&](int step) {
#pragma unroll
        for (int r = 0; r < kRowsOfWarp; ++r) {
            numbers[r] = *reinterpret_cast<const uint4*>(values[r] + step * kStepOfWarp);
            factors[r] = scales[r][step * (kStepOfWarp / static_cast<int>(kScaled))];
        }
    };
    load(0);
#pragma unroll
    for (int i = 0; i < static_cast<int>(kChunk) / kSolverThreads; ++i) {
        const std::int64_t n = chunk * kChunk + i * kSolverThreads + thread;
        const int at = i * kSolverThreads + thread;
        memory.x[at + at / kNumbers * 4] = n < history.length ? x[n] : 0.0f;
    }
    __syncthreads();
    if (row >= used) return;  // the whole warp
#pragma unroll 2
    for (int step = 0; step < kSteps; ++step) {
        const float* y = memory.x + (step * 32 + lane) * (kNumbers + 4);
        uint4 now[kRowsOfWarp];
        float scale[kRowsOfWarp];
#pragma unroll
        for (int r = 0; r < kRowsOfWarp; ++r) now[r] = numbers[r], scale[r] = factors[r];
        if (step + 1 < kSteps) load(step + 1);  // on its way while this step is multiplied
        float products[kRowsOfWarp] = {};
#pragma unroll
        for (int i = 0; i < kNumbers / 4; ++i) {
            const float4 four = *reinterpret_cast<const float4*>(y + 4 * i);
#pragma unroll
            for (int r = 0; r < kRowsOfWarp; ++r) {
                const std::uint32_t of = i == 0   ? now[r].x
                                         : i == 1 ? now[r].y
                                         : i == 2 ? now[r].z
                                                  : now[r].w;
                products[r] = fmaf(number(of, 0), four.x, products[r]);
                products[r] = fmaf(number(of, 1), four.y, products[r]);
                products[r] = fmaf(number(of, 2), four.z, products[r]);
                products[r] = fmaf(number(of, 3), four.w, products[r]);
            }
        }
#pragma unroll
        for (int r = 0; r < kRowsOfWarp; ++r) sums[r] = fmaf(scale[r], products[r], sums[r]);
    }
#pragma unroll
    for (int r = 0; r < kRowsOfWarp; ++r) {
        const float sum = warp_sum(sums[r]);
        if (lane == 0 && row + r < used) partials[chunk * history.rows + row + r] = sum;
    }
}

constexpr int kRowsAtOnce = 8;
// Of a multiprocessor: they leave the registers for eight rows. Turing's has 1024 threads.
constexpr int kCombinationBlocks = kTensorCores ? 5 : 1024 / kSolverThreads;

struct CombinationMemory {
    double sums[kSolverThreads / 32];
};

// out = outer * (sign * base + sum of weights[r] * row r), and the sum of its squares by block
__global__ void __launch_bounds__(kSolverThreads, kCombinationBlocks)
    history_combination(const History history, const std::int64_t* used_rows, const float* weights,
                        float sign, const float* base, const double* outer, float* out,
                        double* squares) {
    auto& memory = shared_memory<CombinationMemory>();
    const std::int64_t n =
        (blockIdx.x * static_cast<std::int64_t>(kSolverThreads) + threadIdx.x) * 4;
    const std::int64_t used = *used_rows;
    const std::int64_t first = n / kChunk * history.rows;
    const std::int8_t* values = history.values + first * kChunk + n % kChunk;
    const float* scales = history.scales + first * kScales + n % kChunk / kScaled;
    float sums[4];
    load_four(base, n, history.length, sums);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] *= sign;
#pragma unroll 1
    for (std::int64_t row = 0; row < used; row += kRowsAtOnce) {
        std::uint32_t four[kRowsAtOnce];
        float factors[kRowsAtOnce];
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) {  // all are asked for before the first is waited for
            const bool inside = row + r < used;
            four[r] =
                inside ? *reinterpret_cast<const std::uint32_t*>(values + (row + r) * kChunk) : 0;
            factors[r] = inside ? weights[row + r] * scales[(row + r) * kScales] : 0.0f;
        }
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[i] = fmaf(factors[r], number(four[r], i), sums[i]);
        }
    }
    if (outer != nullptr) {
        const float factor = static_cast<float>(*outer);
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[i] *= factor;
    }
    store_four(out, n, history.length, sums);
    if (squares == nullptr) return;
    double square = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (n + i < history.length)
            square += static_cast<double>(sums[i]) * static_cast<double>(sums[i]);
    }
    const double total = block_sum<kSolverThreads>(square, memory.sums);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

}  // namespace

void launch_products(const History& history, const std::int64_t* used, const float* x,
                     float* partials, void* stream) {
    launch("history_products", history_products,
           chunks_of(history.length) * ceil_div(history.rows, kRowsOfBlock), kSolverThreads, stream,
           history, used, x, partials);
}

void launch_combination(const History& history, const std::int64_t* used, const float* weights,
                        float sign, const float* base, const double* outer, float* out,
                        double* squares, void* stream) {
    launch("history_combination", history_combination,
           chunks_of(history.length) * (kChunk / kSolverBlock), kSolverThreads, stream, history,
           used, weights, sign, base, outer, out, squares);
}

}  // namespace cuda

void cuda_history_store(const History& history, const std::int64_t* slot, const float* x,
                        int device, void* stream) {
    using namespace cuda;
    check_history(history);
    expect(slot && x, "history: null pointer");
    const DeviceGuard guard(device);
    launch("store_history", store_history, chunks_of(history.length) * (kChunk / kSolverBlock),
           kSolverThreads, stream, history, slot, x);
}

void cuda_history_products(const History& history, const std::int64_t* used, const float* x,
                           float* partials, int device, void* stream) {
    using namespace cuda;
    check_history(history);
    expect(used && x && partials, "history: null pointer");
    const DeviceGuard guard(device);
    launch_products(history, used, x, partials, stream);
}

void cuda_history_combination(const History& history, const std::int64_t* used,
                              const float* weights, float sign, const float* base,
                              const double* outer, float* out, double* squares, int device,
                              void* stream) {
    using namespace cuda;
    check_history(history);
    expect(used && weights && base && out, "history: null pointer");
    const DeviceGuard guard(device);
    launch_combination(history, used, weights, sign, base, outer, out, squares, stream);
}

}  // namespace fastnst
