// Gram matrices, style losses and their gradients.

#include <algorithm>

#include "check.h"

namespace checks {
namespace {

struct Shape {
    int64_t batch, channels, positions;
};

constexpr Shape kShapes[] = {
    {1, 1, 1},    {2, 3, 35},
    {1, 17, 81},  {1, 24, 300},  // more positions than a register tile adds up at a time
    {1, 49, 130},                // one channel more than whole vectors
    {1, 100, 21},                // several panels
    {1, 96, 150},                // the same of whole vectors, in more than one sum
    {1, 5, 1300},                // several sums, added up afterwards
};

enum class Layout { nchw, nhwc, strided };

struct Strides {
    int64_t batch, channel, position, size;
    Strides(const Shape& s, Layout layout) {
        channel = layout == Layout::nchw ? s.positions : layout == Layout::nhwc ? 1 : 2;
        position = layout == Layout::nchw   ? 1
                   : layout == Layout::nhwc ? s.channels
                                            : 2 * s.channels + 1;
        batch = s.channels * s.positions * (layout == Layout::strided ? 3 : 1);
        size =
            (s.batch - 1) * batch + (s.channels - 1) * channel + (s.positions - 1) * position + 1;
    }
    int64_t at(int64_t b, int64_t c, int64_t n) const {
        return b * batch + c * channel + n * position;
    }
};

// What plain loops make of a layer, and the sums of absolute terms, which bound the errors.
struct Truth {
    static constexpr float kScale = 0.37f;        // of the gradient
    Numbers difference;                           // D of the gradient
    std::vector<double> gram, gram_size;          // [B, C, C]
    std::vector<double> gradient, gradient_size;  // [B, C, N]: scale * S F

    Truth(const Shape& s, const Strides& strides, const Numbers& features)
        : difference(DType::float32, s.batch * s.channels * s.channels) {
        Random random(11);
        random.fill(difference);
        const std::vector<double> f = features.doubles(), d = difference.doubles();
        const int64_t c = s.channels;
        const auto at = [&](int64_t b, int64_t k, int64_t n) {
            return f[static_cast<std::size_t>(strides.at(b, k, n))];
        };
        const auto add_up = [](int64_t count, double factor, const auto& term,
                               std::vector<double>& sums, std::vector<double>& sizes) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < count; ++i) {
                const double x = term(i);
                sum += x;
                size += std::fabs(x);
            }
            sums.push_back(factor * sum);
            sizes.push_back(factor * size);
        };
        for (int64_t b = 0; b < s.batch; ++b) {
            for (int64_t i = 0; i < c; ++i) {
                for (int64_t j = 0; j < c; ++j)
                    add_up(
                        s.positions, 1 / static_cast<double>(s.positions),
                        [&](int64_t n) { return at(b, i, n) * at(b, j, n); }, gram, gram_size);
                for (int64_t n = 0; n < s.positions; ++n)
                    add_up(
                        c, static_cast<double>(kScale),
                        [&](int64_t k) {
                            const std::size_t row = static_cast<std::size_t>((b * c + i) * c + k);
                            const std::size_t column =
                                static_cast<std::size_t>((b * c + k) * c + i);
                            return (d[row] + d[column]) / 2 * at(b, k, n);
                        },
                        gradient, gradient_size);
            }
        }
    }
};

