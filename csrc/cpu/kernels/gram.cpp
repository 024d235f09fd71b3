// Gram matrix, style loss and their gradient: the arithmetic, compiled once per instruction set.
//
//   forward    G = F F^T / N     sum over positions, C x C outputs, upper triangle only
//   backward   dF = S F          sum over channels,  C x N outputs
//
// Both are sums  out[i, j] = sum_k a[k, i] b[k, j]  over small tiles that stay in registers:
// kRows broadcast values of a times kVectors vectors of b per step of k. F is copied once, block by
// block, into panels [k][columns of one tile]: a block of all channels of a few hundred positions
// stays in the L2 cache, and the copy absorbs layout (NCHW or channels_last), type and odd sizes.
// Channels of NCHW features lie a power of two apart, so that without the copy they would all fall
// into the same few lines of the L1 cache. Floats in channels_last are multiplied where they lie
// where that does not happen: forward if channels are few and whole vectors, backward always.
//
// A unit is 32 bits: one float, or two bfloat16 that follow each other in k (vdpbf16ps multiplies
// and adds both). Without that instruction bfloat16 becomes float in the copy.

#include "integers.h"
#include "simd.h"
#include "table.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

// Positions in one sum of a register tile. Such partial sums are added up afterwards, so that
// rounding errors grow like the square root of their number.
constexpr int64_t kDepth = 256;

// Columns are divided into panels of at most kVectors vectors, as evenly as possible:
// 64 channels are 2 + 2 vectors of 16, not 3 + 1.
struct Panels {
    int64_t vectors, count;
    explicit Panels(int64_t columns)
        : vectors(ceil_div(columns, kWidth)), count(ceil_div(vectors, kVectors)) {}
    int64_t begin(int64_t p) const { return vectors * p / count; }  // in vectors
    int64_t of(int64_t vector) const {
        int64_t p = vector * count / vectors;
        while (begin(p + 1) <= vector) ++p;
        return p;
    }
};

int64_t padded(int64_t channels) {
    return Panels(channels).vectors * kWidth;
}

struct Floats {  // one float per unit
    static constexpr int64_t per_unit = 1;
    static Vec step(Vec a, Vec b, Vec c) { return multiply_add(a, b, c); }
#ifdef FASTNST_MULTIPLIES_LANES
    template <int kLane>
    static Vec step_lane(Vec a, Vec b, Vec c) {
        return multiply_add_lane<kLane>(a, b, c);
    }
#endif
};

#ifdef FASTNST_MULTIPLIES_PAIRS
struct Pairs {  // two bfloat16 per unit
    static constexpr int64_t per_unit = 2;
    static Vec step(Vec a, Vec b, Vec c) { return multiply_add_pairs(a, b, c); }
#ifdef FASTNST_MULTIPLIES_LANES
    template <int kLane>
    static Vec step_lane(Vec a, Vec b, Vec c) {
        return multiply_add_pairs_lane<kLane>(a, b, c);
    }
#endif
};
using Bf16Units = Pairs;
#else
using Bf16Units = Floats;
#endif

// ---------------------------------------------------------------------------------------- tile --

#ifdef FASTNST_MULTIPLIES_LANES
static_assert(kRows == kWidth && kWidth == 4);

// sum[r][v] += a[r] b[v]: the rows' factors in the lanes of one vector
template <class Units, int V>
inline void step_of_rows(Vec a, const float* b, Vec (&sum)[kRows][V]) {
    for (int v = 0; v < V; ++v) {
        const Vec column = load(b + v * kWidth);
        sum[0][v] = Units::template step_lane<0>(a, column, sum[0][v]);
        sum[1][v] = Units::template step_lane<1>(a, column, sum[1][v]);
        sum[2][v] = Units::template step_lane<2>(a, column, sum[2][v]);
        sum[3][v] = Units::template step_lane<3>(a, column, sum[3][v]);
    }
}

// sum[r][v] += a[r][kLane] b[v]: a row's next factors in the lanes of its vector
template <class Units, int kLane, int V>
inline void step_of_lane(const Vec (&a)[kRows], const float* b, Vec (&sum)[kRows][V]) {
    for (int v = 0; v < V; ++v) {
        const Vec column = load(b + v * kWidth);
        for (int r = 0; r < kRows; ++r)
            sum[r][v] = Units::template step_lane<kLane>(a[r], column, sum[r][v]);
    }
}
#endif

