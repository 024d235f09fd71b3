// A product of small matrices, with the sums in registers:
//
//     out[r, j] (+)= sum over k of a[r, k] * b[k, j]        j in panels of kPanel columns
//
//            lanes  register tile (rows x vectors)   loads per k   FMAs per k
// scalar       4               3 x 4                      7            12
// neon         4               6 x 4                    5.5            24
// avx2         8               6 x 2                      8            12
// avx512      16               6 x 4                     10            24
#pragma once

#include <stdint.h>

#include "simd.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

constexpr int kPanel = 16;      // columns of b that are stored together, for every instruction set
constexpr int kMostPanels = 4;  // that `product` takes
// rows of b between two rounds of prefetching: with 2 or 8, 5 to 10 % slower
constexpr int kAhead = 4;
constexpr int kPanelVectors = kPanel / kWidth;
// Three quarters of the registers hold sums.
constexpr int kTilePanels = kWidth == 16 ? 4 : 1;
constexpr int kTileRows = kRegisters * 3 / 4 / (kTilePanels * kPanelVectors);

// What one 32-bit lane holds along the summed dimension: a float, or two bfloat16. Depths, rows and
// panels below are counted in these units.
template <class T>
constexpr int64_t kPerUnit = 4 / static_cast<int64_t>(sizeof(T));

template <class T>
inline Vec multiply_add_units(Vec a, Vec b, Vec c) {
#ifdef FASTNST_MULTIPLIES_PAIRS
    if constexpr (kPerUnit<T> == 2) return multiply_add_pairs(a, b, c);
#endif
    return multiply_add(a, b, c);
}

#ifdef FASTNST_MULTIPLIES_LANES
template <class T, int kLane>
inline Vec multiply_add_units_lane(Vec a, Vec b, Vec c) {
#ifdef FASTNST_MULTIPLIES_PAIRS
    if constexpr (kPerUnit<T> == 2) return multiply_add_pairs_lane<kLane>(a, b, c);
#endif
    return multiply_add_lane<kLane>(a, b, c);
}

// sum[r][v] += a[r][kLane] b[v]: one step of product_tile's sum over k, of four that a is loaded
// for. A vector of b is loaded right before its use, since R x 4 sums and R vectors of a leave two
// registers.
template <class T, int kLane, int R, int kVecs>
inline void product_step(const Vec (&a)[R], const float* b, int64_t b_panel, Vec (&sum)[R][kVecs]) {
    for (int v = 0; v < kVecs; ++v) {
        const Vec column = load(b + v / kPanelVectors * b_panel + v % kPanelVectors * kWidth);
        for (int r = 0; r < R; ++r)
            sum[r][v] = multiply_add_units_lane<T, kLane>(a[r], column, sum[r][v]);
    }
}
#endif

// The rows of a that come next are fetched on the way, and `next_rows` rows of what the next b is
// read from, in panels next_panel apart, or null: 5 to 25 % for the layers whose filters exceed the
// second cache.
//
// R rows and P panels; a[r, k] = a[r * a_row + k], b[k, j] = b[j / 16 * b_panel + k * 16 + j % 16].
template <class T, int R, int P>
inline void product_tile(int64_t depth, const float* a, int64_t a_row, const float* b,
                         int64_t b_panel, float* out, int64_t out_row, bool add_to_out,
                         const float* next, int64_t next_panel, int64_t next_rows) {
    constexpr int kVecs = P * kPanelVectors;
    Vec sum[R][kVecs];
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVecs; ++v) sum[r][v] = zero();
    }
    int64_t whole = 0;  // steps done four at a time
#ifdef FASTNST_MULTIPLIES_LANES
    static_assert(kAhead == kWidth && kWidth == 4);
    for (; whole + kAhead <= depth; whole += kAhead) {
        for (int r = 0; r < R; ++r) prefetch(a + (R + r) * a_row + whole);
        for (int64_t k = whole; k < min(whole + kAhead, next_rows); ++k) {
            for (int p = 0; p < P; ++p) prefetch_to_second(next + p * next_panel + k * kPanel);
        }
        Vec x[R];
        for (int r = 0; r < R; ++r) x[r] = load(a + r * a_row + whole);
        product_step<T, 0>(x, b, b_panel, sum);
        product_step<T, 1>(x, b + kPanel, b_panel, sum);
        product_step<T, 2>(x, b + 2 * kPanel, b_panel, sum);
        product_step<T, 3>(x, b + 3 * kPanel, b_panel, sum);
        b += kAhead * kPanel;
    }
