// 3x3 convolutions by Winograd, both ways, with all that happens on the way.

#include <algorithm>

#include "check.h"
#include "oracle.h"

namespace checks {
namespace {

struct Shape {
    int64_t batch, height, width, channels_in, channels_out;
};

constexpr Shape kShapes[] = {
    {1, 1, 1, 16, 16},    // one position: all border
    {2, 5, 3, 32, 16},    // a batch
    {1, 9, 7, 48, 80},    // five panels: of four and one
    {1, 26, 27, 16, 16},  // a block of a thread's own
    {1, 5, 6, 528, 16}    // more channels than are transformed at a time
};

// Winograd adds and subtracts numbers larger than the result's parts: errors of about 20 (tiles of
// 4x4) and 80 (6x6) roundings of 6e-8, in practice 1e-6 and 4e-6. In bfloat16 patches and filters
// are rounded by 2^-8 at most, and the output transform makes about four times as much of it.
constexpr double kFloats = 1e-5, kBf16 = 2e-2;

std::string name_of(const Shape& s, int tile, DType dtype, DType products) {
    return "convolution of " + std::to_string(s.height) + " x " + std::to_string(s.width) + ", " +
           std::to_string(s.channels_in) + " to " + std::to_string(s.channels_out) + ", tile " +
           std::to_string(tile) +
           (dtype == DType::bfloat16      ? " bfloat16"
            : products == DType::bfloat16 ? " float32, products bfloat16"
                                          : "");
}

// Features, filters and a gradient of one layer, and what plain loops make of them.
struct Layer {
    Shape s;
    DType dtype, products;
    Numbers x, gradient, weights, bias, pooled_gradient;
    std::vector<double> forward, backward;

