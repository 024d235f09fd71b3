// What the baseline code in csrc/cpu (tasks and threads) and the kernels (one object per
// instruction set) share: plain structs and tables of function pointers. No STL in this folder: a
// template or an inline function instantiated in a kernel object could be the copy that the linker
// keeps for everybody.
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

// For the rows first <= i < last and their mirror images:
//
//     G[i, j] = scale * sum_s partials[s][i, j],    D = G - A,    loss = sum of D[i, j]^2
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

// What is multiplied: floats, bfloat16 or integers of 16 bits.
enum class Products : int { floats, bfloat16, integers };

// Channels whose products are summed in integers. The sums of several such groups are floats.
constexpr int64_t kIntegerChannels = 128;

// The lengths (roots of sums of squares) of a patch and of a filter in integers, over such a group.
// Rounding adds up to 6 to each, so that by Cauchy and Schwarz no sum of their products reaches
// 2^31: 32756 * 65546 < 2^31. Nor does an integer of a patch exceed 16 bits.
constexpr double kPatchLength = 32750, kFilterLength = 65540;

// Factors of a patch in integers for each group: as many as products, to the next multiple of 16.
constexpr int64_t kFactors = 48;

// A 3x3 convolution over channels_last pictures, cut into tiles of m x m output positions, m = 4 or
// 6, numbered row by row, picture by picture. It takes (m + 2)^2 products. Channels are multiples
// of 16.
struct TileGrid {
    int64_t height, width, down, across;  // of one picture, in positions and in tiles
};

// U[k, ci, co] = (G g G^T)[k] for the (m + 2)^2 products k, the panel of 16 output channels co at
// first_out and all ci. The filter g of (co, ci) starts at
// filters[co * out_stride + ci * in_stride], its taps lie tap_step (1, or -1: flipped) apart.
//
// In integers, for the groups g of kIntegerChannels channels ci each:
//
//     U[k, ci, co] = round(u / step[k, co])
//     step[k, co] = max( max over ci |u| / 32767, max over g |u of g| / kFilterLength )
struct WinogradWeightsTask {
    Products products;  // type of `out`
    const float* filters;
    int64_t out_stride, in_stride, tap_step;
    int64_t channels_in, first_out;
    void* out;  // [(m + 2)^2][channels_in][16], or pairs [(m + 2)^2][channels_in / 2][16][2]: of
                // neighbouring channels, in integers of those 16 apart (zipped_pair, winograd.cpp)
    int64_t out_plane;  // distance of products
    float* steps;       // integers: [(m + 2)^2][channels_out] from first_out on
    int64_t channels_out;
};

// V[k, t, c] = (B^T d B)[k] for the tiles first <= t < last and all channels c. With `positive` the
// input p is the gradient of 2x2 average pooling, [B, H / 2, W / 2, C], and
//
//     d[y, x] = bit of [y, x] set ? p[y / 2, x / 2] / 4 : 0
//
// In integers, for the groups g of channels:
//
//     V[k, t, c] = round((B^T d B)[k] / factor[t, g, k])
//     factor[t, g, k] = |(B^T d B)[k] of g| / kPatchLength
struct WinogradInputTask {
    int bfloat16;       // type of `input`
    Products products;  // type of `out`: as that of `input`, or another
    TileGrid grid;
    const void* input;         // [B, H, W, C]
    const uint16_t* positive;  // [B, H, W, C / 16], a bit for each channel; or null
    int64_t channels, first, last;
    int flipped;        // d upside down and left to right
    void* out;          // [(m + 2)^2][tiles][C], at tile `first`, in integers with zipped pairs
    int64_t out_plane;  // distance of products
    float* factors;     // integers: [tiles][groups][kFactors], at tile `first`, written
};

// out = A^T (sum over ci of V U) A + bias, for the tiles first <= t < last and the `panels` panels
// of 16 output channels from first_out on; then, where asked for, ReLU, mask and pooling.
//
// transposed: the way back through a layer, with the weights of the way forward:
//
//     x * flipped, transposed w = flipped (flipped x * transposed w),
//
// so V is of flipped patches, U[k] is read transposed, and what A^T .. A gives is written flipped.
struct WinogradOutputTask {
    int bfloat16;       // type of `mask`, `preactivation`, `out` and `pooled`
    Products products;  // type of `input` and `weights`
    TileGrid grid;
    const void* input;     // V at tile `first`: [(m + 2)^2][tiles][channels_in]
    int64_t input_plane;   // distance of products
    const float* factors;  // integers: of the input, at tile `first`
    const float* steps;    // integers: of the weights, [(m + 2)^2][channels_out]
    const void* weights;   // U of these panels: [(m + 2)^2][panels][channels_in][16];
                           // transposed: all of U, from channels_out to channels_in
    int transposed;        // products of float only, without pooling
    int64_t channels_in, channels_out, first_out, panels, first, last;
    const float* bias;    // [channels_out] or null
    const void* mask;     // [B, H, W, channels_out] or null: 0 where mask <= 0
    int relu, pooling;    // pooling: 0 none, 1 average, 2 max
    int streamed;         // write `out`, aligned to 64 bytes, past the caches
    void* preactivation;  // [B, H, W, channels_out] or null
    void* out;            // [B, H, W, channels_out], or null
    void* pooled;         // [B, H / 2, W / 2, channels_out]
    uint16_t* positive;   // [B, H, W, channels_out / 16] or null: a bit set where out > 0
    float* scratch;       // scratch(tiles) floats
};

