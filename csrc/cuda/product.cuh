// A block's product of two tall matrices, sum[i, j] = sum over k of A[i, k] B[j, k], in one of
// three arithmetics. A block is 2 x 2 warps, a warp owns 32 x 32 of the 64 x 64 sums, and a thread
// of any arithmetic the ones that mma.m16n8 gives it.
#pragma once

#include "tile.cuh"

namespace fastnst::cuda {

struct Warp {
    int row, column;  // of its first sum in the tile
    int g, t;         // of the lane

    __device__ __forceinline__ Warp()
        : row(static_cast<int>(threadIdx.x) / 64 * 32),
          column(static_cast<int>(threadIdx.x) / 32 % 2 * 32),
          g(static_cast<int>(threadIdx.x) % 32 / 4),
          t(static_cast<int>(threadIdx.x) % 4) {}
};

// sum[m][n][2 h + c] belongs to row 16 m + 8 h + g and column 8 n + 2 t + c of the warp.
struct Sums {
    float at[2][4][4];

    __device__ __forceinline__ Sums() : at{} {}

    __device__ __forceinline__ void flush_into(Sums& total) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int n = 0; n < 4; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    total.at[m][n][i] += at[m][n][i];
                    at[m][n][i] = 0;
                }
            }
        }
    }

    // visit(row, column, sum) over the sums of the thread, by pairs of columns: column is even
    template <class Visit>
    __device__ __forceinline__ void for_pairs(const Warp& warp, Visit visit) const {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int n = 0; n < 4; ++n) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    visit(warp.row + 16 * m + 8 * h + warp.g, warp.column + 8 * n + 2 * warp.t,
                          at[m][n][2 * h], at[m][n][2 * h + 1]);
                }
            }
        }
    }
};

// Each arithmetic adds the product of two tiles in shared memory to the sums of a warp. kBlocks of
// them share a multiprocessor: it leaves them as many registers as they can use.

// float, multiplied and added without rounding between them, in the order of k.
struct Exact {
    using Element = float;
    static constexpr bool kCompiled = true;
    static constexpr int kBlocks = 2;

    template <bool kAlongRows>
    static __device__ __forceinline__ void four(const float* tile, int row, int k, float (&x)[4]) {
        if constexpr (kAlongRows) {
#pragma unroll
            for (int i = 0; i < 4; ++i) x[i] = tile[place<float, true>(row, k + i)];
        } else {
            const float4 v = *reinterpret_cast<const float4*>(tile + place<float, false>(row, k));
            x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
        }
    }

    template <bool kAlongRowsA, bool kAlongRowsB>
    static __device__ __forceinline__ void multiply(const float* a, const float* b,
                                                    const Warp& warp, Sums& sums) {
#pragma unroll 2
        for (int k = 0; k < kDepth<float>; k += 4) {
            float x[4][4];
#pragma unroll
            for (int r = 0; r < 4; ++r) four<kAlongRowsA>(a, warp.row + 8 * r + warp.g, k, x[r]);
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                const int column = warp.column + 8 * n + 2 * warp.t;
                float y[2][4];
                if constexpr (kAlongRowsB) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const float2 pair =
                            *reinterpret_cast<const float2*>(b + place<float, true>(column, k + i));
                        y[0][i] = pair.x, y[1][i] = pair.y;
                    }
                } else {
                    four<false>(b, column, k, y[0]);
                    four<false>(b, column + 1, k, y[1]);
                }
#pragma unroll
                for (int i = 0; i < 4; ++i) {
#pragma unroll
                    for (int r = 0; r < 4; ++r) {
                        float* sum = &sums.at[r / 2][n][r % 2 * 2];
                        sum[0] = fmaf(x[r][i], y[0][i], sum[0]);
                        sum[1] = fmaf(x[r][i], y[1][i], sum[1]);
                    }
                }
            }
        }
    }
};

// float rounded to TF32, by tensor cores.
struct Tf32 {
    using Element = float;
    static constexpr bool kCompiled = kTensorCores;
    static constexpr int kBlocks = 3;

    template <bool kAlongRowsA, bool kAlongRowsB>
    static __device__ __forceinline__ void multiply(const float* a, const float* b,
                                                    const Warp& warp, Sums& sums) {
#pragma unroll
        for (int k = 0; k < kDepth<float>; k += 8) {
            std::uint32_t x[2][4], y[4][2];
#pragma unroll
            for (int m = 0; m < 2; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    x[m][i] = round_to_tf32(a[place<float, kAlongRowsA>(
                        warp.row + 16 * m + 8 * (i % 2) + warp.g, k + 4 * (i / 2) + warp.t)]);
                }
            }
#pragma unroll
            for (int n = 0; n < 4; ++n) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    y[n][i] = round_to_tf32(b[place<float, kAlongRowsB>(
                        warp.column + 8 * n + warp.g, k + 4 * i + warp.t)]);
                }
            }