    Layer(const Shape& shape, DType type, DType of_products)
        : s(shape),
          dtype(type),
          products(of_products),
          x(type, s.batch * s.height * s.width * s.channels_in),
          gradient(type, s.batch * s.height * s.width * s.channels_out),
          weights(DType::float32, s.channels_out * s.channels_in * 9),
          bias(DType::float32, s.channels_out),
          pooled_gradient(type, s.batch * (s.height / 2) * (s.width / 2) * s.channels_out) {
        Random random(static_cast<std::uint64_t>(s.height));
        random.fill(x, 1, true);
        random.fill(gradient);
        random.fill(weights, 1 / std::sqrt(9.0 * static_cast<double>(s.channels_in)));
        random.fill(bias, 0.1);
        random.fill(pooled_gradient);
        const Picture picture{s.batch, s.height, s.width};
        forward = convolution(picture, s.channels_in, s.channels_out, x, weights, bias);
        backward = input_gradient(picture, s.channels_in, s.channels_out, gradient, weights);
        for (std::size_t i = 0; i < backward.size(); ++i) {
            if (x[static_cast<int64_t>(i)] <= 0) backward[i] = 0;
        }
    }
};

fastnst::Convolution describe(const Layer& layer, int tile, bool back) {
    const Shape& s = layer.s;
    fastnst::Convolution c{};
    c.dtype = layer.dtype;
    c.products = layer.products;
    c.tile = tile;
    c.batch = s.batch;
    c.height = c.last = s.height;
    c.width = s.width;
    c.channels_in = back ? s.channels_out : s.channels_in;
    c.channels_out = back ? s.channels_in : s.channels_out;
    return c;
}

// The filters of one layer, transformed.
Numbers transformed(const Layer& layer, int tile, bool gradient) {
    Numbers u(layer.products, (tile + 2) * (tile + 2) * layer.s.channels_in * layer.s.channels_out);
    fastnst::winograd_weights(tile, layer.weights.floats(), layer.s.channels_out,
                              layer.s.channels_in, gradient, layer.products, u.data(), 1);
    return u;
}

bool bit(const Memory& bits, int64_t i) {
    uint16_t word;
    std::memcpy(&word, bits.data() + i / 16 * 2, 2);
    return word >> i % 16 & 1;
}

void check_forward(Report& report, const Layer& layer, int tile, const std::string& name) {
    const Shape& s = layer.s;
    const double tolerance = layer.products == DType::bfloat16 ? kBf16 : kFloats;
    const int64_t size = s.batch * s.height * s.width * s.channels_out;
    const int64_t windows = s.batch * (s.height / 2) * (s.width / 2) * s.channels_out;
    const Numbers filters = transformed(layer, tile, false);
    Numbers preactivation(layer.dtype, size), out(layer.dtype, size), again(layer.dtype, size);
    fastnst::Convolution c = describe(layer, tile, false);
    c.input = layer.x.data();
    c.weights = filters.data();
    c.bias = layer.bias.floats();
    c.relu = true;
    c.preactivation = preactivation.data();
    c.out = again.data();
    fastnst::winograd_convolution(c, 3);
    c.out = out.data();
    fastnst::winograd_convolution(c, 1);
    report.close(preactivation, layer.forward, tolerance, name);
    report.expect(out.same_bits(again), name + " by three threads");
    bool relu = true;
    for (int64_t i = 0; i < size; ++i) relu = relu && out[i] == std::max(preactivation[i], 0.0f);
    report.expect(relu, name + ", ReLU");
    if (!windows) return;

    for (const fastnst::Pooling pooling : {fastnst::Pooling::average, fastnst::Pooling::max}) {
        const bool max = pooling == fastnst::Pooling::max;
        Numbers pooled(layer.dtype, windows);
        Memory bits(static_cast<std::size_t>(size / 8));
        c.preactivation = nullptr;
        c.out = again.data();
        c.pooling = pooling;
        c.pooled = pooled.data();
        c.positive = reinterpret_cast<uint16_t*>(bits.data());
        fastnst::winograd_convolution(c, 1);
        report.expect(out.same_bits(again), name + ", beside its pooling");
        bool signs = true, right = true;
        for (int64_t i = 0; i < size; ++i) signs = signs && bit(bits, i) == (out[i] > 0);
        report.expect(signs, name + ", bits of what is positive");
        for_each_window(Picture{s.batch, s.height, s.width}, s.channels_out,
                        [&](int64_t at, const int64_t (&from)[4]) {
                            double sum = 0, largest = 0;
                            for (const int64_t i : from) {
                                sum += static_cast<double>(out[i]) / 4;
                                largest = std::max(largest, static_cast<double>(out[i]));
                            }
                            const double expected = max ? largest : sum;
                            // the average is of what was not yet rounded to bfloat16, and rounded
                            // itself; in float three sums round
                            const double slack = max ? 0
                                                     : expected * (layer.dtype == DType::bfloat16
                                                                       ? 2.1 * kRoundingBf16
                                                                       : 3 * kRounding);
                            right = right &&
                                    std::fabs(static_cast<double>(pooled[at]) - expected) <= slack;
                        });
        report.expect(right, name + (max ? ", max pooling" : ", average pooling"));
        if (max) continue;

        // the way back from the pooled by bits, and by the features themselves: the same bits
        Numbers spread(layer.dtype, size);
        fastnst::unpool({layer.dtype, s.batch, s.height, s.width, s.channels_out,
                         layer.pooled_gradient.data(), out.data(), pooling, true, spread.data()},
                        1);
        const Numbers way_back = transformed(layer, tile, true);
        Numbers found(layer.dtype, layer.x.size()), expected(layer.dtype, layer.x.size());
        fastnst::Convolution back = describe(layer, tile, true);
        back.weights = way_back.data();
        back.mask = layer.x.data();
        back.input = spread.data();
        back.out = expected.data();
        fastnst::winograd_convolution(back, 1);
        back.input = layer.pooled_gradient.data();
        back.input_positive = reinterpret_cast<uint16_t*>(bits.data());
        back.out = found.data();
        fastnst::winograd_convolution(back, 1);
        report.expect(found.same_bits(expected), name + ", back from its pooling by bits");
    }
}

void check_backward(Report& report, const Layer& layer, int tile, const std::string& name) {
    for (const bool shared : {false, true}) {
        if (shared && layer.products == DType::bfloat16) continue;
        const Numbers filters = transformed(layer, tile, !shared);
        Numbers out(layer.dtype, layer.x.size()), again(layer.dtype, layer.x.size());
        fastnst::Convolution c = describe(layer, tile, true);
        c.input = layer.gradient.data();
        c.weights = filters.data();
        c.transposed = shared;
        c.mask = layer.x.data();
        c.out = again.data();
        fastnst::winograd_convolution(c, 3);
        c.out = out.data();
        fastnst::winograd_convolution(c, 1);
        const std::string what = name + (shared ? ", back by shared filters" : ", back");
        report.close(out, layer.backward, layer.products == DType::bfloat16 ? kBf16 : kFloats,
                     what);
        report.expect(out.same_bits(again), what + " by three threads");
    }
}

// Features in float32 whose numbers are those of bfloat16 have the same products as they have in
// bfloat16, and are rounded once less: both ways, to the bit.
void check_storage(Report& report, const Layer& half, const std::string& name) {
    const Numbers* const inputs[] = {&half.x, &half.gradient};
    for (const bool back : {false, true}) {
        const Numbers filters = transformed(half, 4, back);
        const Numbers& input = *inputs[back];
        const int64_t size = inputs[!back]->size();
        Numbers wide(DType::float32, input.size()), exact(DType::float32, size);
        Numbers rounded(DType::bfloat16, size), expected(DType::bfloat16, size);
        wide.set(input);
        fastnst::Convolution c = describe(half, 4, back);
        c.weights = filters.data();
        c.input = input.data();
        c.out = expected.data();
        fastnst::winograd_convolution(c, 1);
        c.dtype = DType::float32;
        c.input = wide.data();
        c.out = exact.data();
        fastnst::winograd_convolution(c, 1);
        rounded.set(exact);
        report.expect(rounded.same_bits(expected), name + (back ? ", back" : "") + " as bfloat16");
    }
}

}  // namespace

void check_convolution(Report& report) {
    constexpr DType kTypes[][2] = {{DType::float32, DType::float32},
                                   {DType::float32, DType::bfloat16},
                                   {DType::bfloat16, DType::bfloat16}};
    for (const Shape& s : kShapes) {
        for (const auto& [dtype, products] : kTypes) {
            const bool half = products == DType::bfloat16;
            // the best instruction set multiplies it, or none
            if (half && !fastnst::convolves_bfloat16()) continue;
            const Layer layer(s, dtype, products);
            for_each_isa([&, dtype = dtype, products = products](const std::string&) {
                if (half && !fastnst::convolves_bfloat16()) return;
                for (const int tile : {4, 6}) {
                    if (tile == 6 && half) continue;
                    const std::string name = name_of(s, tile, dtype, products);
                    check_forward(report, layer, tile, name);
                    check_backward(report, layer, tile, name);
                }
                if (dtype == DType::bfloat16)
                    check_storage(report, layer, name_of(s, 4, DType::float32, products));
            });
        }
    }
}

}  // namespace checks
