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

#include "integers.h"
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

// What one 32-bit lane holds along the summed dimension: a float, or two bfloat16, or two integers
// of 16 bits, whose sums are integers of 32 bits, and once they are complete floats: times the
// scale of their row. Depths, rows and panels below are counted in these units.
template <class T>
constexpr int64_t kPerUnit = 4 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr bool kIntegers = false;
template <>
constexpr bool kIntegers<int16_t> = true;

template <class T>
FASTNST_INLINE Vec multiply_add_units(Vec a, Vec b, Vec c) {
#ifdef FASTNST_MULTIPLIES_INTEGERS
    if constexpr (kIntegers<T>) return multiply_add_integers(a, b, c);
#endif
#ifdef FASTNST_MULTIPLIES_PAIRS
    if constexpr (kPerUnit<T> == 2) return multiply_add_pairs(a, b, c);
#endif
    return multiply_add(a, b, c);
}

// What each row's sums of integers are multiplied with. Of other sums: nothing.
struct RowScales {
    const float* first;
    int64_t apart;
    FASTNST_INLINE RowScales from(int64_t row) const { return {first + row * apart, apart}; }
};

// Sums of products as floats, added to what is there before them, or to nothing. The product and
// the sum are one operation here, by name: where the compiler chooses, it does so by the vector's
// place in a register tile, and the bits would depend on where a picture is cut.
template <class T>
FASTNST_INLINE Vec to_floats(Vec sums, [[maybe_unused]] RowScales scales, [[maybe_unused]] int row,
                             const float* before) {
#ifdef FASTNST_MULTIPLIES_INTEGERS
    if constexpr (kIntegers<T>)
        return multiply_add(broadcast(scales.first + row * scales.apart), from_integers(sums),
                            before ? load(before) : zero());
#endif
    return before ? add(load(before), sums) : sums;
}

#ifdef FASTNST_MULTIPLIES_LANES
template <class T, int kLane>
FASTNST_INLINE Vec multiply_add_units_lane(Vec a, Vec b, Vec c) {
#ifdef FASTNST_MULTIPLIES_PAIRS
    if constexpr (kPerUnit<T> == 2) return multiply_add_pairs_lane<kLane>(a, b, c);
#endif
    return multiply_add_lane<kLane>(a, b, c);
}

// sum[r][v] += a[r][kLane] b[v]: one step of product_tile's sum over k, of four that a is loaded
// for. A vector of b is loaded right before its use, since R x 4 sums and R vectors of a leave two
// registers.
template <class T, int kLane, int R, int kVecs>
FASTNST_INLINE void product_step_lane(const Vec (&a)[R], const float* b, int64_t b_panel,
                                      Vec (&sum)[R][kVecs]) {
    for (int v = 0; v < kVecs; ++v) {
        const Vec column = load(b + v / kPanelVectors * b_panel + v % kPanelVectors * kWidth);
        for (int r = 0; r < R; ++r)
            sum[r][v] = multiply_add_units_lane<T, kLane>(a[r], column, sum[r][v]);
    }
}
#endif

// What is read next is fetched on the way: 5 to 25 % for the layers whose filters exceed the second
// cache. Of the next b, or what it will be made of, `each` rows every kAhead steps, of `count`.
struct Next {
    const float* rows;  // in panels `panel` apart, or null
    int64_t each, panel, count;
};

// sum[r][v] += a[r] b[v]: one step of product_tile's sum over k
template <class T, int R, int P>
FASTNST_INLINE void product_step(const float* a, int64_t a_row, const float* b, int64_t b_panel,
                                 Vec (&sum)[R][P * kPanelVectors]) {
    constexpr int kVecs = P * kPanelVectors;
    Vec column[kVecs];
    for (int v = 0; v < kVecs; ++v)
        column[v] = load(b + v / kPanelVectors * b_panel + v % kPanelVectors * kWidth);
    for (int r = 0; r < R; ++r) {
        const Vec x = broadcast(a + r * a_row);
        for (int v = 0; v < kVecs; ++v) sum[r][v] = multiply_add_units<T>(x, column[v], sum[r][v]);
    }
}