// out[r, j] (+)= sum_k a[r][k * step] * b[k * ldb + j]    for kRows r and V vectors of j
template <class Units, int V>
inline void tile_of(int64_t depth, const float* a, int64_t a_row, int64_t a_step, const float* b,
                    int64_t ldb, float* out, int64_t ldo, bool add_to_out) {
    Vec sum[kRows][V];
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < V; ++v) sum[r][v] = zero();
    }
    int64_t k = 0;
#ifdef FASTNST_MULTIPLIES_LANES
    if (a_row == 1) {
        for (; k < depth; ++k, a += a_step, b += ldb) step_of_rows<Units>(load(a), b, sum);
    } else if (a_step == 1) {
        for (; k + kWidth <= depth; k += kWidth, a += kWidth, b += kWidth * ldb) {
            Vec x[kRows];
            for (int r = 0; r < kRows; ++r) x[r] = load(a + r * a_row);
            step_of_lane<Units, 0>(x, b, sum);
            step_of_lane<Units, 1>(x, b + ldb, sum);
            step_of_lane<Units, 2>(x, b + 2 * ldb, sum);
            step_of_lane<Units, 3>(x, b + 3 * ldb, sum);
        }
    }
#endif
    const float* row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = a + r * a_row;
    int64_t offset = 0;
    for (; k < depth; ++k) {
        Vec column[V];
        for (int v = 0; v < V; ++v) column[v] = load(b + v * kWidth);
        for (int r = 0; r < kRows; ++r) {
            const Vec x = broadcast(row[r] + offset);
            for (int v = 0; v < V; ++v) sum[r][v] = Units::step(x, column[v], sum[r][v]);
        }
        offset += a_step;
        b += ldb;
    }
#pragma GCC unroll 8  // else gcc 12 keeps the sums in memory too
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < V; ++v) {
            float* p = out + r * ldo + v * kWidth;
            store(p, add_to_out ? add(load(p), sum[r][v]) : sum[r][v]);
        }
    }
}

// The same for 1 <= vectors <= V.
template <class Units, int V = kVectors>
inline void tile(int64_t vectors, int64_t depth, const float* a, int64_t a_row, int64_t a_step,
                 const float* b, int64_t ldb, float* out, int64_t ldo, bool add_to_out) {
    if constexpr (V > 1) {
        if (vectors < V)
            return tile<Units, V - 1>(vectors, depth, a, a_row, a_step, b, ldb, out, ldo,
                                      add_to_out);
    }
    tile_of<Units, V>(depth, a, a_row, a_step, b, ldb, out, ldo, add_to_out);
}

// ------------------------------------------------------------------------------------- packing --

inline float as_float(float x) {
    return x;
}
inline float as_float(bf16 x) {
    return from_bf16(x);
}

// F as units that need no copy: floats whose channels follow each other, or null.
inline const float* units_in_place(Floats, const float* f, int64_t channel_stride) {
    return channel_stride == 1 ? f : nullptr;
}
template <class Units, class T>
const float* units_in_place(Units, const T*, int64_t) {
    return nullptr;
}

// Unit (u, j) of the matrix X[k, j] = x[k * k_stride + j * j_stride], 0 <= k < depth.
inline void put_unit(Floats, float* unit, const float* x, int64_t k_stride, int64_t u, int64_t) {
    *unit = x[u * k_stride];
}
[[maybe_unused]] inline void put_unit(Floats, float* unit, const bf16* x, int64_t k_stride,
                                      int64_t u, int64_t) {
    *unit = from_bf16(x[u * k_stride]);
}
#ifdef FASTNST_MULTIPLIES_PAIRS
inline void put_unit(Pairs, float* unit, const bf16* x, int64_t k_stride, int64_t u,
                     int64_t depth) {
    const bf16 pair[2] = {x[2 * u * k_stride],
                          2 * u + 1 < depth ? x[(2 * u + 1) * k_stride] : bf16{0}};
    memcpy(unit, pair, 4);
}
#endif