#endif
    for (int64_t begin = whole; begin < depth; begin += kAhead) {
        for (int r = 0; r < R; ++r) prefetch(a + (R + r) * a_row + begin);
        for (int64_t k = begin; k < min(begin + kAhead, next_rows); ++k) {
            for (int p = 0; p < P; ++p) prefetch_to_second(next + p * next_panel + k * kPanel);
        }
        for (int64_t k = begin; k < min(begin + kAhead, depth); ++k) {
            Vec column[kVecs];
            for (int p = 0; p < P; ++p) {
                for (int v = 0; v < kPanelVectors; ++v)
                    column[p * kPanelVectors + v] = load(b + p * b_panel + v * kWidth);
            }
            for (int r = 0; r < R; ++r) {
                const Vec x = broadcast(a + r * a_row + k);
                for (int v = 0; v < kVecs; ++v)
                    sum[r][v] = multiply_add_units<T>(x, column[v], sum[r][v]);
            }
            b += kPanel;
        }
    }
#pragma GCC unroll 8  // else gcc 12 keeps the sums of avx2 in memory
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVecs; ++v) {
            float* p = out + r * out_row + v * kWidth;
            store(p, add_to_out ? add(load(p), sum[r][v]) : sum[r][v]);
        }
    }
}

template <class T, int R, int P>
inline void product_rows(int64_t rows, int64_t depth, const float* a, int64_t a_row, const float* b,
                         int64_t b_panel, float* out, int64_t out_row, bool add_to_out) {
    if constexpr (R > 0) {
        if (rows == R)
            product_tile<T, R, P>(depth, a, a_row, b, b_panel, out, out_row, add_to_out, nullptr, 0,
                                  0);
        else
            product_rows<T, R - 1, P>(rows, depth, a, a_row, b, b_panel, out, out_row, add_to_out);
    }
}

template <class T, int P>
inline void product_panels(int64_t rows, int64_t depth, const float* a, int64_t a_row,
                           const float* b, int64_t b_panel, float* out, int64_t out_row,
                           bool add_to_out, const float* next, int64_t next_panel) {
    int64_t r = 0;
    const int64_t step = next ? (depth * kTileRows + rows - 1) / rows : 0;
    int64_t at = 0;
    for (; r + kTileRows <= rows; r += kTileRows, at += step) {
        product_tile<T, kTileRows, P>(depth, a + r * a_row, a_row, b, b_panel, out + r * out_row,
                                      out_row, add_to_out, next + at * kPanel, next_panel,
                                      min(step, depth - at));
    }
    product_rows<T, kTileRows - 1, P>(rows - r, depth, a + r * a_row, a_row, b, b_panel,
                                      out + r * out_row, out_row, add_to_out);
}

// Any number of rows, at most kMostPanels panels. next: the b of the product to come, or what it
// will be made of, or null.
template <class T>
inline void product(int64_t rows, int64_t depth, int64_t panels, const float* a, int64_t a_row,
                    const float* b, int64_t b_panel, float* out, int64_t out_row, bool add_to_out,
                    const float* next, int64_t next_panel) {
    while (panels >= kTilePanels) {
        product_panels<T, kTilePanels>(rows, depth, a, a_row, b, b_panel, out, out_row, add_to_out,
                                       next, next_panel);
        if (next) next += kTilePanels * next_panel;
        panels -= kTilePanels;
        b += kTilePanels * b_panel;
        out += kTilePanels * kPanel;
    }
    if constexpr (kTilePanels > 1) {
        if (panels == 3)
            product_panels<T, 3>(rows, depth, a, a_row, b, b_panel, out, out_row, add_to_out, next,
                                 next_panel);
        if (panels == 2)
            product_panels<T, 2>(rows, depth, a, a_row, b, b_panel, out, out_row, add_to_out, next,
                                 next_panel);
        if (panels == 1)
            product_panels<T, 1>(rows, depth, a, a_row, b, b_panel, out, out_row, add_to_out, next,
                                 next_panel);
    }
}

}  // namespace
}  // namespace FASTNST_ISA
}  // namespace fastnst
