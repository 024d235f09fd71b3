// Cuts convolutions into tasks and hands them to threads. Baseline code. The cut depends on the
// shapes and each output on its own inputs: the result has the same bits for every thread count.

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "../checks.h"
#include "../fastnst.h"
#include "dispatch.h"
#include "kernels/integers.h"
#include "threads.h"

namespace fastnst {
namespace {

constexpr std::int64_t kPanel = 16, kMostPanels = 4;
constexpr std::int64_t kRows = 6;        // of a register tile: blocks are multiples
constexpr std::int64_t kInputTiles = 6;  // of a task that transforms patches for all threads

void check_sides(std::int64_t batch, std::int64_t height, std::int64_t width) {
    expect(batch > 0 && height > 0 && width > 0, "batch, height and width must be at least 1");
}

// data + elements
const void* at(const void* data, DType dtype, std::int64_t elements) {
    return data ? static_cast<const char*>(data) + elements * size_of(dtype) : nullptr;
}

void* at(void* data, DType dtype, std::int64_t elements) {
    return data ? static_cast<char*>(data) + elements * size_of(dtype) : nullptr;
}

void check_type(DType dtype) {
    expect(dtype == DType::float32 || dtype == DType::bfloat16, "expected float32 or bfloat16");
}

void check_products(DType products) {
    expect(products == DType::float32 || products == DType::bfloat16 || products == DType::int16,
           "products: expected float32, bfloat16 or int16");
}

// The kernels' word for it.
Products kind_of(DType products) {
    check_products(products);
    if (products == DType::int16) return Products::integers;
    return products == DType::bfloat16 ? Products::bfloat16 : Products::floats;
}

// The kernels for tiles of this side and products of this type.
const WinogradTable& winograd(int tile, DType products) {
    check_products(products);
    expect(tile == 4 || tile == 6, "tile: expected 4 or 6");
    const WinogradTable& table = kernels().winograd[tile == 6];
    if (products == DType::bfloat16 && !kernels().winograd->bfloat16)
        throw std::runtime_error("convolutions in bfloat16 need neonbf16 or avx512bf16, not " +
                                 std::string(kernels().name));
    if (products == DType::int16 && !multiplies_integers())
        throw std::runtime_error("products of int16 need avx512vnni: " +
                                 std::string(kernels().name) + " on this processor has none");
    expect(products == DType::float32 || tile == 4, "tile: expected 4 for bfloat16 and int16");
    return table;
}

std::int64_t products_of(std::int64_t tile) {
    return (tile + 2) * (tile + 2);
}

void check_channels(std::int64_t channels) {
    expect(channels > 0 && channels % kPanel == 0, "channels must be a multiple of 16");
}

// Whether to write an output past the caches: where it would not stay in them until it is read,
// this saves reading the lines before they are overwritten. conv1_2 at 512 x 512, two cores (Zen 5,
// AVX-512): the output transform takes 1.4 ms instead of 4.
int streamed(const void* out, std::int64_t bytes) {
    return bytes >= std::int64_t{1} << 24 && reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
}

// How a layer is cut into blocks of tiles. A block's patches are transformed (V, 144 or 256 bytes
// a tile and channel), multiplied and transformed back, 64 output channels at a time, so that the
// sums M need little memory. The weights U are read once a block: the larger they are, the larger
// the block.
//
// Private: a thread does all of a block, V stays in its L2 cache. Shared: all threads transform
// some blocks, then share out the output channels, so that each part of U, 36 MB for 512 channels,
// is read by one thread only; this also feeds the threads when there are few tiles.
//
// Effective GFLOP/s of one core (Zen 5, AVX-512) at 512 x 512 by block, ci -> co:
//           64->64  64->128  128->128  128->256  256->256  256->512  512->512
//     12      515     555      604       679       666       434       414    private
//     48      543     561      628       686       638       598       618
//     96      510     522      614       622       670       682       699
//     96      513     553      634       766       695       701       735    shared, 96 tiles
//     96      505     549      557       532       474       538       571    shared, 384 tiles
//
// That is with tiles of 4x4. Those of 6x6 prefer the same blocks (24 to 72 are within 3 % up to 256
// channels) but for ci = 256, where 96 are too few tasks.
struct Cut {
    std::int64_t block;   // tiles
    std::int64_t shared;  // tiles whose V exists at a time, or 0: private
    Cut(int tile, std::int64_t tiles, std::int64_t ci, std::int64_t co, int threads) {
        const std::int64_t workers = std::max(threads, 1),
                           most = ci <= (tile == 4 ? 128 : 256) ? 48 : 96;
        // so many tasks that each thread gets two or more
        const std::int64_t rounds = std::max<std::int64_t>(2, ceil_div(tiles, workers * most));
        block = std::min(most, round_up(ceil_div(tiles, workers * rounds), kRows));
        shared = 0;
        if (ci < 512 && block >= 24) return;
        const std::int64_t parts = ceil_div(2 * workers, ceil_div(co, kMostPanels * kPanel));
        block = std::min(most, round_up(ceil_div(tiles, parts), kRows));
        shared = block * parts;
    }
};

}  // namespace

int winograd_tile(DType products, std::int64_t batch, std::int64_t height, std::int64_t width,
                  std::int64_t channels_in, std::int64_t channels_out) {
    check_products(products);
    check_sides(batch, height, width);
    if (products != DType::float32) return 4;
    // Tiles of 6x6 save up to a fifth of the products, but read 64 instead of 36 numbers a filter
    // and waste more at the border. Time with 4x4 over time with 6x6 on two cores, AVX-512 / AVX2:
    //
    //     side (saved)    64 -> 64      128 -> 128     256 -> 256     512 -> 512
    //      32 (0)        .95 / .58      .84 / .92      .91 / 1.00
    //      48 (1088)     .77 / .80      .82 / .95     1.16 / 1.07
    //      64 (1472)    1.17 / 1.06    1.16 / 1.11     .90 / .98     1.06 / 1.14
    //      96 (4352)    1.29 / 1.22                   1.02 / 1.11    1.17 / 1.21
    //     128 (5888)    1.11 / 1.22    1.09 / 1.24                   1.08 / 1.11
    //
    // From 512 to 512 channels it does not pay for its filters: 67 MB each way in the place of 38.
    if (channels_in * channels_out >= 512 * 512) return 4;
    const std::int64_t fours = batch * ceil_div(height, 4) * ceil_div(width, 4);
    const std::int64_t sixes = batch * ceil_div(height, 6) * ceil_div(width, 6);
    const std::int64_t saved = products_of(4) * fours - products_of(6) * sixes;
    return saved >= 4000 ? 6 : 4;
}

void winograd_weights(int tile, const float* filters, std::int64_t channels_out,
                      std::int64_t channels_in, bool gradient, DType dtype, void* out,
                      int threads) {
    expect(filters && out, "weights: null pointer");
    check_channels(channels_in);
    check_channels(channels_out);
    const WinogradTable& table = winograd(tile, dtype);
    const std::int64_t numbers = products_of(tile) * channels_out * channels_in;
    expect_writes(out, numbers * size_of(dtype));
    std::int64_t out_stride = channels_in * 9, in_stride = 9, tap_step = 1;
    if (gradient) {
        std::swap(channels_out, channels_in);
        std::swap(out_stride, in_stride);
        filters += 8;
        tap_step = -1;
    }
    std::vector<WinogradWeightsTask> tasks;
    for (std::int64_t panel = 0; panel < channels_out / kPanel; ++panel) {
        const std::int64_t group = panel / kMostPanels * kMostPanels;
        const std::int64_t panels = std::min(kMostPanels, channels_out / kPanel - group);
        const std::int64_t size = channels_in * kPanel;  // of a panel of one product
        tasks.push_back(
            {kind_of(dtype), filters, out_stride, in_stride, tap_step, channels_in, panel * kPanel,
             at(out, dtype, (products_of(tile) * group + panel - group) * size), panels * size,
             static_cast<float*>(at(out, dtype, numbers)), channels_out});
    }
    for_each(tasks, team_size(threads, tasks.size()),
             [&](WinogradWeightsTask& task, int) { table.weights(task); });
}

void winograd_convolution(const Convolution& layer, int threads) {
    expect(layer.input && layer.weights && (layer.out || layer.pooled),
           "convolution: null pointer");
    check_sides(layer.batch, layer.height, layer.width);
    check_channels(layer.channels_in);
    check_channels(layer.channels_out);
    expect((layer.pooling == Pooling::none) == !layer.pooled,
           "convolution: pooling without pooled");
    check_type(layer.dtype);
    expect(layer.dtype == DType::float32 || layer.products == DType::bfloat16,
           "convolution: features in bfloat16 have products in bfloat16");
    expect(!layer.transposed || (layer.products == DType::float32 && !layer.pooled),
           "convolution: transposed is for products in float32, without pooling");
    const WinogradTable& table = winograd(layer.tile, layer.products);
    const std::int64_t count = products_of(layer.tile);
    const DType dtype = layer.dtype, products = layer.products;
    const int is_bfloat16 = dtype == DType::bfloat16;
    const bool in_integers = products == DType::int16;
    const Products kind = kind_of(products);
    const std::int64_t ci = layer.channels_in, co = layer.channels_out;
    const std::int64_t per_float = 4 / size_of(products);
    const TileGrid grid{layer.height, layer.width, ceil_div(layer.height, layer.tile),
                        ceil_div(layer.width, layer.tile)};
    const bool all = layer.first == 0 && layer.last == layer.height;
    expect(all || (layer.batch == 1 && 0 <= layer.first && layer.first < layer.last &&
                   layer.last <= layer.height && layer.first % layer.tile == 0 &&
                   (layer.last % layer.tile == 0 || layer.last == layer.height)),
           "convolution: rows: expected a batch of 1 and whole tiles");
    const std::int64_t begin = layer.first / layer.tile * grid.across;
    const std::int64_t end = layer.batch * ceil_div(layer.last, layer.tile) * grid.across;
    const std::int64_t tiles = end - begin;
    const std::int64_t positions = layer.batch * layer.height * layer.width;
    if (layer.out) expect_writes(layer.out, positions * co * size_of(dtype));

    const std::int64_t of_patch = in_integers ? ceil_div(ci, kIntegerChannels) * kFactors : 0;
    const auto plane = [&](std::int64_t t) { return t * ci + kPanel * per_float; };
    const auto input_task = [&](std::int64_t first, std::int64_t last, void* out,
                                std::int64_t out_plane, float* factors) {
        return WinogradInputTask{is_bfloat16,          kind, grid,      layer.input,
                                 layer.input_positive, ci,   first,     last,
                                 layer.transposed,     out,  out_plane, factors};
    };
    const float* steps =
        in_integers ? static_cast<const float*>(at(layer.weights, products, count * co * ci))
                    : nullptr;
    const auto output_task = [&](std::int64_t first, std::int64_t last, std::int64_t channel,
                                 const void* v, std::int64_t v_plane, const float* factors,
                                 float* scratch) {
        const std::int64_t panels = std::min(kMostPanels, (co - channel) / kPanel);
        return WinogradOutputTask{
            is_bfloat16,
            kind,
            grid,
            v,
            v_plane,
            factors,
            steps,
            layer.transposed ? layer.weights : at(layer.weights, products, count * channel * ci),
            layer.transposed,
            ci,
            co,
            channel,
            panels,
            first,
            last,
            layer.bias,
            layer.mask,
            layer.relu,
            static_cast<int>(layer.pooling),
            streamed(layer.out, positions * co * size_of(dtype)),
            layer.preactivation,
            layer.out,
            layer.pooled,
            layer.positive,
            scratch};
    };
    const Cut cut(layer.tile, tiles, ci, co, threads);
    const std::int64_t block = cut.block;
    const int most = std::max(threads, 1);
    if (!cut.shared) {
        struct Block {
            std::int64_t first, last;
        };
        std::vector<Block> blocks;
        for (std::int64_t t = begin; t < end; t += block)
            blocks.push_back({t, std::min(t + block, end)});
        const std::int64_t v_size = round_up(count * plane(block) / per_float, 16);
        const std::int64_t all_factors = block * of_patch;  // behind V
        const std::int64_t each = v_size + all_factors + round_up(table.scratch(block), 16);
        const Buffer buffer(each * most);
        for_each(blocks, team_size(threads, blocks.size()), [&](const Block& b, int thread) {
            float* v = buffer.get() + thread * each;
            float* factors = v + v_size;
            table.input(input_task(b.first, b.last, v, plane(block), factors));
            for (std::int64_t channel = 0; channel < co; channel += kMostPanels * kPanel)
                table.output(output_task(b.first, b.last, channel, v, plane(block), factors,
                                         factors + all_factors));
        });
        return;
    }
    const std::int64_t step = std::min(cut.shared, tiles);
    const std::int64_t v_size = round_up(count * plane(step) / per_float, 16);
    const std::int64_t all_factors = step * of_patch;
    const std::int64_t each = round_up(table.scratch(block), 16);
    const Buffer buffer(v_size + all_factors + each * most);
    void* v = buffer.get();
    float* factors = buffer.get() + v_size;
    for (std::int64_t first = begin; first < end; first += step) {
        const std::int64_t last = std::min(first + step, end);
        std::vector<WinogradInputTask> inputs;
        for (std::int64_t t = first; t < last; t += kInputTiles) {
            inputs.push_back(input_task(t, std::min(t + kInputTiles, last),
                                        at(v, products, (t - first) * ci), plane(step),
                                        factors + (t - first) * of_patch));
        }
        for_each(inputs, team_size(threads, inputs.size()),
                 [&](const WinogradInputTask& task, int) { table.input(task); });
        std::vector<WinogradOutputTask> outputs;
        for (std::int64_t channel = 0; channel < co; channel += kMostPanels * kPanel) {
            for (std::int64_t t = first; t < last; t += block) {
                outputs.push_back(output_task(t, std::min(t + block, last), channel,
                                              at(v, products, (t - first) * ci), plane(step),
                                              factors + (t - first) * of_patch, nullptr));
            }
        }
        for_each(outputs, team_size(threads, outputs.size()),
                 [&](WinogradOutputTask& task, int thread) {
                     task.scratch = buffer.get() + v_size + all_factors + thread * each;
                     table.output(task);
                 });
    }
}

// --------------------------------------------------------------------------- the other kernels --

void image_convolution(const ImageConvolution& layer, int threads) {
    expect(layer.image && layer.weights && layer.bias && layer.out, "image: null pointer");
    check_sides(layer.batch, layer.height, layer.width);
    check_channels(layer.channels_out);
    check_type(layer.dtype);
    const KernelTable& table = kernels();
    const std::int64_t plane = layer.height * layer.width, size = plane * layer.channels_out;
    const std::int64_t bytes = layer.batch * size * size_of(layer.dtype);
    const int past_caches = streamed(layer.out, bytes);
    expect_writes(layer.out, bytes);
    std::vector<ImageRowTask> tasks;
    for (std::int64_t b = 0; b < layer.batch; ++b) {
        for (std::int64_t y = 0; y < layer.height; ++y) {
            tasks.push_back({layer.image + b * 3 * plane, layer.height, layer.width, y,
                             layer.channels_out, layer.weights, layer.bias,
                             layer.dtype == DType::bfloat16,
                             at(layer.preactivation, layer.dtype, b * size),
                             at(layer.out, layer.dtype, b * size), past_caches, nullptr});
        }
    }
    const std::int64_t each = round_up(table.direct->image_scratch(layer.width), 16);
    const Buffer buffer(each * std::max(threads, 1));
    for_each(tasks, team_size(threads, tasks.size()), [&](ImageRowTask& task, int thread) {
        task.scratch = buffer.get() + thread * each;
        table.direct->image_row(task);
    });
}

void image_gradient(const ImageGradient& layer, int threads) {
    expect(layer.gradient && layer.weights && layer.out, "image gradient: null pointer");
    check_sides(layer.batch, layer.height, layer.width);
    check_channels(layer.channels);
    check_type(layer.dtype);
    const KernelTable& table = kernels();
    const std::int64_t plane = layer.height * layer.width;
    constexpr std::int64_t kRows = 16;  // of one task, which also needs the row above and below
    std::vector<ImageGradientTask> tasks;
    for (std::int64_t b = 0; b < layer.batch; ++b) {
        for (std::int64_t y = 0; y < layer.height; y += kRows) {
            tasks.push_back({layer.dtype == DType::bfloat16,
                             at(layer.gradient, layer.dtype, b * plane * layer.channels),
                             layer.height, layer.width, layer.channels, y,
                             std::min(y + kRows, layer.height), layer.weights,
                             layer.out + b * 3 * plane, nullptr});
        }
    }
    const std::int64_t each =
        round_up(table.direct->image_gradient_scratch(layer.width, layer.channels), 16);
    const Buffer buffer(each * std::max(threads, 1));
    for_each(tasks, team_size(threads, tasks.size()), [&](ImageGradientTask& task, int thread) {
        task.scratch = buffer.get() + thread * each;
        table.direct->image_gradient(task);
    });
}

void unpool(const Unpool& layer, int threads) {
    expect(layer.pooled && layer.features && layer.out, "unpool: null pointer");
    check_sides(layer.batch, layer.height / 2, layer.width / 2);
    check_channels(layer.channels);
    expect(layer.pooling != Pooling::none, "unpool: expected average or max pooling");
    check_type(layer.dtype);
    const KernelTable& table = kernels();
    const std::int64_t down = layer.height / 2, across = layer.width / 2, c = layer.channels;
    const std::int64_t step = std::max<std::int64_t>(1, 16384 / (across * c));
    const int past_caches =
        streamed(layer.out, layer.batch * layer.height * layer.width * c * size_of(layer.dtype));
    std::vector<UnpoolTask> tasks;
    for (std::int64_t b = 0; b < layer.batch; ++b) {
        const std::int64_t offset = b * layer.height * layer.width * c;
        for (std::int64_t y = 0; y < down; y += step) {
            tasks.push_back({layer.dtype == DType::bfloat16,
                             at(layer.pooled, layer.dtype, b * down * across * c),
                             at(layer.features, layer.dtype, offset), layer.height, layer.width, c,
                             y, std::min(y + step, down), layer.pooling == Pooling::max,
                             layer.relu_mask, at(layer.out, layer.dtype, offset), past_caches});
        }
    }
    for_each(tasks, team_size(threads, tasks.size()),
             [&](UnpoolTask& task, int) { table.direct->unpool(task); });
}

bool multiplies_integers() {
#ifdef __x86_64__
    return kernels().winograd->integers != 0 && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

bool convolves_bfloat16() {
    return kernels().winograd->bfloat16 != 0;  // with tiles of 4x4
}

}  // namespace fastnst