// One row of units with contiguous columns, whole vectors: units[j] = X[k, j], or the pair of
// X[k, j] and X[k + 1, j].
inline void put_row(Floats, float* units, const float* x, int64_t) {
    store(units, load(x));
}
[[maybe_unused]] inline void put_row(Floats, float* units, const bf16* x, int64_t) {
    store(units, load(x));
}
#ifdef FASTNST_MULTIPLIES_PAIRS
inline void put_row(Pairs, float* units, const bf16* x, int64_t k_stride) {
    store_zipped(units, x, x + k_stride);
}
#endif

// kWidth units that follow each other in k.
inline Vec load_units(Floats, const float* x) {
    return load(x);
}
[[maybe_unused]] inline Vec load_units(Floats, const bf16* x) {
    return load(x);
}
#ifdef FASTNST_MULTIPLIES_PAIRS
inline Vec load_units(Pairs, const bf16* x) {
    Vec units;
    memcpy(&units, x, sizeof(units));
    return units;
}
#endif

// panel[u * width + j] = unit (u, j) of X for 0 <= j < columns, zero for columns <= j < width.
template <class Units, class T>
void pack_panel(const T* x, int64_t k_stride, int64_t j_stride, int64_t depth, int64_t columns,
                int64_t width, float* panel) {
    const int64_t units = ceil_div(depth, Units::per_unit);
    const int64_t whole_units = depth / Units::per_unit;
    int64_t j = 0;
    if (j_stride == 1) {  // rows of X lie as rows of the panel: copy
        const int64_t whole = columns / kWidth * kWidth;
        for (int64_t u = 0; u < whole_units; ++u) {
            const T* row = x + u * Units::per_unit * k_stride;
            for (j = 0; j < whole; j += kWidth)
                put_row(Units{}, panel + u * width + j, row + j, k_stride);
        }
        for (int64_t u = whole_units; u < units; ++u) {
            for (j = 0; j < whole; ++j)
                put_unit(Units{}, panel + u * width + j, x + j, k_stride, u, depth);
        }
        j = whole;
    } else if (k_stride == 1) {  // columns of X lie as rows of the panel: transpose
        for (; j + kWidth <= columns; j += kWidth) {
            int64_t u = 0;
            for (; u + kWidth <= whole_units; u += kWidth) {
                Vec block[kWidth];
                for (int i = 0; i < kWidth; ++i)
                    block[i] = load_units(Units{}, x + (j + i) * j_stride + u * Units::per_unit);
                transpose(block);
                for (int i = 0; i < kWidth; ++i) store(panel + (u + i) * width + j, block[i]);
            }
            for (; u < units; ++u) {
                for (int i = 0; i < kWidth; ++i)
                    put_unit(Units{}, panel + u * width + j + i, x + (j + i) * j_stride, 1, u,
                             depth);
            }
        }
    }
    for (int64_t u = 0; u < units; ++u) {
        for (int64_t i = j; i < columns; ++i)
            put_unit(Units{}, panel + u * width + i, x + i * j_stride, k_stride, u, depth);
        for (int64_t i = columns; i < width; ++i) panel[u * width + i] = 0;
    }
}

// rows[i * units + u] = unit u of row i of X[i, k] = x[i * i_stride + k * k_stride].
template <class Units, class T>
void pack_rows(const T* x, int64_t i_stride, int64_t k_stride, int64_t count, int64_t depth,
               float* rows) {
    const int64_t units = ceil_div(depth, Units::per_unit);
    const int64_t whole = depth / Units::per_unit / kWidth * kWidth;
    for (int64_t i = 0; i < count; ++i) {
        const T* row = x + i * i_stride;
        int64_t u = 0;
        if (k_stride == 1) {
            for (; u < whole; u += kWidth)
                store(rows + i * units + u, load_units(Units{}, row + u * Units::per_unit));
        }
        for (; u < units; ++u) put_unit(Units{}, rows + i * units + u, row, k_stride, u, depth);
    }
}

// Fetches the lines of the next block of F into the L2 cache, a few with every tile, while the
// arithmetic of this block runs: without it memory and arithmetic would take turns.
struct Ahead {
    const char* row = nullptr;
    int64_t row_stride = 0, row_bytes = 0, rows = 0, offset = 0, lines_per_tile = 0;

