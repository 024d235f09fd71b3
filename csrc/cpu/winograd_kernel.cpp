// 3x3 convolution with stride 1 and padding 1 by Winograd's F(4x4, 3x3) (Lavin & Gray,
// arXiv:1509.09308), compiled once per instruction set.
//
// A tile of 4x4 outputs depends on a patch d of 6x6 inputs:
//
//     Y = A^T [ sum over ci of (G g G^T) * (B^T d B) ] A        * elementwise: 36 products, not 144
//
// so that a layer is 36 matrix products M[k] = V[k] U[k], tiles x ci times ci x co, between two
// cheap transforms. The interpolation points are 0, +-sqrt(2), +-1/sqrt(2) and infinity: with
// 0, +-1, +-2 the entries of the matrices reach 8, with these 2.9, which halves the error.
//
//     B^T = 1   0   -5/2   0    1   0       G = 1                             A^T = 1  1   1  1   1
//     0
//           0  -b   -1/2   a    1   0           1/6 [ 1  a   2  ]                   0  a  -a  b  -b
//           0 0   b   -1/2  -a    1   0           1/6 [ 1 -a   2  ]                   0  2   2 1/2
//           1/2 0 0  -a   -2     b    1   0          -2/3 [ 1  b  1/2 ]                   0 2a -2a
//           b/2 -b/2 1 0   a   -2    -b    1   0          -2/3 [ 1 -b  1/2 ]      a = sqrt(2), b =
//           1/sqrt(2) 0   1    0   -5/2   0   1           0   0   1

#include "kernels.h"
#include "product.h"
#include "simd.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

constexpr int kPatch = 6, kTile = 4, kProducts = kPatch * kPatch;
constexpr double kA = 1.41421356237309504880, kB = 0.70710678118654752440;

// Input channels (or pairs of bfloat16) in one run over a register tile: 128 x 64 weights are 32
// KiB, and stay in the L1 cache while the tiles of a block pass by.
constexpr int64_t kDepth = 128;

// ----------------------------------------------------------------------------------- transforms --

// B^T x
inline void transform_input(const Vec x0, const Vec x1, const Vec x2, const Vec x3, const Vec x4,
                            const Vec x5, Vec (&y)[kPatch]) {
    const float constants[] = {-2.5f,
                               -0.5f,
                               -2.0f,
                               static_cast<float>(kA),
                               static_cast<float>(kB),
                               static_cast<float>(-kA),
                               static_cast<float>(-kB)};
    const Vec m52 = broadcast(constants), m12 = broadcast(constants + 1),
              m2 = broadcast(constants + 2), a = broadcast(constants + 3),
              b = broadcast(constants + 4), ma = broadcast(constants + 5),
              mb = broadcast(constants + 6);
    const Vec even_a = multiply_add(m12, x2, x4), odd_a = multiply_add(a, x3, multiply(mb, x1));
    const Vec even_b = multiply_add(m2, x2, x4), odd_b = multiply_add(b, x3, multiply(ma, x1));
    y[0] = multiply_add(m52, x2, add(x0, x4));
    y[1] = add(even_a, odd_a);
    y[2] = subtract(even_a, odd_a);
    y[3] = add(even_b, odd_b);
    y[4] = subtract(even_b, odd_b);
    y[5] = multiply_add(m52, x3, add(x1, x5));
}

// A^T x
inline void transform_output(const Vec x0, const Vec x1, const Vec x2, const Vec x3, const Vec x4,
                             const Vec x5, Vec (&y)[kTile]) {
    const float constants[] = {2.0f,
                               0.5f,
                               static_cast<float>(kA),
                               static_cast<float>(kB),
                               static_cast<float>(2 * kA),
                               static_cast<float>(kB / 2)};
    const Vec c2 = broadcast(constants), c12 = broadcast(constants + 1),
              a = broadcast(constants + 2), b = broadcast(constants + 3),
              a3 = broadcast(constants + 4), b3 = broadcast(constants + 5);
    const Vec even_a = add(x1, x2), odd_a = subtract(x1, x2);
    const Vec even_b = add(x3, x4), odd_b = subtract(x3, x4);
    y[0] = add(x0, add(even_a, even_b));
    y[1] = multiply_add(a, odd_a, multiply(b, odd_b));
    y[2] = multiply_add(c2, even_a, multiply(c12, even_b));
    y[3] = multiply_add(a3, odd_a, multiply_add(b3, odd_b, x5));
}

struct Position {
    int64_t picture, y, x;  // of the tile's first output
};

inline Position position(const TileGrid& grid, int64_t tile) {
    const int64_t row = tile / grid.across;
    return {row / grid.down, row % grid.down * kTile, tile % grid.across * kTile};
}

