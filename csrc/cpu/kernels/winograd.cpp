// 3x3 convolution with stride 1 and padding 1 by Winograd's F(m x m, 3x3), m = 4 or 6, compiled
// once per instruction set. winograd_transforms.h has the formula: a layer is (m + 2)^2 matrix
// products M[k] = V[k] U[k], tiles x ci times ci x co, between two cheap transforms.

#include "product.h"
#include "simd.h"
#include "table.h"
#include "winograd_transforms.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

template <int kTile>
constexpr int kPatchOf = kTile + 2;
template <int kTile>
constexpr int kProductsOf = kPatchOf<kTile> * kPatchOf<kTile>;

// In products of bfloat16 or integers the larger error of larger tiles would show.
#ifdef FASTNST_MULTIPLIES_PAIRS
template <int kTile>
constexpr bool kConvolvesBfloat16 = kTile == 4;
#else
template <int kTile>
constexpr bool kConvolvesBfloat16 = false;
#endif

#ifdef FASTNST_MULTIPLIES_INTEGERS
template <int kTile>
constexpr bool kConvolvesIntegers = kTile == 4;
#else
template <int kTile>
constexpr bool kConvolvesIntegers = false;
#endif

// Input channels (or pairs of bfloat16 or integers) in one run over a register tile: 128 x 64
// weights are 32 KiB, and stay in the L1 cache while the tiles of a block pass by.
template <class T>
constexpr int64_t kDepth = kIntegers<T> ? kIntegerChannels / 2 : 128;

struct Position {
    int64_t picture, y, x;  // of the tile's first output
};

template <int kTile>
inline Position position(const TileGrid& grid, int64_t tile) {
    const int64_t row = tile / grid.across;
    return {row / grid.down, row % grid.down * kTile, tile % grid.across * kTile};
}

// u[k][lane] = (G g G^T)[k] of 16 filters.
template <int kTile>
inline void transform_filters(const WinogradWeightsTask& task, int64_t ci,
                              double (&u)[kProductsOf<kTile>][kPanel]) {
    constexpr int kPatch = kPatchOf<kTile>;
    constexpr auto& G = Transform<kTile>::kFilter;
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
            for (int lane = 0; lane < kPanel; ++lane)
                u[i * kPatch + j][lane] = G[j][0] * columns[i][0][lane] +
                                          G[j][1] * columns[i][1][lane] +
                                          G[j][2] * columns[i][2][lane];
        }
    }
}

// steps[k, co] of the panel: such that no integer exceeds 16 bits, and no group of them is longer
// than kFilterLength.
template <int kTile>
void choose_steps(const WinogradWeightsTask& task, double (&steps)[kProductsOf<kTile>][kPanel]) {
    double u[kProductsOf<kTile>][kPanel], squares[kProductsOf<kTile>][kPanel];
    double most[kProductsOf<kTile>][kPanel] = {};  // of `squares`
    memset(steps, 0, sizeof(steps));
    for (int64_t ci = 0; ci < task.channels_in; ++ci) {
        if (ci % kIntegerChannels == 0) memset(squares, 0, sizeof(squares));
        transform_filters<kTile>(task, ci, u);
        for (int64_t k = 0; k < kProductsOf<kTile>; ++k) {
            for (int lane = 0; lane < kPanel; ++lane) {
                const double magnitude = u[k][lane] < 0 ? -u[k][lane] : u[k][lane];
                double &square = squares[k][lane], &largest = steps[k][lane];
                square += magnitude * magnitude;
                // a NaN stays
                if (!(square <= most[k][lane] || most[k][lane] != most[k][lane]))
                    most[k][lane] = square;
                if (!(magnitude <= largest || largest != largest)) largest = magnitude;
            }
        }
    }
    for (int64_t k = 0; k < kProductsOf<kTile>; ++k) {
        for (int lane = 0; lane < kPanel; ++lane) {
            const double of_one = steps[k][lane] / 32767,
                         of_group = __builtin_sqrt(most[k][lane]) / kFilterLength;
            steps[k][lane] = of_one > of_group ? of_one : of_group;
            task.steps[k * task.channels_out + task.first_out + lane] =
                static_cast<float>(steps[k][lane]);
        }
    }
}