    template <class T>
    Ahead(const T* f, int64_t count, int64_t i_stride, int64_t length, int64_t j_stride,
          int64_t tiles) {
        if (j_stride != 1) {  // i along the rows that are contiguous, if any are
            if (i_stride != 1) return;
            const int64_t swap = count;
            count = length;
            length = swap;
            i_stride = j_stride;
        }
        row = reinterpret_cast<const char*>(f);
        rows = count;
        row_stride = i_stride * static_cast<int64_t>(sizeof(T));
        row_bytes = length * static_cast<int64_t>(sizeof(T));
        lines_per_tile = ceil_div(rows * ceil_div(row_bytes, 64), tiles);
    }
    void tile_done() {
        for (int64_t line = 0; line < lines_per_tile && rows > 0; ++line) {
            __builtin_prefetch(row + offset, 0, 2);
            offset += 64;
            if (offset >= row_bytes) {
                offset = 0;
                row += row_stride;
                --rows;
            }
        }
    }
};

// ---------------------------------------------------------------------------------------- Gram --

// Units per block: about 64 Ki units of all channels (256 KiB) stay in the L2 cache. Few channels
// take long rows, which the hardware prefetches.
inline int64_t gram_block(int64_t channels) {
    const int64_t blocks = 65536 / (padded(channels) * 128);
    return 128 * (blocks < 1 ? 1 : blocks > 8 ? 8 : blocks);
}

// All channels of so many positions stay in the L1 cache, up to so many channels.
constexpr int64_t kNearDepth = 64, kNearChannels = 128;

// The same for few channels, whole vectors of them, which are contiguous floats.
void gram_in_place(const GramTask& task, const float* features) {
    const int64_t c = task.channels, stride = task.features.column_stride;
    const Panels panels(c);
    const int64_t left = panels.begin(task.first_panel), right = panels.begin(task.last_panel);
    const auto from = [&](int64_t i) { return i / kWidth > left ? i / kWidth : left; };
    int64_t tiles = 0;
    for (int64_t i = 0; i < right * kWidth; i += kRows)
        tiles += ceil_div(right - from(i), kVectors);
    for (int64_t first = task.first; first < task.last; first += kNearDepth) {
        const int64_t depth = min(kNearDepth, task.last - first);
        const float* f = features + first * stride;
        Ahead ahead(f + depth * stride, c, 1, min(kNearDepth, task.last - first - depth), stride,
                    tiles);
        for (int64_t i = 0; i < right * kWidth; i += kRows) {
            const int64_t count = right - from(i), parts = ceil_div(count, kVectors);
            for (int64_t p = 0; p < parts; ++p) {
                const int64_t begin = from(i) + count * p / parts;
                const int64_t end = from(i) + count * (p + 1) / parts;
                tile<Floats>(end - begin, depth, f + i, 1, stride, f + begin * kWidth, stride,
                             task.partial + i * c + begin * kWidth, c, first > task.first);
                ahead.tile_done();
            }
        }
    }
}

