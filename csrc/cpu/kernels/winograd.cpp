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

// Where the weights of input channel ci are among pairs [channels / 2][16][2] of integers. Pairs
// are of channels 16 apart, as two vectors of a patch are rounded together; of the last 16 of an
// odd multiple of 16 they are neighbours.
inline int64_t zipped_pair(int64_t ci, int64_t channels) {
    const int64_t first = ci / 32 * 32, beyond = ci - first;
    return first + 32 <= channels ? (first / 2 + beyond % 16) * 2 * kPanel + beyond / 16
                                  : ci / 2 * 2 * kPanel + ci % 2;
}

template <int kTile>
void winograd_weights(const WinogradWeightsTask& task) {
    double u[kProductsOf<kTile>][kPanel], steps[kProductsOf<kTile>][kPanel];
    if (task.products == Products::integers) choose_steps<kTile>(task, steps);
    for (int64_t ci = 0; ci < task.channels_in; ++ci) {
        transform_filters<kTile>(task, ci, u);
        for (int64_t k = 0; k < kProductsOf<kTile>; ++k) {
            const int64_t plane = k * task.out_plane;
            const int64_t pair = plane + ci / 2 * 2 * kPanel + ci % 2;
            const int64_t zipped = plane + zipped_pair(ci, task.channels_in);
            for (int lane = 0; lane < kPanel; ++lane) {
                const float value = static_cast<float>(u[k][lane]);
                if (task.products == Products::floats) {
                    static_cast<float*>(task.out)[plane + ci * kPanel + lane] = value;
                } else if (task.products == Products::bfloat16) {
                    static_cast<bf16*>(task.out)[pair + 2 * lane] = to_bf16(value);
                } else {
                    const double step = steps[k][lane],
                                 q = step > 0 && step <= 1e300 ? u[k][lane] / step : 0;
                    static_cast<int16_t*>(task.out)[zipped + 2 * lane] =
                        static_cast<int16_t>(q < 0 ? q - 0.5 : q + 0.5);
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- input --

// Channels of patches that are transformed at a time, at most: so many zeros stand for an input
// beyond the border.
constexpr int64_t kChannelsAtOnce = 512;
template <class T>
alignas(64) constexpr T kZeros[kChannelsAtOnce] = {};

// Where the inputs of a patch are, [column][row]: found once for all channels, and for a row of
// patches that do not touch the border once for all. Pooled: `inputs` are gradients of windows of
// average pooling, and `bits` say where they go on.
template <class T, int kTile, bool kPooled>
class Patch {
  public:
    static constexpr int kSide = kPatchOf<kTile>;

    // channel: the first of those that are transformed
    Patch(const WinogradInputTask& task, int64_t channel) : task_(task), channel_(channel) {}

    // Go to the patch of a tile.
    FASTNST_INLINE void go_to(const Position& at) {
        // an odd last row or column is in no window
        const int64_t height = kPooled ? task_.grid.height / 2 * 2 : task_.grid.height;
        const int64_t width = kPooled ? task_.grid.width / 2 * 2 : task_.grid.width;
        const bool inside = at.y > 0 && at.x > 0 && at.y + kTile < height && at.x + kTile < width;
        if (inside && inside_ && at.x == x_ + kTile) {  // to the right
            first += kTile / kShrunk * task_.channels;
            first_bits += kTile * (task_.channels / kPanel);
        } else {
            first = first_bits = 0;
            find(at, height, width);
        }
        inside_ = inside;
        x_ = at.x;
    }

    // If column j is not among the kSide - kTile that the next patch to the right has too: fetch
    // what has its place there, the channels at c.
    FASTNST_INLINE void fetch_next(int j, int64_t c) const {
        if (task_.flipped ? j >= kTile : j < kSide - kTile) return;
        const int64_t ahead = first + kTile * task_.channels + c;
        for (int i = 0; i < kSide; ++i) prefetch(inputs[j][i] + ahead);
    }

    bool inside() const { return inside_; }

    const T* inputs[kSide][kSide];
    const uint16_t* bits[kPooled ? kSide : 1][kSide];
    int64_t first = 0, first_bits = 0;  // added to all of them

  private:
    static constexpr int kShrunk = kPooled ? 2 : 1;

    void find(const Position& at, int64_t height, int64_t width) {
        const int64_t channels = task_.channels, panels = channels / kPanel;
        const int64_t step = task_.flipped ? -1 : 1, corner = task_.flipped ? kTile : -1;
        const int64_t whole_width = task_.grid.width, row = whole_width / kShrunk;
        const int64_t above = at.picture * (task_.grid.height / kShrunk);
        const T* origin = static_cast<const T*>(task_.input) + above * row * channels + channel_;
        [[maybe_unused]] const uint16_t* signs = task_.positive;
        if constexpr (kPooled)
            signs += at.picture * task_.grid.height * whole_width * panels + channel_ / kPanel;
        for (int j = 0; j < kSide; ++j) {
            const int64_t x = at.x + corner + step * j;
            for (int i = 0; i < kSide; ++i) {
                const int64_t y = at.y + corner + step * i;
                const bool valid = y >= 0 && y < height && x >= 0 && x < width;
                inputs[j][i] =
                    valid ? origin + (y / kShrunk * row + x / kShrunk) * channels : kZeros<T>;
                if constexpr (kPooled)
                    bits[j][i] = valid ? signs + (y * whole_width + x) * panels : kZeros<uint16_t>;
            }
        }
    }

    const WinogradInputTask& task_;
    int64_t channel_;
    bool inside_ = false;
    int64_t x_ = 0;  // of the tile
};

// `count` channels of a patch from `first` on. Pooled: the input is the gradient of average pooling
// and of the ReLU before it. T is the type of the input, P that of the products, which are written
// `plane` apart.
template <class T, class P, int kTile, bool kPooled>
inline void input_patch(const Patch<T, kTile, kPooled>& patch, int64_t first, int64_t count,
                        bool fetches, P* out, int64_t plane) {
    constexpr int kPatch = kPatchOf<kTile>;
    const float quarter_value = 0.25f;
    const Vec quarter = broadcast(&quarter_value);
    for (int64_t c = first; c < first + count; c += kWidth) {
        Vec columns[kPatch][kPatch];  // [j][i]
        for (int j = 0; j < kPatch; ++j) {
            if (fetches) patch.fetch_next(j, c);
            Vec d[kPatch];
            for (int i = 0; i < kPatch; ++i) {
                d[i] = load(patch.inputs[j][i] + patch.first + c);
                if constexpr (kPooled) {
                    const uint16_t* bits = patch.bits[j][i] + patch.first_bits + c / kPanel;
                    d[i] = select_scaled(static_cast<uint32_t>(*bits >> c % kPanel), d[i], quarter);
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
    const float inverse = 1 / kLength;
    const Vec lengths = square_root(squares);
    store(scales, divide(broadcast(&kLength), lengths));
    store(factors, multiply(lengths, broadcast(&inverse)));
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

// Of kCount products: the sum of the squares of each one's numbers, a lane each.
template <int kCount>
FASTNST_INLINE Vec sums_of_squares(const float* v, int64_t count) {
    Vec sums[kCount];
    for (int k = 0; k < kCount; ++k) sums[k] = zero();
    for (int64_t c = 0; c < count; c += kWidth) {
#pragma GCC unroll 16
        for (int k = 0; k < kCount; ++k) {
            const Vec x = load(v + k * kIntegerChannels + c);
            sums[k] = multiply_add(x, x, sums[k]);
        }
    }
    return sums_of_lanes(sums);
}

// V = round(v / factor) for a group of channels of one patch; v[k] is kIntegerChannels long. All
// factors come first: to wait for each group of them took a twentieth of the transform's time.
template <int kTile>
inline void round_patch(const float* v, int64_t count, int16_t* out, int64_t plane,
                        float* factors) {
    constexpr int64_t kProducts = kProductsOf<kTile>;
    static_assert(kProducts == 16 + 16 + 4 && kProducts <= kFactors && kWidth == 16);
    const Vec squares[] = {sums_of_squares<16>(v, count),
                           sums_of_squares<16>(v + 16 * kIntegerChannels, count),
                           sums_of_squares<4>(v + 32 * kIntegerChannels, count)};
    alignas(64) float scales[kFactors];
    for (int64_t first = 0; first < kProducts; first += kWidth)
        choose_factors(squares[first / kWidth], min(kWidth, kProducts - first),
                       v + first * kIntegerChannels, count, scales + first, factors + first);
    for (int64_t k = 0; k < kProducts; ++k) {
        const Vec scale = broadcast(scales + k);
        const float* from = v + k * kIntegerChannels;
        int64_t c = 0;
        for (; c + 2 * kWidth <= count; c += 2 * kWidth)
            store_zipped(out + c, load(from + c), load(from + c + kWidth), scale);
        if (c < count) store(out + c, multiply(scale, load(from + c)));
        out += plane;
    }
}

// As input_patch, in integers.
template <int kTile, bool kPooled>
inline void input_patch_in_integers(const Patch<float, kTile, kPooled>& patch, int64_t channels,
                                    bool fetches, int16_t* out, int64_t plane, float* factors) {
    alignas(64) float v[kProductsOf<kTile> * kIntegerChannels];  // B^T d B of a group
    for (int64_t first = 0; first < channels; first += kIntegerChannels) {
        const int64_t count = min(kIntegerChannels, channels - first);
        input_patch<float, float, kTile, kPooled>(patch, first, count, fetches, v,
                                                  kIntegerChannels);
        round_patch<kTile>(v, count, out + first, plane, factors);
        factors += kFactors;
    }
}
#endif

template <class T, class P, int kTile, bool kPooled>
void transform_patches(const WinogradInputTask& task) {
    for (int64_t first = 0; first < task.channels; first += kChannelsAtOnce) {
        const int64_t channels = min(kChannelsAtOnce, task.channels - first);
        Patch<T, kTile, kPooled> patch(task, first);
        P* out = static_cast<P*>(task.out) + first;
        [[maybe_unused]] float* factors = task.factors + first / kIntegerChannels * kFactors;
        for (int64_t tile = task.first; tile < task.last; ++tile) {
            patch.go_to(position<kTile>(task.grid, tile));
            // What the next patch needs is fetched on the way: 0.85 of the time for 64 and 128
            // channels. Of more the lines would not stay in the L1 cache.
            const bool fetches = !kPooled && task.channels <= 128 && patch.inside();
#ifdef FASTNST_MULTIPLIES_INTEGERS
            if constexpr (kIntegers<P>) {
                input_patch_in_integers<kTile, kPooled>(patch, channels, fetches, out,
                                                        task.out_plane, factors);
                factors += ceil_div(task.channels, kIntegerChannels) * kFactors;
            } else
#endif
                input_patch<T, P, kTile, kPooled>(patch, 0, channels, fetches, out, task.out_plane);
            out += task.channels;
        }
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

// Outputs of one panel of channels of a tile, [row][column].
template <int kTile>
using Outputs = Vec[kTile][kTile][kPanelVectors];

// y = A^T M A + bias for a panel of channels, `channel` the first; M[k] is `plane` further each.
template <class P, int kTile>
FASTNST_INLINE void transform_panel(const WinogradOutputTask& task, int64_t channel,
                                    const float* products, int64_t plane, Outputs<kTile>& y) {
    constexpr int kPatch = kPatchOf<kTile>;
    const int64_t channels = task.channels_out;
    for (int v = 0; v < kPanelVectors; ++v) {
        const int64_t first = channel + v * kWidth;
        const float* sums = products + v * kWidth;
        Vec rows[kPatch][kTile];
#pragma GCC unroll 8
        for (int i = 0; i < kPatch; ++i) {
            Vec m[kPatch];
            for (int j = 0; j < kPatch; ++j) {
                m[j] = load(sums + (i * kPatch + j) * plane);
                if constexpr (kIntegers<P>)
                    m[j] = multiply(m[j], load(task.steps + (i * kPatch + j) * channels + first));
            }
            Transform<kTile>::output(m, rows[i]);
        }
        const Vec b = task.bias ? load(task.bias + first) : zero();
#pragma GCC unroll 8
        for (int j = 0; j < kTile; ++j) {
            Vec m[kPatch], column[kTile];
            for (int i = 0; i < kPatch; ++i) m[i] = rows[i][j];
            Transform<kTile>::output(m, column);
            for (int i = 0; i < kTile; ++i) y[i][j][v] = add(column[i], b);
        }
    }
}

// One tile, all channels of the task. Whole: no part of it lies beyond the picture. What the next
// tile of the row writes and masks with is fetched on the way: half of the time for 512 channels,
// 0.6 for 256, 0.8 for 64.
template <class T, class P, int kTile, bool kWhole>
inline void output_tile(const WinogradOutputTask& task, const Position& at, const float* products,
                        int64_t plane) {
    const int64_t height = task.grid.height, width = task.grid.width, channels = task.channels_out;
    const int64_t down = min(kTile, height - at.y), across = min(kTile, width - at.x);
    const int64_t step = task.transposed ? -1 : 1, corner = task.transposed ? kTile - 1 : 0;
    const int64_t origin =
        ((at.picture * height + at.y + corner) * width + at.x + corner) * channels;
    const int64_t ahead = kTile * channels;
    const T* mask = static_cast<const T*>(task.mask);
    T *preactivation = static_cast<T*>(task.preactivation), *out = static_cast<T*>(task.out),
      *pooled = static_cast<T*>(task.pooled);
    uint16_t* signs = task.positive;
    const bool relu = task.relu, max_pooling = task.pooling == 2, streamed = task.streamed;
    const float quarter = 0.25f;
    int64_t offsets[kTile][kTile];
    for (int i = 0; i < kTile; ++i) {
        for (int j = 0; j < kTile; ++j)
            offsets[i][j] = origin + step * (i * width + j) * channels + task.first_out;
    }
    for (int64_t panel = 0; panel < task.panels * kPanel; panel += kPanel) {
        Outputs<kTile> y;
        transform_panel<P, kTile>(task, task.first_out + panel, products + panel, plane, y);
        // visit(y[i][j], its offset) for what lies in the picture
        const auto each = [&](const auto& visit) FASTNST_INLINE_LAMBDA {
#pragma GCC unroll 8
            for (int i = 0; i < kTile; ++i) {
#pragma GCC unroll 8
                for (int j = 0; j < kTile; ++j) {
                    if (kWhole || (corner + step * i < down && corner + step * j < across))
                        visit(y[i][j], offsets[i][j] + panel);
                }
            }
        };
        if (preactivation) {
            each([&](Vec(&x)[kPanelVectors], int64_t offset) FASTNST_INLINE_LAMBDA {
                for (int v = 0; v < kPanelVectors; ++v)
                    store(preactivation + offset + v * kWidth, x[v]);
            });
        }
        if (relu) {
            each([&](Vec(&x)[kPanelVectors], int64_t) FASTNST_INLINE_LAMBDA {
                for (int v = 0; v < kPanelVectors; ++v) x[v] = zero_unless_positive(x[v], x[v]);
            });
        }
        if (mask) {
            each([&](Vec(&x)[kPanelVectors], int64_t offset) FASTNST_INLINE_LAMBDA {
                for (int v = 0; v < kPanelVectors; ++v) {
                    const T* features = mask + offset + v * kWidth;
                    x[v] = zero_unless_positive(x[v], load(features));
                    prefetch_to_second(features + ahead);
                }
            });
        }
        if (signs) {
            each([&](Vec(&x)[kPanelVectors], int64_t offset) FASTNST_INLINE_LAMBDA {
                uint32_t bits = 0;
                for (int v = 0; v < kPanelVectors; ++v) bits |= positive(x[v]) << v * kWidth;
                signs[offset / kPanel] = static_cast<uint16_t>(bits);
            });
        }
        if (out && streamed) {
            each([&](Vec(&x)[kPanelVectors], int64_t offset) FASTNST_INLINE_LAMBDA {
                for (int v = 0; v < kPanelVectors; ++v)
                    store_or_stream(true, out + offset + v * kWidth, x[v]);
            });
        } else if (out) {
            each([&](Vec(&x)[kPanelVectors], int64_t offset) FASTNST_INLINE_LAMBDA {
                for (int v = 0; v < kPanelVectors; ++v) {
                    T* to = out + offset + v * kWidth;
                    store(to, x[v]);
                    prefetch_to_second(to + ahead);
                }
            });
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