void winograd_weights(const WinogradWeightsTask& task) {
    constexpr double G[kPatch][3] = {{1, 0, 0},
                                     {1. / 6, kA / 6, 2. / 6},
                                     {1. / 6, -kA / 6, 2. / 6},
                                     {-2. / 3, -2. / 3 * kB, -1. / 3},
                                     {-2. / 3, 2. / 3 * kB, -1. / 3},
                                     {0, 0, 1}};
    for (int64_t ci = 0; ci < task.channels_in; ++ci) {
        double g[3][3][kPanel], columns[kPatch][3][kPanel];
        for (int lane = 0; lane < kPanel; ++lane) {
            const float* filter =
                task.filters + (task.first_out + lane) * task.out_stride + ci * task.in_stride;
            for (int tap = 0; tap < 9; ++tap)
                g[tap / 3][tap % 3][lane] = static_cast<double>(filter[tap * task.tap_step]);
        }
        for (int i = 0; i < kPatch; ++i) {
            for (int v = 0; v < 3; ++v) {
                for (int lane = 0; lane < kPanel; ++lane)
                    columns[i][v][lane] =
                        G[i][0] * g[0][v][lane] + G[i][1] * g[1][v][lane] + G[i][2] * g[2][v][lane];
            }
        }
        for (int i = 0; i < kPatch; ++i) {
            for (int j = 0; j < kPatch; ++j) {
                const int64_t plane = (i * kPatch + j) * task.out_plane;
                for (int lane = 0; lane < kPanel; ++lane) {
                    const float u = static_cast<float>(G[j][0] * columns[i][0][lane] +
                                                       G[j][1] * columns[i][1][lane] +
                                                       G[j][2] * columns[i][2][lane]);
                    if (task.bfloat16)  // pairs of input channels
                        static_cast<bf16*>(
                            task.out)[plane + ci / 2 * 2 * kPanel + 2 * lane + ci % 2] = to_bf16(u);
                    else
                        static_cast<float*>(task.out)[plane + ci * kPanel + lane] = u;
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- input --

// One patch, all channels. Inside: no test for the border, where the input is zero.
// (Fields of a task are copied to local variables: a store could change them for all the compiler
// knows.)
template <class T, bool kInside>
inline void input_patch(const WinogradInputTask& task, const Position& at, T* out) {
    const int64_t height = task.grid.height, width = task.grid.width, channels = task.channels,
                  plane = task.out_plane;
    const T* origin = static_cast<const T*>(task.input) +
                      ((at.picture * height + at.y - 1) * width + at.x - 1) * channels;
    for (int64_t c = 0; c < channels; c += kWidth) {
        Vec columns[kPatch][kPatch];  // [j][i]
        for (int j = 0; j < kPatch; ++j) {
            Vec d[kPatch];
            for (int i = 0; i < kPatch; ++i) {
                const int64_t y = at.y - 1 + i, x = at.x - 1 + j;
                const bool valid = kInside || (y >= 0 && y < height && x >= 0 && x < width);
                d[i] = valid ? load(origin + (i * width + j) * channels + c) : zero();
            }
            transform_input(d[0], d[1], d[2], d[3], d[4], d[5], columns[j]);
        }
        T* next = out + c;
        for (int i = 0; i < kPatch; ++i) {
            Vec v[kPatch];
            transform_input(columns[0][i], columns[1][i], columns[2][i], columns[3][i],
                            columns[4][i], columns[5][i], v);
            for (int j = 0; j < kPatch; ++j) {
                store(next, v[j]);
                next += plane;
            }
        }
    }
}

template <class T>
void transform_patches(const WinogradInputTask& task) {
    for (int64_t tile = task.first; tile < task.last; ++tile) {
        const Position at = position(task.grid, tile);
        T* out = static_cast<T*>(task.out) + (tile - task.first) * task.channels;
        const bool inside = at.y > 0 && at.x > 0 && at.y + kTile < task.grid.height &&
                            at.x + kTile < task.grid.width;
        if (inside)
            input_patch<T, true>(task, at, out);
        else
            input_patch<T, false>(task, at, out);
    }
}

void winograd_input(const WinogradInputTask& task) {
#ifdef FASTNST_ISA_AVX512BF16
    if (task.bfloat16) return transform_patches<bf16>(task);
#endif
    transform_patches<float>(task);
}

// --------------------------------------------------------------------------------------- output --

// Products are 16 floats more than a power of two apart: else the 36 planes, written and read
// together, would meet in the same lines of the L1 cache.
inline int64_t product_plane(int64_t tiles, int64_t panels) {
    return tiles * panels * kPanel + 16;
}

int64_t winograd_scratch(int64_t tiles) {
    return kProducts * product_plane(tiles, kMostPanels);
}

// One tile, all channels of the task. Whole: no part of it lies beyond the picture.
template <class T, bool kWhole>
inline void output_tile(const WinogradOutputTask& task, const Position& at, const float* products,
                        int64_t plane) {
    const int64_t height = task.grid.height, width = task.grid.width, channels = task.channels_out;
    const int64_t down = min(kTile, height - at.y), across = min(kTile, width - at.x);
    const int64_t origin =
        ((at.picture * height + at.y) * width + at.x) * channels + task.first_out;
    const float* bias = task.bias ? task.bias + task.first_out : nullptr;
    const T* mask = static_cast<const T*>(task.mask);
    T *preactivation = static_cast<T*>(task.preactivation), *out = static_cast<T*>(task.out),
      *pooled = static_cast<T*>(task.pooled);
    const bool relu = task.relu, max_pooling = task.pooling == 2;
    const float quarter = 0.25f;
    for (int64_t c = 0; c < task.panels * kPanel; c += kWidth) {
        Vec columns[kPatch][kTile], y[kTile][kTile];
        const int64_t step = kPatch * plane;
        for (int j = 0; j < kPatch; ++j) {
            const float* m = products + j * plane + c;
            transform_output(load(m), load(m + step), load(m + 2 * step), load(m + 3 * step),
                             load(m + 4 * step), load(m + 5 * step), columns[j]);
        }
        const Vec b = bias ? load(bias + c) : zero();
        for (int i = 0; i < kTile; ++i) {
            transform_output(columns[0][i], columns[1][i], columns[2][i], columns[3][i],
                             columns[4][i], columns[5][i], y[i]);
            for (int j = 0; j < kTile; ++j) {
                const bool stored = kWhole || (i < down && j < across);
                const int64_t offset = origin + (i * width + j) * channels + c;
                y[i][j] = add(y[i][j], b);
                if (preactivation && stored) store(preactivation + offset, y[i][j]);
                if (relu) y[i][j] = zero_unless_positive(y[i][j], y[i][j]);
                if (mask && stored) y[i][j] = zero_unless_positive(y[i][j], load(mask + offset));
                if (stored) store(out + offset, y[i][j]);
            }
        }
        if (!pooled) continue;
        for (int i = 0; i < kTile / 2 && at.y / 2 + i < height / 2; ++i) {
            for (int j = 0; j < kTile / 2 && at.x / 2 + j < width / 2; ++j) {
                const Vec *above = y[2 * i] + 2 * j, *below = y[2 * i + 1] + 2 * j;
                const int64_t window =
                    (at.picture * (height / 2) + at.y / 2 + i) * (width / 2) + at.x / 2 + j;
                store(pooled + window * channels + task.first_out + c,
                      max_pooling ? max(max(above[0], above[1]), max(below[0], below[1]))
                                  : multiply(broadcast(&quarter), add(add(above[0], above[1]),
                                                                      add(below[0], below[1]))));
            }
        }
    }
}

template <class T>
void multiply_and_transform(const WinogradOutputTask& task) {
    constexpr int64_t kEach = kPerUnit<T>;
    const int64_t tiles = task.last - task.first, units = task.channels_in / kEach;
    const int64_t plane = product_plane(tiles, task.panels), columns = task.panels * kPanel;
    const float* input = static_cast<const float*>(task.input);  // or pairs of bfloat16
    // M[k] = V[k] U[k]
    for (int64_t k = 0; k < kProducts; ++k) {
        const float* weights = static_cast<const float*>(task.weights) + k * columns * units;
        for (int64_t depth = 0; depth < units; depth += kDepth) {
            product<T>(tiles, min(kDepth, units - depth), task.panels,
                       input + k * task.input_plane / kEach + depth, units,
                       weights + depth * kPanel, units * kPanel, task.scratch + k * plane, columns,
                       depth > 0);
        }
    }
    for (int64_t tile = task.first; tile < task.last; ++tile) {
        const Position at = position(task.grid, tile);
        const float* products = task.scratch + (tile - task.first) * columns;
        if (at.y + kTile <= task.grid.height && at.x + kTile <= task.grid.width)
            output_tile<T, true>(task, at, products, plane);
        else
            output_tile<T, false>(task, at, products, plane);
    }
}

void winograd_output(const WinogradOutputTask& task) {
#ifdef FASTNST_ISA_AVX512BF16
    if (task.bfloat16) return multiply_and_transform<bf16>(task);
#endif
    multiply_and_transform<float>(task);
}

}  // namespace

extern const WinogradTable winograd_table;
#ifdef FASTNST_ISA_AVX512BF16
const WinogradTable winograd_table = {1, winograd_scratch, winograd_weights, winograd_input,
                                      winograd_output};
#else
const WinogradTable winograd_table = {0, winograd_scratch, winograd_weights, winograd_input,
                                      winograd_output};
#endif

}  // namespace FASTNST_ISA
}  // namespace fastnst