template <class Units, class T>
void gram_typed(const GramTask& task) {
    const T* features = static_cast<const T*>(task.features.data);
    const int64_t c_stride = task.features.row_stride, n_stride = task.features.column_stride;
    const Panels panels(task.channels);
    if (task.channels <= kNearChannels && task.channels % kWidth == 0) {
        if (const float* f = units_in_place(Units{}, features, c_stride))
            return gram_in_place(task, f);
    }
    const int64_t padded = panels.vectors * kWidth;
    const int64_t block = gram_block(task.channels) * Units::per_unit,
                  step = kDepth / Units::per_unit;
    int64_t tiles = 0;
    for (int64_t p = task.first_panel; p < task.last_panel; ++p)
        tiles += ceil_div(min(panels.begin(p + 1) * kWidth, task.channels), kRows);
    for (int64_t first = task.first; first < task.last; first += block) {
        const int64_t depth = min(block, task.last - first);
        const int64_t units = ceil_div(depth, Units::per_unit);
        for (int64_t p = 0; p < task.last_panel; ++p) {
            const int64_t begin = panels.begin(p) * kWidth, end = panels.begin(p + 1) * kWidth;
            pack_panel<Units>(features + begin * c_stride + first * n_stride, n_stride, c_stride,
                              depth, min(end, task.channels) - begin, end - begin,
                              task.scratch + begin * units);
        }
        const int64_t next = min(block, task.last - first - depth);
        Ahead ahead(features + (first + depth) * n_stride, task.channels, c_stride, next, n_stride,
                    tiles * ceil_div(units, step));
        // partial[i, j] += sum_n F[i, n] F[j, n], where column j is not left of the vector that
        // row i belongs to
        for (int64_t p = task.first_panel; p < task.last_panel; ++p) {
            const int64_t begin = panels.begin(p), end = panels.begin(p + 1);
            const float* columns = task.scratch + begin * kWidth * units;
            for (int64_t i = 0; i < min(end * kWidth, task.channels); i += kRows) {
                const int64_t i_panel = panels.of(i / kWidth);
                const int64_t i_begin = panels.begin(i_panel) * kWidth;
                const int64_t i_width = panels.begin(i_panel + 1) * kWidth - i_begin;
                const int64_t from = i / kWidth > begin ? i / kWidth : begin;
                const int64_t width = (end - begin) * kWidth;
                for (int64_t u = 0; u < units; u += step) {
                    tile<Units>(end - from, min(step, units - u),
                                task.scratch + i_begin * units + u * i_width + (i - i_begin), 1,
                                i_width, columns + u * width + (from - begin) * kWidth, width,
                                task.partial + i * padded + from * kWidth, padded,
                                u > 0 || first > task.first);
                    ahead.tile_done();
                }
            }
        }
    }
}

void gram(const GramTask& task) {
    if (task.features.bfloat16) {
        gram_typed<Bf16Units, bf16>(task);
    } else {
        gram_typed<Floats, float>(task);
    }
}

// One row of a block: g -> G, D = G - A, and the sum of D^2 lane by lane.
inline Vec finish_row(const ReduceTask& task, int64_t at, Vec g, Vec squares) {
    if (task.gram) store(task.gram + at, g);
    if (!task.target) return squares;
    const Vec d = subtract(g, load(task.target + at));
    if (task.difference) store(task.difference + at, d);
    return multiply_add(d, d, squares);
}

// The same for the cut-off rows at the edge of G.
inline double finish_edge(const ReduceTask& task, int64_t at, const float* g, int64_t count) {
    double squares = 0;
    for (int64_t x = 0; x < count; ++x) {
        if (task.gram) task.gram[at + x] = g[x];
        if (!task.target) continue;
        const float d = g[x] - task.target[at + x];
        if (task.difference) task.difference[at + x] = d;
        squares += static_cast<double>(d) * static_cast<double>(d);
    }
    return squares;
}

void reduce(const ReduceTask& task) {
    // at most 64 slots: 8 sums of 8, so that few roundings follow each other
    constexpr int64_t group = 8;
    const int64_t c = task.channels, padded_c = padded(c);
    const Vec scale = broadcast(&task.scale);
    double loss = 0;
    for (int64_t i0 = task.first; i0 < task.last; i0 += kWidth) {
        for (int64_t j0 = i0; j0 < c; j0 += kWidth) {
            // g[i, j] = scale * sum_s partials[s][i, j]; below the diagonal it is mirrored
            Vec g[kWidth], mirrored[kWidth];
            for (int i = 0; i < kWidth; ++i) {
                const float* partial = task.partials + (i0 + i) * padded_c + j0;
                Vec sum = zero();
                for (int64_t s = 0; s < task.slots; s += group) {
                    Vec part = load(partial + s * padded_c * padded_c);
                    for (int64_t k = s + 1; k < min(s + group, task.slots); ++k)
                        part = add(part, load(partial + k * padded_c * padded_c));
                    sum = s == 0 ? part : add(sum, part);
                }
                g[i] = mirrored[i] = multiply(sum, scale);
            }
            transpose(mirrored);
            const bool diagonal = i0 == j0;
            if (!diagonal && i0 + kWidth <= c && j0 + kWidth <= c) {
                Vec squares = zero();
                for (int i = 0; i < kWidth; ++i)
                    squares = finish_row(task, (i0 + i) * c + j0, g[i], squares);
                for (int j = 0; j < kWidth; ++j)
                    squares = finish_row(task, (j0 + j) * c + i0, mirrored[j], squares);
                float lanes[kWidth];
                store(lanes, squares);
                for (const float lane : lanes) loss += static_cast<double>(lane);
                continue;
            }
            float row[kWidth], column[kWidth];
            for (int64_t i = 0; i < min(kWidth, c - i0); ++i) {
                store(row, g[i]);
                store(column, mirrored[i]);
                if (diagonal) memcpy(row, column, static_cast<size_t>(i) * sizeof(float));
                loss += finish_edge(task, (i0 + i) * c + j0, row, min(kWidth, c - j0));
            }
            for (int64_t j = 0; !diagonal && j < min(kWidth, c - j0); ++j) {
                store(column, mirrored[j]);
                loss += finish_edge(task, (j0 + j) * c + i0, column, min(kWidth, c - i0));
            }
        }
    }
    if (task.loss) *task.loss = loss;
}