void check_gradient(Report& report, const Shape& s, const Strides& strides, const Numbers& f,
                    const Truth& truth, const std::string& name) {
    const int64_t c = s.channels;
    // twice C products, since bfdot rounds a sum of two products to odd; S in bfloat16 with
    // bfloat16 features, where the instruction set multiplies it
    const bool rounds = f.dtype() == DType::bfloat16 && fastnst::convolves_bfloat16();
    const double products =
        2 * static_cast<double>(c + 3) * kRounding + (rounds ? 1.01 * kRoundingBf16 : 0);
    for (const bool accumulate : {false, true}) {
        for (const bool mask : {false, true}) {
            for (const DType dtype : {DType::float32, DType::bfloat16}) {
                Numbers out(dtype, strides.size), again(dtype, strides.size);
                Random random(5);
                random.fill(out);
                again.set(out);
                Numbers before(dtype, strides.size);
                before.set(out);
                fastnst::GradientLayer layer{{f.data(), f.dtype(), s.batch, c, s.positions,
                                              strides.batch, strides.channel, strides.position},
                                             truth.difference.floats(),
                                             Truth::kScale,
                                             mask,
                                             accumulate,
                                             out.data(),
                                             dtype,
                                             strides.batch,
                                             strides.channel,
                                             strides.position};
                fastnst::gram_gradient(&layer, 1, 1);
                if (!accumulate && mask) {
                    layer.out = again.data();
                    fastnst::gram_gradient(&layer, 1, 3);
                    report.expect(out.same_bits(again), name + ", gradient by three threads");
                }
                bool close = true;
                std::size_t at = 0;
                std::vector<bool> written(static_cast<std::size_t>(strides.size), false);
                for (int64_t b = 0; b < s.batch; ++b) {
                    for (int64_t i = 0; i < c; ++i) {
                        for (int64_t n = 0; n < s.positions; ++n, ++at) {
                            const int64_t offset = strides.at(b, i, n);
                            written[static_cast<std::size_t>(offset)] = true;
                            const bool masked = mask && f[offset] <= 0;
                            const double old = accumulate ? static_cast<double>(before[offset]) : 0;
                            const double expected = old + (masked ? 0 : truth.gradient[at]);
                            const double ends = dtype == DType::bfloat16 ? kRoundingBf16 : 0;
                            const double bound =
                                (masked ? 0 : truth.gradient_size[at] * products * (1 + 2 * ends)) +
                                (std::fabs(old) + std::fabs(expected)) * (2 * kRounding + ends);
                            close = close &&
                                    std::fabs(static_cast<double>(out[offset]) - expected) <= bound;
                        }
                    }
                }
                report.expect(close, name + ", gradient" + (accumulate ? " added" : "") +
                                         (mask ? " masked" : "") +
                                         (dtype == DType::bfloat16 ? " in bfloat16" : ""));
                bool kept = true;
                for (int64_t i = 0; i < strides.size; ++i)
                    kept = kept && (written[static_cast<std::size_t>(i)] || out[i] == before[i]);
                report.expect(kept, name + ", gradient between its elements");
            }
        }
    }
}

}  // namespace

void check_gram(Report& report) {
    for (const Shape& s : kShapes) {
        for (const DType dtype : {DType::float32, DType::bfloat16}) {
            for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::strided}) {
                const Strides strides(s, layout);
                const int64_t c = s.channels;
                Random random(static_cast<std::uint64_t>(c));
                Numbers f(dtype, strides.size), target(DType::float32, c * c);
                random.fill(f);
                random.fill(target);
                const Truth truth(s, strides, f);
                const std::string name = "gram " + std::to_string(s.batch) + " x " +
                                         std::to_string(c) + " x " + std::to_string(s.positions) +
                                         (dtype == DType::bfloat16 ? " bfloat16" : "") +
                                         (layout == Layout::nchw   ? " nchw"
                                          : layout == Layout::nhwc ? " nhwc"
                                                                   : " strided");
                for_each_isa([&](const std::string&) {
                    const int64_t size = s.batch * c * c;
                    Numbers gram(DType::float32, size), difference(DType::float32, size),
                        again(DType::float32, size);
                    float loss = 0;
                    fastnst::GramLayer layer{{f.data(), dtype, s.batch, c, s.positions,
                                              strides.batch, strides.channel, strides.position},
                                             gram.floats(),
                                             target.floats(),
                                             0,
                                             difference.floats(),
                                             &loss};
                    fastnst::gram(&layer, 1, 1);
                    layer.gram = again.floats();
                    fastnst::gram(&layer, 1, 3);
                    report.expect(gram.same_bits(again), name + " by three threads");
                    bool close = true, symmetric = true, subtracted = true;
                    double squares = 0;
                    for (int64_t i = 0; i < size; ++i) {
                        const std::size_t at = static_cast<std::size_t>(i);
                        // each of N products and sums rounds once, bfdot to odd: twice; then 1 / N
                        const double bound = 2 * static_cast<double>(s.positions + 3) * kRounding *
                                             truth.gram_size[at];
                        close = close &&
                                std::fabs(static_cast<double>(gram[i]) - truth.gram[at]) <= bound;
                        const int64_t row = i / c % c, column = i % c;
                        symmetric = symmetric && gram[i] == gram[i + (column - row) * (c - 1)];
                        const double g = static_cast<double>(gram[i]);
                        const double a = static_cast<double>(target[row * c + column]);
                        // the compiler may subtract before 1 / N rounds: a rounding of g more
                        subtracted =
                            subtracted && std::fabs(static_cast<double>(difference[i]) - (g - a)) <=
                                              kRounding * (std::fabs(g) + std::fabs(g - a));
                        squares +=
                            static_cast<double>(difference[i]) * static_cast<double>(difference[i]);
                    }
                    report.expect(close, name);
                    report.expect(symmetric, name + " is symmetric");
                    report.expect(subtracted, name + ": difference");
                    // lanes add 32 squares in float at most
                    const double mean = squares / static_cast<double>(size);
                    report.expect(
                        std::fabs(static_cast<double>(loss) - mean) <= 34 * kRounding * mean,
                        name + ": loss");
                    check_gradient(report, s, strides, f, truth, name);
                });
            }
        }
    }
}

}  // namespace checks