template <int kTile>
void winograd_weights(const WinogradWeightsTask& task) {
    double u[kProductsOf<kTile>][kPanel], steps[kProductsOf<kTile>][kPanel];
    if (task.products == Products::integers) choose_steps<kTile>(task, steps);
    for (int64_t ci = 0; ci < task.channels_in; ++ci) {
        transform_filters<kTile>(task, ci, u);
        for (int64_t k = 0; k < kProductsOf<kTile>; ++k) {
            const int64_t plane = k * task.out_plane;
            for (int lane = 0; lane < kPanel; ++lane) {
                const float value = static_cast<float>(u[k][lane]);
                // pairs of input channels
                const int64_t paired = plane + ci / 2 * 2 * kPanel + 2 * lane + ci % 2;
                if (task.products == Products::floats) {
                    static_cast<float*>(task.out)[plane + ci * kPanel + lane] = value;
                } else if (task.products == Products::bfloat16) {
                    static_cast<bf16*>(task.out)[paired] = to_bf16(value);
                } else {
                    const double step = steps[k][lane],
                                 q = step > 0 && step <= 1e300 ? u[k][lane] / step : 0;
                    static_cast<int16_t*>(task.out)[paired] =
                        static_cast<int16_t>(q < 0 ? q - 0.5 : q + 0.5);
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- input --

// One patch, `count` channels from `first` on. Inside: no test for the border, where the input is
// zero. Pooled: the gradient of average pooling and of the ReLU before it. T is the type of the
// input, P that of the products, which are written `plane` apart.
// (Fields of a task are copied to local variables: a store could change them for all the compiler
// knows.)
template <class T, class P, int kTile, bool kInside, bool kPooled>
inline void input_patch(const WinogradInputTask& task, const Position& at, int64_t first,
                        int64_t count, P* out, int64_t plane) {
    constexpr int kPatch = kPatchOf<kTile>;
    const int64_t height = task.grid.height, width = task.grid.width, channels = task.channels;
    const int64_t step = task.flipped ? -1 : 1, corner = task.flipped ? kTile : -1;
    const int64_t top = at.y + corner, left = at.x + corner;
    const T* origin = static_cast<const T*>(task.input);
    const uint16_t* bits = nullptr;
    const int64_t down = height / 2, across = width / 2;  // windows
    if constexpr (kPooled) {
        origin += at.picture * down * across * channels;
        bits = task.positive + at.picture * height * width * (channels / kPanel);
    } else {
        origin += ((at.picture * height + top) * width + left) * channels;
    }
    const float quarter_value = 0.25f;
    const Vec quarter = broadcast(&quarter_value);
    // What the next tile of the row does not share with this one is fetched on the way: 0.85 of the
    // time for 64 and 128 channels. Of more the lines would not stay in the L1 cache.
    const bool fetches = channels <= 128;
    for (int64_t c = first; c < first + count; c += kWidth) {
        Vec columns[kPatch][kPatch];  // [j][i]
        for (int j = 0; j < kPatch; ++j) {
            Vec d[kPatch];
            for (int i = 0; i < kPatch; ++i) {
                const int64_t y = top + step * i, x = left + step * j;
                if constexpr (kPooled) {
                    // an odd last row or column is in no window
                    const bool valid =
                        kInside || (y >= 0 && y < 2 * down && x >= 0 && x < 2 * across);
                    d[i] = zero();
                    if (!valid) continue;
                    const uint32_t set =
                        bits[(y * width + x) * (channels / kPanel) + c / kPanel] >> c % kPanel;
                    d[i] = select_scaled(
                        set, load(origin + (y / 2 * across + x / 2) * channels + c), quarter);
                } else {
                    const bool valid = kInside || (y >= 0 && y < height && x >= 0 && x < width);
                    const T* value = origin + step * (i * width + j) * channels + c;
                    if (kInside && fetches && (task.flipped ? j < kTile : j > 1))
                        prefetch(value + kTile * channels);
                    d[i] = valid ? load(value) : zero();
                }
            }
            Transform<kTile>::input(d, columns[j]);
        }
        P* next = out + c - first;
        for (int i = 0; i < kPatch; ++i) {
            Vec row[kPatch], v[kPatch];
            for (int j = 0; j < kPatch; ++j) row[j] = columns[j][i];
            Transform<kTile>::input(row, v);
            for (int j = 0; j < kPatch; ++j) {
                store(next, v[j]);
                next += plane;
            }
        }
    }
}

#ifdef FASTNST_MULTIPLIES_INTEGERS
// |v|, where v is multiplied with `scale`, a power of two, while squares are added up.
inline float length_of(const float* v, int64_t count, float scale) {
    const Vec factor = broadcast(&scale);
    Vec sums = zero();
    for (int64_t c = 0; c < count; c += kWidth) {
        const Vec x = multiply(factor, load(v + c));
        sums = multiply_add(x, x, sums);
    }
    float squares[kWidth], sum = 0;
    store(squares, sums);
    for (int lane = 0; lane < kWidth; ++lane) sum += squares[lane];
    return __builtin_sqrtf(sum) / scale;
}

// Of at most kWidth products of a group of channels: what the numbers v are multiplied with to be
// integers, and what those stand for. squares: of each, their sum. Where it is too small or too
// large for floats, or not finite, it is computed again. If numbers are not finite, or so large
// that sums of their products would not be, what they stand for is NaN; if they are too small to be
// divided by, 0.
inline void choose_factors(Vec squares, int64_t products, const float* v, int64_t count,
                           float* scales, float* factors) {
    constexpr float kLength = static_cast<float>(kPatchLength), kLarge = 0x1p60f;
    const Vec lengths = square_root(squares);
    store(scales, divide(broadcast(&kLength), lengths));
    store(factors, divide(lengths, broadcast(&kLength)));
    if (all_within(squares, 1e-30f, 1e30f, products)) return;
    float sums[kWidth];
    store(sums, squares);
    for (int64_t k = 0; k < products; ++k) {
        if (sums[k] >= 1e-30f && sums[k] <= 1e30f) continue;
        const float length =
            length_of(v + k * kIntegerChannels, count, sums[k] < 1 ? kLarge : 1 / kLarge);
        const bool small = length < 1e-33f, usable = length <= 1e32f && !small;
        scales[k] = usable ? kLength / length : 0;
        factors[k] = usable ? length / kLength : small ? 0 : __builtin_nanf("");
    }
}

// V = round(v / factor) for a group of channels of one patch; v[k] is kIntegerChannels long.
template <int kTile>
inline void round_patch(const float* v, int64_t count, int16_t* out, int64_t plane,
                        float* factors) {
    constexpr int64_t kProducts = kProductsOf<kTile>;
    static_assert(kProducts <= kFactors && kFactors % kWidth == 0);
    for (int64_t first = 0; first < kProducts; first += kWidth) {
        const float* numbers = v + first * kIntegerChannels;
        const int64_t products = min(kWidth, kProducts - first);
        Vec sums[kWidth];
        for (int k = 0; k < kWidth; ++k) {
            sums[k] = zero();
            for (int64_t c = 0; k < products && c < count; c += kWidth) {
                const Vec x = load(numbers + k * kIntegerChannels + c);
                sums[k] = multiply_add(x, x, sums[k]);
            }
        }
        transpose(sums);
        for (int k = 1; k < kWidth; ++k) sums[0] = add(sums[k], sums[0]);
        alignas(64) float scales[kWidth];
        choose_factors(sums[0], products, numbers, count, scales, factors + first);
        for (int64_t k = 0; k < products; ++k) {
            const Vec scale = broadcast(scales + k);
            int16_t* to = out + (first + k) * plane;
            for (int64_t c = 0; c < count; c += kWidth)
                store(to + c, multiply(scale, load(numbers + k * kIntegerChannels + c)));
        }
    }
}

// As input_patch, all channels, in integers.
template <int kTile, bool kInside, bool kPooled>
inline void input_patch_in_integers(const WinogradInputTask& task, const Position& at, int16_t* out,
                                    float* factors) {
    alignas(64) float v[kProductsOf<kTile> * kIntegerChannels];  // B^T d B of a group
    for (int64_t first = 0; first < task.channels; first += kIntegerChannels) {
        const int64_t count = min(kIntegerChannels, task.channels - first);
        input_patch<float, float, kTile, kInside, kPooled>(task, at, first, count, v,
                                                           kIntegerChannels);
        round_patch<kTile>(v, count, out + first, task.out_plane, factors);
        factors += kFactors;
    }
}
#endif

// All channels of a patch; in integers also their factors.
template <class T, class P, int kTile, bool kInside, bool kPooled>
inline void whole_patch(const WinogradInputTask& task, const Position& at, P* out,
                        [[maybe_unused]] float* factors) {
#ifdef FASTNST_MULTIPLIES_INTEGERS
    if constexpr (kIntegers<P>)
        return input_patch_in_integers<kTile, kInside, kPooled>(task, at, out, factors);
#endif
    input_patch<T, P, kTile, kInside, kPooled>(task, at, 0, task.channels, out, task.out_plane);
}

template <class T, class P, int kTile, bool kPooled>
void transform_patches(const WinogradInputTask& task) {
    const int64_t each =  // factors of a patch
        kIntegers<P> ? ceil_div(task.channels, kIntegerChannels) * kFactors : 0;
    for (int64_t tile = task.first; tile < task.last; ++tile) {
        const Position at = position<kTile>(task.grid, tile);
        P* out = static_cast<P*>(task.out) + (tile - task.first) * task.channels;
        float* factors = task.factors + (tile - task.first) * each;
        const int64_t height = kPooled ? task.grid.height / 2 * 2 : task.grid.height;
        const int64_t width = kPooled ? task.grid.width / 2 * 2 : task.grid.width;
        const bool inside = at.y > 0 && at.x > 0 && at.y + kTile < height && at.x + kTile < width;
        if (inside)
            whole_patch<T, P, kTile, true, kPooled>(task, at, out, factors);
        else
            whole_patch<T, P, kTile, false, kPooled>(task, at, out, factors);
    }
}

template <class T, class P, int kTile>
void transform_input(const WinogradInputTask& task) {
    if (task.positive)
        transform_patches<T, P, kTile, true>(task);
    else
        transform_patches<T, P, kTile, false>(task);
}

template <int kTile>
void winograd_input(const WinogradInputTask& task) {
    if constexpr (kConvolvesBfloat16<kTile>) {
        if (task.bfloat16) return transform_input<bf16, bf16, kTile>(task);
        if (task.products == Products::bfloat16) return transform_input<float, bf16, kTile>(task);
    }
    if constexpr (kConvolvesIntegers<kTile>) {
        if (task.products == Products::integers)
            return transform_input<float, int16_t, kTile>(task);
    }
    transform_input<float, float, kTile>(task);
}

// --------------------------------------------------------------------------------------- output --

// Products are 16 floats more than a power of two apart: else the planes, written and read
// together, would meet in the same lines of the L1 cache.
inline int64_t product_plane(int64_t tiles, int64_t panels) {
    return tiles * panels * kPanel + 16;
}

// Transposed weights: as many input channels as output channels at a time.
constexpr int64_t kGroup = kMostPanels * kPanel;

template <int kTile>
int64_t winograd_scratch(int64_t tiles) {
    return kProductsOf<kTile> * product_plane(tiles, kMostPanels) + kGroup * kGroup;
}

// One tile, all channels of the task. Whole: no part of it lies beyond the picture. What the next
// tile of the row writes and masks with is fetched on the way: half of the time for 512 channels,
// 0.6 for 256, 0.8 for 64.
template <class T, class P, int kTile, bool kWhole>
inline void output_tile(const WinogradOutputTask& task, const Position& at, const float* products,
                        int64_t plane) {
    constexpr int kPatch = kPatchOf<kTile>;
    const int64_t height = task.grid.height, width = task.grid.width, channels = task.channels_out;
    const int64_t down = min(kTile, height - at.y), across = min(kTile, width - at.x);
    const int64_t step = task.transposed ? -1 : 1, corner = task.transposed ? kTile - 1 : 0;
    const int64_t top = at.y + corner, left = at.x + corner;
    const int64_t origin = ((at.picture * height + top) * width + left) * channels + task.first_out;
    const float* bias = task.bias ? task.bias + task.first_out : nullptr;
    const T* mask = static_cast<const T*>(task.mask);
    T *preactivation = static_cast<T*>(task.preactivation), *out = static_cast<T*>(task.out),
      *pooled = static_cast<T*>(task.pooled);
    uint16_t* signs = task.positive;
    const bool relu = task.relu, max_pooling = task.pooling == 2, streamed = task.streamed;
    const float quarter = 0.25f;
    for (int64_t panel = 0; panel < task.panels * kPanel; panel += kPanel) {
        // The vectors of a panel are written together: streamed lines should be whole.
        Vec y[kTile][kTile][kPanelVectors];
        for (int v = 0; v < kPanelVectors; ++v) {
            Vec columns[kPatch][kTile];
            const float* sums = products + panel + v * kWidth;
            for (int j = 0; j < kPatch; ++j) {
                Vec m[kPatch];
                for (int i = 0; i < kPatch; ++i) {
                    m[i] = load(sums + (i * kPatch + j) * plane);
                    if constexpr (kIntegers<P>)
                        m[i] = multiply(m[i], load(task.steps + (i * kPatch + j) * channels +
                                                   task.first_out + panel + v * kWidth));
                }
                Transform<kTile>::output(m, columns[j]);
            }
            const Vec b = bias ? load(bias + panel + v * kWidth) : zero();
            for (int i = 0; i < kTile; ++i) {
                Vec m[kPatch], row[kTile];
                for (int j = 0; j < kPatch; ++j) m[j] = columns[j][i];
                Transform<kTile>::output(m, row);
                for (int j = 0; j < kTile; ++j) y[i][j][v] = add(row[j], b);
            }
        }
        for (int i = 0; i < kTile; ++i) {
            for (int j = 0; j < kTile; ++j) {
                if (!kWhole && (corner + step * i >= down || corner + step * j >= across)) continue;
                uint32_t bits = 0;
                for (int v = 0; v < kPanelVectors; ++v) {
                    Vec& value = y[i][j][v];
                    const int64_t offset =
                        origin + step * (i * width + j) * channels + panel + v * kWidth;
                    if (preactivation) store(preactivation + offset, value);
                    if (relu) value = zero_unless_positive(value, value);
                    if (mask) {
                        value = zero_unless_positive(value, load(mask + offset));
                        prefetch_to_second(mask + offset + kTile * channels);
                    }
                    if (out && !streamed) prefetch_to_second(out + offset + kTile * channels);
                    bits |= positive(value) << v * kWidth;
                    if (out) store_or_stream(streamed, out + offset, value);
                }
                if (signs) {
                    const int64_t offset = origin + step * (i * width + j) * channels + panel;
                    signs[offset / kPanel] = static_cast<uint16_t>(bits);
                }
            }
        }
        if (!pooled) continue;
        for (int i = 0; i + 1 < down; i += 2) {
            for (int j = 0; j + 1 < across; j += 2) {
                const int64_t window =
                    (at.picture * (height / 2) + (at.y + i) / 2) * (width / 2) + (at.x + j) / 2;
                T* to = pooled + window * channels + task.first_out + panel;
                for (int v = 0; v < kPanelVectors; ++v) {
                    const Vec a = y[i][j][v], b = y[i][j + 1][v], c = y[i + 1][j][v],
                              d = y[i + 1][j + 1][v];
                    store(to + v * kWidth,
                          max_pooling ? max(max(a, b), max(c, d))
                                      : multiply(broadcast(&quarter), add(add(a, b), add(c, d))));
                }
            }
        }
    }
}

// M[k] = V[k] U[k]
template <class T, int kTile>
void multiply(const WinogradOutputTask& task) {
    constexpr int64_t kEach = kPerUnit<T>, kStep = kDepth<T>;
    const int64_t tiles = task.last - task.first, units = task.channels_in / kEach;
    const int64_t factors = ceil_div(task.channels_in, kIntegerChannels) * kFactors;
    const int64_t plane = product_plane(tiles, task.panels), columns = task.panels * kPanel;
    const float* input = static_cast<const float*>(task.input);  // or pairs of 16 bits
    for (int64_t k = 0; k < kProductsOf<kTile>; ++k) {
        const float* weights = static_cast<const float*>(task.weights) + k * columns * units;
        for (int64_t depth = 0; depth < units; depth += kStep) {
            const float* here = weights + depth * kPanel;
            const float* next = depth + kStep < units        ? here + kStep * kPanel
                                : k + 1 < kProductsOf<kTile> ? weights + columns * units
                                                             : nullptr;
            RowScales scales{};
            if constexpr (kIntegers<T>)
                scales = {task.factors + depth / kStep * kFactors + k, factors};
            product<T>(tiles, min(kStep, units - depth), task.panels,
                       input + k * task.input_plane / kEach + depth, units, here, units * kPanel,
                       task.scratch + k * plane, columns, depth > 0, next, units * kPanel, scales);
        }
    }
}

// to[j][i] = from[i][j]
inline void transpose_panel(const float* from, float* to) {
    for (int i = 0; i < kPanel; i += kWidth) {
        for (int j = 0; j < kPanel; j += kWidth) {
            Vec rows[kWidth];
            for (int t = 0; t < kWidth; ++t) rows[t] = load(from + (i + t) * kPanel + j);
            transpose(rows);
            for (int t = 0; t < kWidth; ++t) store(to + (j + t) * kPanel + i, rows[t]);
        }
    }
}

// M[k] = V[k] U[k]^T, U from channels_out to channels_in. A part of U is transposed once a block of
// tiles, next to its use: 2 to 6 % of the layer's time, and no second U.
template <int kTile>
void multiply_transposed(const WinogradOutputTask& task) {
    constexpr int64_t kProducts = kProductsOf<kTile>;
    const int64_t tiles = task.last - task.first, units = task.channels_in;
    const int64_t plane = product_plane(tiles, task.panels), columns = task.panels * kPanel;
    const int64_t size = task.channels_out * kPanel;  // of a panel of U[k]
    const float* input = static_cast<const float*>(task.input);
    const float* weights = static_cast<const float*>(task.weights) + task.first_out * kPanel;
    float* transposed = task.scratch + kProducts * plane;
    const auto panels_at = [&](int64_t depth) {
        return min(kMostPanels, (units - depth) / kPanel);
    };
    const auto part = [&](int64_t k, int64_t depth) {
        return weights + (kProducts * depth / kPanel + k * panels_at(depth)) * size;
    };
    for (int64_t k = 0; k < kProducts; ++k) {
        for (int64_t depth = 0; depth < units; depth += kGroup) {
            const int64_t panels = panels_at(depth);
            for (int64_t in = 0; in < panels; ++in) {
                for (int64_t out = 0; out < task.panels; ++out) {
                    transpose_panel(part(k, depth) + in * size + out * kPanel * kPanel,
                                    transposed + (out * kGroup + in * kPanel) * kPanel);
                }
            }
            const float* next = depth + kGroup < units ? part(k, depth + kGroup)
                                : k + 1 < kProducts    ? part(k + 1, 0)
                                                       : nullptr;
            product<float>(tiles, panels * kPanel, task.panels,
                           input + k * task.input_plane + depth, units, transposed, kGroup * kPanel,
                           task.scratch + k * plane, columns, depth > 0, next, size);
        }
    }
}

template <class T, class P, int kTile>
void transform_products(const WinogradOutputTask& task) {
    const int64_t tiles = task.last - task.first;
    const int64_t plane = product_plane(tiles, task.panels), columns = task.panels * kPanel;
    for (int64_t tile = task.first; tile < task.last; ++tile) {
        const Position at = position<kTile>(task.grid, tile);
        const float* products = task.scratch + (tile - task.first) * columns;
        if (at.y + kTile <= task.grid.height && at.x + kTile <= task.grid.width)
            output_tile<T, P, kTile, true>(task, at, products, plane);
        else
            output_tile<T, P, kTile, false>(task, at, products, plane);
    }
    if (task.streamed) finish_streams();
}

template <int kTile>
void winograd_output(const WinogradOutputTask& task) {
    if constexpr (kConvolvesBfloat16<kTile>) {
        if (task.products == Products::bfloat16) {
            multiply<bf16, kTile>(task);
            if (task.bfloat16)
                transform_products<bf16, bf16, kTile>(task);
            else
                transform_products<float, bf16, kTile>(task);
            return;
        }
    }
    if constexpr (kConvolvesIntegers<kTile>) {
        if (task.products == Products::integers) {
            multiply<int16_t, kTile>(task);
            return transform_products<float, int16_t, kTile>(task);
        }
    }
    if (task.transposed)
        multiply_transposed<kTile>(task);
    else
        multiply<float, kTile>(task);
    transform_products<float, float, kTile>(task);
}

}  // namespace

extern const WinogradTable winograd_tables[2];
const WinogradTable winograd_tables[2] = {
    {4, kConvolvesBfloat16<4>, kConvolvesIntegers<4>, winograd_scratch<4>, winograd_weights<4>,
     winograd_input<4>, winograd_output<4>},
    {6, kConvolvesBfloat16<6>, kConvolvesIntegers<6>, winograd_scratch<6>, winograd_weights<6>,
     winograd_input<6>, winograd_output<6>}};

}  // namespace FASTNST_ISA
}  // namespace fastnst
