// What the kernels of L-BFGS share: how an iteration is cut into blocks.
#pragma once

#include "layers.cuh"
#include "reduce.cuh"

namespace fastnst::cuda {

constexpr int kSolverThreads = 256;
constexpr std::int64_t kSolverBlock = 4 * kSolverThreads;  // values of a block, four to a thread
constexpr std::int64_t kChunk = 4096;                      // values of a row that lie together
constexpr std::int64_t kScaled = 64;                       // values that share a scale
constexpr std::int64_t kScales = kChunk / kScaled;         // of a row of a chunk

inline std::int64_t chunks_of(std::int64_t length) {
    return ceil_div(length, kChunk);
}

// Whether four floats of x [length] from n on are one vector of 16 bytes.
__device__ __forceinline__ bool is_vector(const float* x, std::int64_t n, std::int64_t length) {
    return n + 4 <= length && reinterpret_cast<std::uintptr_t>(x + n) % 16 == 0;
}

// Four floats of x [length] from n on, zeros beyond its end.
__device__ __forceinline__ void load_four(const float* x, std::int64_t n, std::int64_t length,
                                          float (&four)[4]) {
    if (is_vector(x, n, length)) {
        const float4 v = *reinterpret_cast<const float4*>(x + n);
        four[0] = v.x, four[1] = v.y, four[2] = v.z, four[3] = v.w;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) four[i] = n + i < length ? x[n + i] : 0.0f;
}

__device__ __forceinline__ void store_four(float* x, std::int64_t n, std::int64_t length,
                                           const float (&four)[4]) {
    if (is_vector(x, n, length)) {
        *reinterpret_cast<float4*>(x + n) = float4{four[0], four[1], four[2], four[3]};
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (n + i < length) x[n + i] = four[i];
    }
}

// Four eight-bit numbers in a register.
__device__ __forceinline__ float number(std::uint32_t four, int i) {
    return static_cast<float>(static_cast<std::int8_t>(four >> (8 * i)));
}

// One row's 64 values of which this thread has four: the whole half-warp calls it.
// scale = largest |x| / 127, numbers = round(x / scale), as in csrc/cpu/kernels/history.cpp.
__device__ __forceinline__ std::uint32_t compress(const float (&x)[4], float& scale) {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) largest = fmaxf(largest, fabsf(x[i]));
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2)
        largest = fmaxf(largest, exchange(largest, distance));
    scale = largest / 127.0f;
    const float inverse = largest > 2e-36f ? 127.0f / largest : 0.0f;
    std::uint32_t four = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int value = static_cast<int>(rintf(x[i] * inverse));
        four |= static_cast<std::uint32_t>(value & 0xff) << (8 * i);
    }
    return four;
}

// Puts four values at n of a row, and by the first thread of a half-warp their scale.
__device__ __forceinline__ void store_row(const History& history, std::int64_t row, std::int64_t n,
                                          const float (&x)[4]) {
    float scale = 0;
    const std::uint32_t four = compress(x, scale);
    const std::int64_t line = n / kChunk * history.rows + row;
    *reinterpret_cast<std::uint32_t*>(history.values + line * kChunk + n % kChunk) = four;
    if (threadIdx.x % 16 == 0) history.scales[line * kScales + n % kChunk / kScaled] = scale;
}

inline void check_history(const History& history) {
    expect(history.values && history.scales, "history: null pointer");
    expect(history.length > 0 && history.rows > 0,
           "history: expected a length and rows of at least 1");
    expect(reinterpret_cast<std::uintptr_t>(history.values) % 16 == 0,
           "history: the values are not aligned to 16 bytes");
}

// As in fastnst.h; the caller has made the device current.
void launch_products(const History& history, const std::int64_t* used, const float* x,
                     float* partials, void* stream);
void launch_combination(const History& history, const std::int64_t* used, const float* weights,
                        float sign, const float* base, const double* outer, float* out,
                        double* squares, void* stream);

}  // namespace fastnst::cuda