// ------------------------------------------------------------------------------------ gradient --
// Which operand is broadcast depends on the layout, so that the vectors lie along the contiguous
// dimension of F and of the output:
//   positions contiguous:  out[c, n] = sum_k S[c, k] F[k, n]     broadcast S, vectors of n
//   channels contiguous:   out[n, c] = sum_k F[n, k] S[k, c]     broadcast F, vectors of c

// About 64 Ki values of F per block (256 KiB as float), a multiple of the tile's width and height.
int64_t gradient_block(int64_t channels) {
    constexpr int64_t step = kVectors * kWidth;
    const int64_t steps = 65536 / (channels * step);
    return step * (steps < 1 ? 1 : steps > 64 ? 64 : steps);
}
inline int64_t padded_rows(int64_t rows) {
    return ceil_div(rows, kRows) * kRows;
}

// Positions that are multiplied where they lie before the next ones: 64 KiB of 512 channels, so
// that what is fetched ahead is still near when its turn comes. A multiple of kRows.
constexpr int64_t kInPlaceBlock = 32;

// rows[i][x] = s[i][x] where x counts the summed channels: pairs follow each other in a row
inline void put_rows(Floats, const Vec (&s)[kWidth], float* rows, int64_t row) {
    for (int i = 0; i < kWidth; ++i) store(rows + i * row, s[i]);
}
// panel[i][x] = s[i][x] where i counts the summed channels: two rows of s make one of pairs
inline void put_panel(Floats, const Vec (&s)[kWidth], float* panel, int64_t width) {
    for (int i = 0; i < kWidth; ++i) store(panel + i * width, s[i]);
}
#ifdef FASTNST_MULTIPLIES_PAIRS
inline void put_rows(Pairs, const Vec (&s)[kWidth], float* rows, int64_t row) {
    for (int i = 0; i < kWidth; ++i) {
        bf16 half[kWidth];
        store(half, s[i]);
        memcpy(rows + i * row, half, sizeof(half));
    }
}
inline void put_panel(Pairs, const Vec (&s)[kWidth], float* panel, int64_t width) {
    for (int i = 0; i < kWidth; i += 2) {
        bf16 half[2][kWidth];
        store(half[0], s[i]);
        store(half[1], s[i + 1]);
        store_zipped(panel + i / 2 * width, half[0], half[1]);
    }
}
#endif

// S = (D + D^T) / 2 with zeros up to whole vectors, as rows [padded C][units of padded C], or as
// panels [panel][units of padded C][width].
template <class Units>
void pack_typed(const PackTask& task) {
    const int64_t c = task.channels, units = padded(c) / Units::per_unit;
    const float* d = task.difference;
    const float half = 0.5f;
    const Panels panels(c);
    for (int64_t j0 = task.first; j0 < task.last; j0 += kWidth) {
        const int64_t p = panels.of(j0 / kWidth), begin = panels.begin(p) * kWidth;
        const int64_t width = panels.begin(p + 1) * kWidth - begin;
        for (int64_t k0 = 0; k0 < c; k0 += kWidth) {
            // s[i][x] = S[y0 + i, x0 + x]
            const int64_t y0 = task.channels_contiguous ? k0 : j0;
            const int64_t x0 = task.channels_contiguous ? j0 : k0;
            Vec s[kWidth], mirrored[kWidth];
            if (y0 + kWidth <= c && x0 + kWidth <= c) {
                for (int i = 0; i < kWidth; ++i) {
                    s[i] = load(d + (y0 + i) * c + x0);
                    mirrored[i] = load(d + (x0 + i) * c + y0);
                }
            } else {
                for (int i = 0; i < kWidth; ++i) {
                    float row[kWidth] = {}, column[kWidth] = {};
                    for (int64_t x = 0; y0 + i < c && x < min(kWidth, c - x0); ++x)
                        row[x] = d[(y0 + i) * c + x0 + x];
                    for (int64_t y = 0; x0 + i < c && y < min(kWidth, c - y0); ++y)
                        column[y] = d[(x0 + i) * c + y0 + y];
                    s[i] = load(row);
                    mirrored[i] = load(column);
                }
            }
            transpose(mirrored);
            for (int i = 0; i < kWidth; ++i)
                s[i] =
                    add(multiply(broadcast(&half), s[i]), multiply(broadcast(&half), mirrored[i]));
            if (task.channels_contiguous) {
                put_panel(Units{}, s,
                          task.packed + begin * units + k0 / Units::per_unit * width + j0 - begin,
                          width);
            } else {
                put_rows(Units{}, s, task.packed + j0 * units + k0 / Units::per_unit, units);
            }
        }
    }
}

