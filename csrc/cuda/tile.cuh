// Tiles of a matrix in shared memory: how they lie there, and how they get there.
#pragma once

#include <cstdint>
#include <cstring>

#include "gpu.cuh"
#include "mma.cuh"

namespace fastnst::cuda {

constexpr int kThreads = 128;
constexpr int kTile = 64;  // rows of a tile

// ---------------------------------------------------------------------------------- bfloat16 --

struct bf16 {
    std::uint16_t bits;
};

template <class To, class From>
__device__ __forceinline__ To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
    return same_bits<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
// to nearest, ties to even; a NaN stays one
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
    const std::uint32_t bits = same_bits<std::uint32_t>(x);
    if (x != x) return {static_cast<std::uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// Numbers that are read or written in one access.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
    T at[kCount];
};

// -------------------------------------------------------------------------------------- tiles --

// X[row, k] = data[row * row_stride + k * k_stride] in global memory.
template <class T>
struct Matrix {
    const T* data;
    std::int64_t row_stride, k_stride, rows;
    bool vectors;  // one stride is 1, all else is aligned to 16 bytes
};

// A tile of kTile rows and kDepth<Element> columns k, that is 128 bytes, with either of them
// contiguous: kAlongRows stores X[row, k] at [k][row], otherwise it is at [row][k]. The padding
// spreads what a warp reads over all banks: 8 rows of 16 bytes (ldmatrix) start 4 banks apart in
// bfloat16; in float the lanes (g, t) read bank 4 g + t, or 8 t + g along rows.
template <class Element>
constexpr int kDepth = 128 / static_cast<int>(sizeof(Element));

template <class Element, bool kAlongRows>
constexpr int kPitch =
    kAlongRows ? kTile + 8 : kDepth<Element> + 16 / static_cast<int>(sizeof(Element));

template <class Element, bool kAlongRows>
__device__ __forceinline__ constexpr int place(int row, int k) {
    constexpr int pitch = kPitch<Element, kAlongRows>;
    return kAlongRows ? k * pitch + row : row * pitch + k;
}

template <class Element>
constexpr int kTileElements = kTile * kPitch<Element, false>;  // the same along rows

// tile[row, k] = X[first_row + row, first_k + k], or 0 beyond X.rows and end_k. Copies that wait
// for nobody where the types are the same; the caller commits them.
template <class T, class Element, bool kAlongRows>
__device__ __forceinline__ void load_tile(const Matrix<T>& x, std::int64_t first_row,
                                          std::int64_t first_k, std::int64_t end_k, Element* tile) {
    constexpr int inner_size = kAlongRows ? kTile : kDepth<Element>;
    constexpr int outer_size = kAlongRows ? kDepth<Element> : kTile;
    const std::int64_t rows = x.rows - first_row, depth = end_k - first_k;
    const std::int64_t inner_count = kAlongRows ? rows : depth;
    const std::int64_t outer_count = kAlongRows ? depth : rows;
    const std::int64_t inner_stride = kAlongRows ? x.row_stride : x.k_stride;
    const std::int64_t outer_stride = kAlongRows ? x.k_stride : x.row_stride;
    const T* corner = x.data + first_row * x.row_stride + first_k * x.k_stride;
    const auto at = [](int outer, int inner) {
        return kAlongRows ? place<Element, true>(inner, outer)
                          : place<Element, false>(outer, inner);
    };
    const int thread = static_cast<int>(threadIdx.x);
    if (!x.vectors) {
#pragma unroll 1
        for (int i = thread; i < inner_size * outer_size; i += kThreads) {
            const int outer = i / inner_size, inner = i % inner_size;
            const bool inside = outer < outer_count && inner < inner_count;
            tile[at(outer, inner)] = from_float<Element>(
                inside ? to_float(corner[outer * outer_stride + inner * inner_stride]) : 0.0f);
        }
        return;
    }
    constexpr int width = 16 / static_cast<int>(sizeof(T)), per_line = inner_size / width;
    static_assert(per_line * outer_size % kThreads == 0, "");
#pragma unroll
    for (int step = 0; step < per_line * outer_size / kThreads; ++step) {
        const int i = step * kThreads + thread;
        const int outer = i / per_line, inner = i % per_line * width;
        const std::int64_t left = outer < outer_count ? inner_count - inner : 0;
        const int count = left < 0 ? 0 : left < width ? static_cast<int>(left) : width;
        const T* from = count > 0 ? corner + outer * outer_stride + inner : x.data;
        Element* to = tile + at(outer, inner);
        if constexpr (sizeof(T) == sizeof(Element)) {
            copy_async(to, from, count * static_cast<int>(sizeof(T)));
        } else {
            T values[width] = {};
            if (count == width) {
                const uint4 loaded = *reinterpret_cast<const uint4*>(from);
                memcpy(values, &loaded, sizeof(loaded));
            } else {
                for (int j = 0; j < width; ++j) {
                    if (j < count) values[j] = from[j];
                }
            }
#pragma unroll
            for (int j = 0; j < width; ++j) to[j] = from_float<Element>(to_float(values[j]));
        }
    }
}

}  // namespace fastnst::cuda
