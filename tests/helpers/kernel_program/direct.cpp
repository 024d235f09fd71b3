// The first layer and its gradient, and the gradient of pooling.

#include <algorithm>

#include "check.h"
#include "oracle.h"

namespace checks {
namespace {

struct Shape {
    int64_t batch, height, width, channels;
};

constexpr Shape kShapes[] = {{1, 1, 1, 16}, {2, 3, 5, 80}, {1, 9, 101, 32}};

// 27 products of numbers of one size: a few roundings of 6e-8
constexpr double kFirstLayer = 1e-6;

void check_first_layer(Report& report, const Shape& s) {
    const Picture picture{s.batch, s.height, s.width};
    const int64_t plane = s.height * s.width, size = s.batch * plane * s.channels;
    Random random(3);
    Numbers image(DType::float32, s.batch * 3 * plane), weights(DType::float32, s.channels * 27),
        bias(DType::float32, s.channels);
    random.fill(image, 60);
    random.fill(weights);
    random.fill(bias);
    // the picture with its colours together, and the filters as the two kernels read them
    Numbers x(DType::float32, image.size()), forward(DType::float32, s.channels * 27),
        backward(DType::float32, 2 * s.channels * 16);
    for (int64_t i = 0; i < image.size(); ++i) {
        const int64_t b = i / (3 * plane), c = i / plane % 3, at = i % plane;
        x.set((b * plane + at) * 3 + c, image[i]);
    }
    for (int64_t i = 0; i < backward.size(); ++i) backward.set(i, 0);
    for (int64_t o = 0; o < s.channels; ++o) {
        for (int64_t c = 0; c < 3; ++c) {
            for (int64_t tap = 0; tap < 9; ++tap) {
                const float w = weights[(o * 3 + c) * 9 + tap];
                forward.set((o / 16 * 27 + c * 9 + tap) * 16 + o % 16, w);
                const int64_t column = 3 * tap + c;
                backward.set((column / 16 * s.channels + o) * 16 + column % 16, w);
            }
        }
    }
    const std::vector<double> truth = convolution(picture, 3, s.channels, x, weights, bias);
    for_each_isa([&](const std::string&) {
        const std::string name = "first layer of " + std::to_string(s.height) + " x " +
                                 std::to_string(s.width) + ", " + std::to_string(s.channels);
        Numbers preactivation(DType::float32, size), out(DType::float32, size),
            again(DType::float32, size), rounded(DType::bfloat16, size);
        fastnst::ImageConvolution layer{
            s.batch,          s.height,      s.width,        s.channels,           image.floats(),
            forward.floats(), bias.floats(), DType::float32, preactivation.data(), out.data()};
        fastnst::image_convolution(layer, 1);
        layer.out = again.data();
        fastnst::image_convolution(layer, 3);
        layer.dtype = DType::bfloat16;
        layer.preactivation = nullptr;
        layer.out = rounded.data();
        fastnst::image_convolution(layer, 1);
        report.close(preactivation, truth, kFirstLayer, name);
        report.expect(out.same_bits(again), name + " by three threads");
        bool relu = true, half = true;
        for (int64_t i = 0; i < size; ++i) {
            relu = relu && out[i] == std::max(preactivation[i], 0.0f);
            half = half && rounded[i] == from_bf16(to_bf16(out[i]));
        }
        report.expect(relu, name + ", ReLU");
        report.expect(half, name + ", rounded to bfloat16");

        for (const DType dtype : {DType::float32, DType::bfloat16}) {
            Numbers gradient(dtype, size), back(DType::float32, image.size());
            random.fill(gradient);
            fastnst::image_gradient({s.batch, s.height, s.width, s.channels, dtype, gradient.data(),
                                     backward.floats(), back.floats()},
                                    1);
            const std::vector<double> dx =
                input_gradient(picture, 3, s.channels, gradient, weights);
            std::vector<double> planes(dx.size());
            for (int64_t i = 0; i < back.size(); ++i) {
                const int64_t b = i / (3 * plane), c = i / plane % 3, at = i % plane;
                planes[static_cast<std::size_t>(i)] =
                    dx[static_cast<std::size_t>((b * plane + at) * 3 + c)];
            }
            report.close(back, planes, kFirstLayer, name + ", gradient");
        }
    });
}

void check_unpool(Report& report, const Shape& s) {
    if (s.height < 2 || s.width < 2) return;
    const int64_t size = s.batch * s.height * s.width * s.channels;
    for_each_isa([&](const std::string&) {
        for (const DType dtype : {DType::float32, DType::bfloat16}) {
            for (const bool max : {false, true}) {
                for (const bool mask : {false, true}) {
                    Random random(7);
                    Numbers pooled(dtype, s.batch * (s.height / 2) * (s.width / 2) * s.channels),
                        features(dtype, size), out(dtype, size), expected(dtype, size);
                    random.fill(pooled);
                    for (int64_t i = 0; i < size; ++i) {
                        features.set(i, std::round(2 * random.normal()));  // many are equal
                        expected.set(i, 0);
                    }
                    for_each_window(Picture{s.batch, s.height, s.width}, s.channels,
                                    [&](int64_t at, const int64_t (&to)[4]) {
                                        int64_t first = to[0];
                                        for (const int64_t i : to) {
                                            if (features[i] > features[first]) first = i;
                                        }
                                        for (const int64_t i : to) {
                                            const bool takes =
                                                (!max || i == first) && (!mask || features[i] > 0);
                                            if (takes)
                                                expected.set(i, max ? pooled[at] : pooled[at] / 4);
                                        }
                                    });
                    fastnst::unpool(
                        {dtype, s.batch, s.height, s.width, s.channels, pooled.data(),
                         features.data(), max ? fastnst::Pooling::max : fastnst::Pooling::average,
                         mask, out.data()},
                        2);
                    bool right = true;
                    for (int64_t i = 0; i < size; ++i) right = right && out[i] == expected[i];
                    report.expect(right, std::string("gradient of ") + (max ? "max" : "average") +
                                             " pooling" + (mask ? ", masked" : ""));
                }
            }
        }
    });
}

}  // namespace

void check_direct(Report& report) {
    for (const Shape& s : kShapes) {
        check_first_layer(report, s);
        check_unpool(report, s);
    }
}

}  // namespace checks