void pack(const PackTask& task) {
    if (task.bfloat16) {
        pack_typed<Bf16Units>(task);
    } else {
        pack_typed<Floats>(task);
    }
}

inline void put(float* out, float x) {
    *out = x;
}
inline void put(bf16* out, float x) {
    *out = to_bf16(x);
}

// out[r, j] = (accumulate ? out[r, j] : 0) + scale * mask(F[r, j]) * sum[r, j]
template <bool kAccumulate, bool kMask, class T, class Out>
void finish(const float* sum, int64_t lds, int64_t rows, int64_t columns, float scale, const T* f,
            int64_t f_row, int64_t f_column, Out* out, int64_t out_row, int64_t out_column) {
    const int64_t whole = f_column == 1 && out_column == 1 ? columns / kWidth * kWidth : 0;
    const Vec scales = broadcast(&scale);
    for (int64_t r = 0; r < rows; ++r, sum += lds, f += f_row, out += out_row) {
        for (int64_t j = 0; j < whole; j += kWidth) {
            Vec value = multiply(scales, load(sum + j));
            if (kMask) value = zero_unless_positive(value, load(f + j));
            if (kAccumulate) value = add(load(out + j), value);
            store(out + j, value);
        }
        for (int64_t j = whole; j < columns; ++j) {
            float value = scale * sum[j];
            if (kMask && as_float(f[j * f_column]) <= 0) value = 0;
            Out* at = out + j * out_column;
            put(at, kAccumulate ? as_float(*at) + value : value);
        }
    }
}

