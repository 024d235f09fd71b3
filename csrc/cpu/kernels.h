// What dispatch.cpp (baseline code: tasks and threads) and the kernels (one object per instruction
// set) share: plain structs and a table of function pointers. No STL here: a template or an inline
// function instantiated in a kernel object could be the copy that the linker keeps for everybody.
#pragma once

#include <stdint.h>

namespace fastnst {

// A matrix that is read in place: X[row, column] = data[row * row_stride + column * column_stride].
struct Source {
    const void* data;
    int bfloat16;  // 0: float, 1: bfloat16
    int64_t row_stride, column_stride;
};

// partial[i, j] = sum over the positions first <= n < last of F[i, n] F[j, n]; only for i's and j's
// on or above the block diagonal, and only for the column panels first_panel <= p < last_panel.
struct GramTask {
    Source features;  // [C, N]
    int64_t channels, first, last, first_panel, last_panel;
    float* partial;  // [padded C, padded C]
    float* scratch;  // gram_scratch(C) floats, aligned to 64 bytes
};

// G[i, j] = scale * sum_s partials[s][i, j] for first <= i < last, mirrored; D = G - A; loss = sum
// D^2.
struct ReduceTask {
    const float* partials;  // [slots, padded C, padded C]
    int64_t slots, channels, first, last;
    float scale;
    float* gram;          // [C, C] or null
    const float* target;  // [C, C] or null
    float* difference;    // [C, C] or null
    double* loss;
};

// Packs rows (or columns) first <= i < last of S = (D + D^T) / 2 as the gradient wants them.
struct PackTask {
    const float* difference;  // [C, C]
    int64_t channels, first, last;
    int bfloat16;             // type of the features
    int channels_contiguous;  // layout of the features
    float* packed;
};

// out[c, n] = (accumulate ? out[c, n] : 0) + scale * mask(F[c, n]) * sum_k S[c, k] F[k, n].
struct GradientTask {
    Source features;  // [C, N]
    Source out;       // [C, N], written
    const float* packed;
    int64_t channels, first, last;  // positions
    float scale;
    int relu_mask, accumulate, channels_contiguous;
    float* scratch;  // gradient_scratch(C) floats, aligned to 64 bytes
};

struct KernelTable {
    const char* name;
    int64_t pack_step;                    // first of a PackTask is a multiple of it
    int64_t (*padded)(int64_t channels);  // C rounded up to whole vectors
    int64_t (*panels)(int64_t channels);  // how many column panels a Gram has
    int64_t (*panel_begin)(int64_t channels, int64_t panel);
    int64_t (*gram_scratch)(int64_t channels);
    int64_t (*gradient_scratch)(int64_t channels);
    int64_t (*gradient_block)(int64_t channels);  // positions that a GradientTask does at a time
    void (*gram)(const GramTask& task);
    void (*reduce)(const ReduceTask& task);
    void (*pack)(const PackTask& task);
    void (*gradient)(const GradientTask& task);
};

}  // namespace fastnst