// R rows and P panels; a[r, k] = a[r * a_row + k], b[k, j] = b[j / 16 * b_panel + k * 16 + j % 16].
//
// kAhead steps are written out, and between them the rows of a below these are fetched, two at a
// time, so that each of their lines is once. With a loop over the steps, and all rows fetched every
// kAhead of them, one core reached 124 GFLOP/s in place of 144 (AVX-512, 2.8 GHz), 85 in place of
// 94 with AVX2.
template <class T, int R, int P>
inline void product_tile(int64_t depth, const float* a, int64_t a_row, const float* b,
                         int64_t b_panel, RowScales scales, float* out, int64_t out_row,
                         bool add_to_out, Next next) {
    constexpr int kVecs = P * kPanelVectors;
    Vec sum[R][kVecs];
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVecs; ++v) sum[r][v] = zero();
    }
    const float* rows = next.rows;
    int64_t left = next.count, k = 0;
    for (; k + kAhead <= depth; k += kAhead, a += kAhead, b += kAhead * kPanel) {
        const float* below = a + (R + k / kAhead % 4 * 2) * a_row;
        prefetch(below);
        prefetch(below + a_row);
        for (int64_t row = 0; row < min(next.each, left); ++row, rows += kPanel) {
            for (int p = 0; p < P; ++p) prefetch_to_second(rows + p * next.panel);
        }
        left -= next.each;
#ifdef FASTNST_MULTIPLIES_LANES
        static_assert(kAhead == kWidth && kWidth == 4);
        Vec x[R];
        for (int r = 0; r < R; ++r) x[r] = load(a + r * a_row);
        product_step_lane<T, 0>(x, b, b_panel, sum);
        product_step_lane<T, 1>(x, b + kPanel, b_panel, sum);
        product_step_lane<T, 2>(x, b + 2 * kPanel, b_panel, sum);
        product_step_lane<T, 3>(x, b + 3 * kPanel, b_panel, sum);
#else
        product_step<T, R, P>(a, a_row, b, b_panel, sum);
        product_step<T, R, P>(a + 1, a_row, b + kPanel, b_panel, sum);
        product_step<T, R, P>(a + 2, a_row, b + 2 * kPanel, b_panel, sum);
        product_step<T, R, P>(a + 3, a_row, b + 3 * kPanel, b_panel, sum);
#endif
    }
    for (; k < depth; ++k, ++a, b += kPanel) product_step<T, R, P>(a, a_row, b, b_panel, sum);
#pragma GCC unroll 8  // else gcc 12 keeps the sums of avx2 in memory
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVecs; ++v) {
            float* p = out + r * out_row + v * kWidth;
            store(p, to_floats<T>(sum[r][v], scales, r, add_to_out ? p : nullptr));
        }
    }
}

template <class T, int R, int P>
inline void product_rows(int64_t rows, int64_t depth, const float* a, int64_t a_row, const float* b,
                         int64_t b_panel, RowScales scales, float* out, int64_t out_row,
                         bool add_to_out) {
    if constexpr (R > 0) {
        if (rows == R)
            product_tile<T, R, P>(depth, a, a_row, b, b_panel, scales, out, out_row, add_to_out,
                                  {});
        else
            product_rows<T, R - 1, P>(rows, depth, a, a_row, b, b_panel, scales, out, out_row,
                                      add_to_out);
    }
}

template <class T, int P>
inline void product_panels(int64_t rows, int64_t depth, const float* a, int64_t a_row,
                           const float* b, int64_t b_panel, RowScales scales, float* out,
                           int64_t out_row, bool add_to_out, const float* next,
                           int64_t next_panel) {
    int64_t r = 0;
    const int64_t each = next ? ceil_div(kAhead * kTileRows, rows) : 0;
    const int64_t of_tile = depth / kAhead * each;  // rows that a tile fetches
    Next ahead{next, each, next_panel, depth};
    for (; r + kTileRows <= rows; r += kTileRows) {
        product_tile<T, kTileRows, P>(depth, a + r * a_row, a_row, b, b_panel, scales.from(r),
                                      out + r * out_row, out_row, add_to_out, ahead);
        ahead.rows += of_tile * kPanel;
        ahead.count -= of_tile;
    }
    product_rows<T, kTileRows - 1, P>(rows - r, depth, a + r * a_row, a_row, b, b_panel,
                                      scales.from(r), out + r * out_row, out_row, add_to_out);
}

// Any number of rows, at most kMostPanels panels. next: the b of the product to come, or what it
// will be made of, or null.
template <class T>
inline void product(int64_t rows, int64_t depth, int64_t panels, const float* a, int64_t a_row,
                    const float* b, int64_t b_panel, float* out, int64_t out_row, bool add_to_out,
                    const float* next, int64_t next_panel, RowScales scales = {}) {
    while (panels >= kTilePanels) {
        product_panels<T, kTilePanels>(rows, depth, a, a_row, b, b_panel, scales, out, out_row,
                                       add_to_out, next, next_panel);
        if (next) next += kTilePanels * next_panel;
        panels -= kTilePanels;
        b += kTilePanels * b_panel;
        out += kTilePanels * kPanel;
    }
    if constexpr (kTilePanels > 1) {
        if (panels == 3)
            product_panels<T, 3>(rows, depth, a, a_row, b, b_panel, scales, out, out_row,
                                 add_to_out, next, next_panel);
        if (panels == 2)
            product_panels<T, 2>(rows, depth, a, a_row, b, b_panel, scales, out, out_row,
                                 add_to_out, next, next_panel);
        if (panels == 1)
            product_panels<T, 1>(rows, depth, a, a_row, b, b_panel, scales, out, out_row,
                                 add_to_out, next, next_panel);
    }
}

}  // namespace
}  // namespace FASTNST_ISA
}  // namespace fastnst