template <class Units, class T, class Out>
void gradient_typed(const GradientTask& task) {
    const int64_t c = task.channels, units = ceil_div(c, Units::per_unit);
    const int64_t s_units = padded(c) / Units::per_unit;  // S is packed with padding, F is not
    const int64_t fc = task.features.row_stride, fn = task.features.column_stride;
    const int64_t oc = task.out.row_stride, on = task.out.column_stride;
    const bool swap = task.channels_contiguous != 0;  // rows of a tile are positions, else channels
    const int64_t f_row = swap ? fn : fc, f_column = swap ? fc : fn;
    const int64_t out_row = swap ? on : oc, out_column = swap ? oc : on;
    const float* const a = swap ? task.scratch : task.packed;
    const float* const b = swap ? task.packed : task.scratch;
    const int64_t a_units = swap ? units : s_units, b_units = swap ? s_units : units;
    const auto end_tile =
        task.accumulate
            ? (task.relu_mask ? finish<true, true, T, Out> : finish<true, false, T, Out>)
            : (task.relu_mask ? finish<false, true, T, Out> : finish<false, false, T, Out>);
    const float* const in_place =
        swap ? units_in_place(Units{}, static_cast<const T*>(task.features.data), fc) : nullptr;
    const int64_t block = in_place ? kInPlaceBlock : gradient_block(c);
    for (int64_t first = task.first; first < task.last; first += block) {
        const int64_t positions = min(block, task.last - first);
        const int64_t rows = swap ? positions : c, columns = swap ? c : positions;
        const T* f = static_cast<const T*>(task.features.data) + first * fn;
        Out* out = const_cast<Out*>(static_cast<const Out*>(task.out.data)) + first * on;
        const Panels panels(columns);
        const int64_t whole = rows / kRows * kRows;
        if (in_place) {
            if (whole < rows) {  // but for rows that do not fill a tile
                pack_rows<Units>(f + whole * fn, fn, fc, rows - whole, c, task.scratch);
                for (int64_t i = (rows - whole) * units; i < kRows * units; ++i)
                    task.scratch[i] = 0;
            }
        } else if (swap) {
            pack_rows<Units>(f, fn, fc, rows, c, task.scratch);
            for (int64_t i = rows * units; i < padded_rows(rows) * units; ++i) task.scratch[i] = 0;
        } else {
            for (int64_t p = 0; p < panels.count; ++p) {
                const int64_t begin = panels.begin(p) * kWidth, end = panels.begin(p + 1) * kWidth;
                pack_panel<Units>(f + begin * fn, fc, fn, c, min(end, columns) - begin, end - begin,
                                  task.scratch + begin * units);
            }
        }
        const int64_t next = min(block, task.last - first - positions);
        const int64_t tiles = panels.count * ceil_div(rows, kRows);
        Ahead ahead(f + positions * fn, c, fc, next, fn, tiles);
        Ahead ahead_of_out(out + positions * on, c, oc, in_place ? next : 0, on, tiles);
        const auto do_tile = [&](int64_t i, int64_t p) {
            const int64_t begin = panels.begin(p) * kWidth,
                          width = panels.begin(p + 1) * kWidth - begin;
            const int64_t height = min(kRows, rows - i), length = min(width, columns - begin);
            Out* at = out + i * out_row + begin * out_column;
            if (out_column == 1 && !in_place) {
                for (int64_t r = 0; r < height; ++r) {
                    for (int64_t j = 0; j < length; j += 64 / static_cast<int64_t>(sizeof(Out)))
                        __builtin_prefetch(at + r * out_row + j, 1, 3);
                }
            }
            const float* factors = a + i * a_units;
            int64_t row = a_units;
            if (in_place && i < whole) {
                factors = in_place + (first + i) * fn;
                row = fn;
            } else if (in_place) {
                factors = task.scratch;
            }
            float sum[kRows * kVectors * kWidth];
            tile<Units>(width / kWidth, units, factors, row, 1, b + begin * b_units, width, sum,
                        width, false);
            end_tile(sum, width, height, length, task.scale, f + i * f_row + begin * f_column,
                     f_row, f_column, at, out_row, out_column);
            ahead.tile_done();
            ahead_of_out.tile_done();
        };
        if (swap) {  // a panel of S stays close while the positions pass by
            for (int64_t p = 0; p < panels.count; ++p) {
                for (int64_t i = 0; i < rows; i += kRows) do_tile(i, p);
            }
        } else {  // rows of S stay close while the panels of F pass by
            for (int64_t i = 0; i < rows; i += kRows) {
                for (int64_t p = 0; p < panels.count; ++p) do_tile(i, p);
            }
        }
    }
}

void gradient(const GradientTask& task) {
    if (task.features.bfloat16) {
        if (task.out.bfloat16) return gradient_typed<Bf16Units, bf16, bf16>(task);
        return gradient_typed<Bf16Units, bf16, float>(task);
    }
    if (task.out.bfloat16) return gradient_typed<Floats, float, bf16>(task);
    return gradient_typed<Floats, float, float>(task);
}

// --------------------------------------------------------------------------------------- sizes --

int64_t panel_count(int64_t channels) {
    return Panels(channels).count;
}
int64_t panel_begin(int64_t channels, int64_t p) {
    return Panels(channels).begin(p) * kWidth;
}
int64_t gram_scratch(int64_t channels) {
    return padded(channels) * gram_block(channels);
}

int64_t gradient_scratch(int64_t channels) {
    return gradient_block(channels) * (channels + 1);
}

}  // namespace

extern const GramTable gram_table;
const GramTable gram_table = {
    kWidth,         padded, panel_count, panel_begin, gram_scratch, gradient_scratch,
    gradient_block, gram,   reduce,      pack,        gradient};

}  // namespace FASTNST_ISA
}  // namespace fastnst
