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

// Input channels in one run over a register tile: 128 x 64 weights are 32 KiB, and stay in the L1
// cache while the tiles of a block pass by.
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
                float* out = task.out + (i * kPatch + j) * task.out_plane + ci * kPanel;
                for (int lane = 0; lane < kPanel; ++lane)
                    out[lane] = static_cast<float>(G[j][0] * columns[i][0][lane] +
                                                   G[j][1] * columns[i][1][lane] +
                                                   G[j][2] * columns[i][2][lane]);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- input --

// One patch, all channels. Inside: no test for the border, where the input is zero.
template <bool kInside>
inline void input_patch(const WinogradInputTask& task, const Position& at, float* out) {
    const TileGrid& grid = task.grid;
    const int64_t row = grid.width * task.channels;
    const float* origin =
        task.input +
        ((at.picture * grid.height + at.y - 1) * grid.width + at.x - 1) * task.channels;
    for (int64_t c = 0; c < task.channels; c += kWidth) {
        Vec columns[kPatch][kPatch];  // [j][i]
        for (int j = 0; j < kPatch; ++j) {
            Vec d[kPatch];
            for (int i = 0; i < kPatch; ++i) {
                const int64_t y = at.y - 1 + i, x = at.x - 1 + j;
                const bool valid =
                    kInside || (y >= 0 && y < grid.height && x >= 0 && x < grid.width);
                d[i] = valid ? load(origin + i * row + j * task.channels + c) : zero();
            }
            transform_input(d[0], d[1], d[2], d[3], d[4], d[5], columns[j]);
        }
        for (int i = 0; i < kPatch; ++i) {
            Vec v[kPatch];
            transform_input(columns[0][i], columns[1][i], columns[2][i], columns[3][i],
                            columns[4][i], columns[5][i], v);
            for (int j = 0; j < kPatch; ++j)
                store(out + (i * kPatch + j) * task.out_plane + c, v[j]);
        }
    }
}

void winograd_input(const WinogradInputTask& task) {
    for (int64_t tile = task.first; tile < task.last; ++tile) {
        const Position at = position(task.grid, tile);
        float* out = task.out + (tile - task.first) * task.channels;
        const bool inside = at.y > 0 && at.x > 0 && at.y + kTile < task.grid.height &&
                            at.x + kTile < task.grid.width;
        if (inside)
            input_patch<true>(task, at, out);
        else
            input_patch<false>(task, at, out);
    }
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

inline Vec pool(const WinogradOutputTask& task, Vec a, Vec b, Vec c, Vec d) {
    if (task.pooling == 2) return max(max(a, b), max(c, d));
    const float quarter = 0.25f;
    return multiply(broadcast(&quarter), add(add(a, b), add(c, d)));
}

inline void output_tile(const WinogradOutputTask& task, const Position& at, const float* products,
                        int64_t plane) {
    const TileGrid& grid = task.grid;
    const int64_t channels = task.channels_out, down = min(kTile, grid.height - at.y),
                  across = min(kTile, grid.width - at.x);
    const int64_t origin = ((at.picture * grid.height + at.y) * grid.width + at.x) * channels;
    const int64_t pooled_down = min(2, grid.height / 2 - at.y / 2),
                  pooled_across = min(2, grid.width / 2 - at.x / 2);
    const int64_t pooled_origin =
        ((at.picture * (grid.height / 2) + at.y / 2) * (grid.width / 2) + at.x / 2) * channels;
    for (int64_t c = 0; c < task.panels * kPanel; c += kWidth) {
        Vec columns[kPatch][kTile], out[kTile][kTile];
        for (int j = 0; j < kPatch; ++j) {
            const float* m = products + j * plane + c;
            const int64_t step = kPatch * plane;
            transform_output(load(m), load(m + step), load(m + 2 * step), load(m + 3 * step),
                             load(m + 4 * step), load(m + 5 * step), columns[j]);
        }
        const int64_t channel = task.first_out + c;
        const Vec bias = task.bias ? load(task.bias + channel) : zero();
        for (int i = 0; i < kTile; ++i) {
            transform_output(columns[0][i], columns[1][i], columns[2][i], columns[3][i],
                             columns[4][i], columns[5][i], out[i]);
            for (int j = 0; j < kTile; ++j) {
                const bool stored = i < down && j < across;
                const int64_t offset = origin + (i * grid.width + j) * channels + channel;
                Vec y = add(out[i][j], bias);
                if (task.preactivation && stored) store(task.preactivation + offset, y);
                if (task.relu) y = zero_unless_positive(y, y);
                if (task.mask && stored) y = zero_unless_positive(y, load(task.mask + offset));
                if (stored) store(task.out + offset, y);
                out[i][j] = y;
            }
        }
        if (!task.pooling) continue;
        for (int i = 0; i < pooled_down; ++i) {
            for (int j = 0; j < pooled_across; ++j) {
                store(task.pooled + pooled_origin + (i * (grid.width / 2) + j) * channels + channel,
                      pool(task, out[2 * i][2 * j], out[2 * i][2 * j + 1], out[2 * i + 1][2 * j],
                           out[2 * i + 1][2 * j + 1]));
            }
        }
    }
}

void winograd_output(const WinogradOutputTask& task) {
    const int64_t tiles = task.last - task.first;
    const int64_t plane = product_plane(tiles, task.panels), columns = task.panels * kPanel;
    // M[k] = V[k] U[k]
    for (int64_t k = 0; k < kProducts; ++k) {
        const float* weights = task.weights + k * columns * task.channels_in;
        for (int64_t depth = 0; depth < task.channels_in; depth += kDepth) {
            product(tiles, min(kDepth, task.channels_in - depth), task.panels,
                    task.input + k * task.input_plane + depth, task.channels_in,
                    weights + depth * kPanel, task.channels_in * kPanel, task.scratch + k * plane,
                    columns, depth > 0);
        }
    }
    for (int64_t tile = task.first; tile < task.last; ++tile) {
        output_tile(task, position(task.grid, tile), task.scratch + (tile - task.first) * columns,
                    plane);
    }
}

}  // namespace

extern const WinogradTable winograd_table;
const WinogradTable winograd_table = {winograd_scratch, winograd_weights, winograd_input,
                                      winograd_output};

}  // namespace FASTNST_ISA
}  // namespace fastnst