// One row of the first layer: out[x, co] = relu(bias + sum over 27 taps), and its preactivation.
struct ImageRowTask {
    const float* image;  // [3, H, W] of one picture
    int64_t height, width, row, channels_out;
    const float* weights;  // [channels_out / 16][27][16], taps in the order (c, u, v)
    const float* bias;     // [channels_out]
    int bfloat16;          // type of `preactivation` and `out`
    void* preactivation;   // [H, W, channels_out] or null
    void* out;             // [H, W, channels_out] of one picture
    int streamed;          // write `out`, aligned to 64 bytes, past the caches
    float* scratch;        // image_scratch(width) floats
};

// Rows first <= y < last of the first layer's input gradient.
struct ImageGradientTask {
    int bfloat16;          // type of `gradient`
    const void* gradient;  // [H, W, channels] of one picture
    int64_t height, width, channels, first, last;
    const float* weights;  // [2][channels][16]: columns 3 * (3u + v) + c, then five zeros
    float* out;            // [3, H, W] of one picture
    float* scratch;        // image_gradient_scratch(width, channels) floats
};

// Rows first <= y < last of pooled windows: the gradient of ReLU and 2x2 pooling together,
// out = mask(F) * (average: pooled / 4; max: pooled at the first largest of each window, else 0).
struct UnpoolTask {
    int bfloat16;          // type of all three
    const void* pooled;    // [H / 2, W / 2, C] of one picture
    const void* features;  // F [H, W, C]
    int64_t height, width, channels, first, last;
    int max_pooling, relu_mask;
    void* out;     // [H, W, C]
    int streamed;  // write `out`, aligned to 64 bytes, past the caches
};

// A stretch of kHistoryChunk values of every row of a history; x and out have `count` of them.
constexpr int64_t kHistoryChunk = 4096, kHistoryBlock = 64;
struct HistoryTask {
    int8_t* values;        // [rows][kHistoryChunk]
    float* scales;         // [rows][kHistoryChunk / kHistoryBlock]
    int64_t first, last;   // rows
    int64_t count;         // at most kHistoryChunk
    const float* x;        // store, products
    const float* weights;  // [last]: combination
    double* products;      // [last]
    float* out;            // combination
};

// A stretch of a sum over a picture, of `count` values, at most kSumsChunk.
constexpr int64_t kSumsChunk = 16384;
struct SumTask {
    const float* x;
    const float* y;  // dot, squared distance
    int64_t count;
    double sum;  // written
};

struct SumsTable {
    void (*absolute)(SumTask& task);
    void (*dot)(SumTask& task);
    void (*squared_distance)(SumTask& task);
};

struct HistoryTable {
    void (*store)(const HistoryTask& task);
    void (*products)(const HistoryTask& task);
    void (*combination)(const HistoryTask& task);
};

struct WinogradTable {
    int tile;      // m
    int bfloat16;  // whether products may be in bfloat16
    int integers;  // whether products may be of integers, where the processor has them
    int64_t (*scratch)(int64_t tiles);
    void (*weights)(const WinogradWeightsTask& task);
    void (*input)(const WinogradInputTask& task);
    void (*output)(const WinogradOutputTask& task);
};

struct DirectTable {
    int64_t (*image_scratch)(int64_t width);
    int64_t (*image_gradient_scratch)(int64_t width, int64_t channels);
    void (*image_row)(const ImageRowTask& task);
    void (*image_gradient)(const ImageGradientTask& task);
    void (*unpool)(const UnpoolTask& task);
};

struct GramTable {
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

// All kernels of one instruction set.
struct KernelTable {
    const char* name;
    const GramTable* gram;
    const WinogradTable* winograd;  // [2]: for m = 4 and m = 6
    const DirectTable* direct;
    const HistoryTable* history;
    const SumsTable* sums;
};

}  // namespace fastnst