#pragma unroll
            for (int m = 0; m < 2; ++m) {
#pragma unroll
                for (int n = 0; n < 4; ++n) multiply_tf32(sums.at[m][n], x[m], y[n]);
            }
        }
    }
};

// bfloat16, by tensor cores: the products are exact, the sums are float.
struct Bfloat16 {
    using Element = bf16;
    static constexpr bool kCompiled = kTensorCores;
    static constexpr int kBlocks = 3;

    template <bool kAlongRowsA, bool kAlongRowsB>
    static __device__ __forceinline__ void multiply(const bf16* a, const bf16* b, const Warp& warp,
                                                    Sums& sums) {
        // the lane's row r of 8x8 matrix (high, second) of the four that one load brings
        const int lane = 4 * warp.g + warp.t;
        const int r = lane % 8, low = lane / 8 % 2, high = lane / 16;
#pragma unroll
        for (int k = 0; k < kDepth<bf16>; k += 16) {
            std::uint32_t x[2][4], y[4][2];
#pragma unroll
            for (int m = 0; m < 2; ++m) {  // rows and rows + 8, then the same at k + 8
                const int row = warp.row + 16 * m + 8 * low, depth = k + 8 * high;
                load_matrices<kAlongRowsA>(x[m],
                                           a + (kAlongRowsA ? place<bf16, true>(row, depth + r)
                                                            : place<bf16, false>(row + r, depth)));
            }
#pragma unroll
            for (int n = 0; n < 4; n += 2) {  // columns at k and k + 8, then columns + 8
                const int column = warp.column + 8 * n + 8 * high, depth = k + 8 * low;
                std::uint32_t four[4];
                load_matrices<kAlongRowsB>(
                    four, b + (kAlongRowsB ? place<bf16, true>(column, depth + r)
                                           : place<bf16, false>(column + r, depth)));
                y[n][0] = four[0], y[n][1] = four[1];
                y[n + 1][0] = four[2], y[n + 1][1] = four[3];
            }
#pragma unroll
            for (int m = 0; m < 2; ++m) {
#pragma unroll
                for (int n = 0; n < 4; ++n) multiply_bfloat16(sums.at[m][n], x[m], y[n]);
            }
        }
    }
};

// Two stages: one is filled while the other is multiplied.
template <class Element>
struct Stages {
    alignas(16) Element a[2][kTileElements<Element>];
    alignas(16) Element b[2][kTileElements<Element>];
};

// Tensor cores round sums towards zero, and a long sum of positive numbers would feel it: with
// kFlushes at most kFlush of them are summed there before they are added, rounded to nearest, to
// the rest.
constexpr int kFlush = 256;

// total[i, j] = sum over first <= k < end of A[a_row + i, k] B[b_row + j, k]; every thread of the
// block calls it. same: B's rows are A's. idle: this warp's sums are not wanted. look(step, tile)
// is shown each tile of B while it is in shared memory.
template <class Arithmetic, bool kFlushes, bool kAlongRowsA, bool kAlongRowsB, class A, class B,
          class Look>
__device__ __forceinline__ void product(const Matrix<A>& a, std::int64_t a_row, const Matrix<B>& b,
                                        std::int64_t b_row, std::int64_t first, std::int64_t end,
                                        bool same, bool idle, const Warp& warp,
                                        Stages<typename Arithmetic::Element>& stages, Sums& total,
                                        Look look) {
    using Element = typename Arithmetic::Element;
    constexpr int depth = kDepth<Element>;
    const std::int64_t steps = (end - first + depth - 1) / depth;
    const auto load = [&](std::int64_t step) {
        if (step < steps) {
            const std::int64_t k = first + step * depth;
            load_tile<A, Element, kAlongRowsA>(a, a_row, k, end, stages.a[step % 2]);
            if (!same) load_tile<B, Element, kAlongRowsB>(b, b_row, k, end, stages.b[step % 2]);
        }
        commit_copies();
    };
    Sums fresh;
    Sums& recent = kFlushes ? fresh : total;
    load(0);
    for (std::int64_t step = 0; step < steps; ++step) {
        load(step + 1);
        wait_for_copies<1>();
        __syncthreads();  // all of this step has arrived
        look(step, stages.b[step % 2]);
        if (!idle) {
            const Element* tile = stages.a[step % 2];
            Arithmetic::template multiply<kAlongRowsA, kAlongRowsB>(
                tile, same ? tile : stages.b[step % 2], warp, recent);
        }
        if (kFlushes && (step + 1) % (kFlush / depth) == 0) recent.flush_into(total);
        __syncthreads();  // all have read it: the next load may overwrite it
    }
    if (kFlushes) recent.flush_into(total);
}

}  // namespace fastnst::cuda
