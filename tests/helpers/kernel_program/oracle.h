// Convolutions and their gradients from the definition, in double, and the windows of pooling.
#pragma once

#include "check.h"

namespace checks {

struct Picture {
    int64_t batch, height, width;
};

// f(position of y, position of x, tap) for each pair with x[position + tap - 1]
template <class F>
void for_each_tap(const Picture& p, const F& f) {
    for (int64_t b = 0; b < p.batch; ++b) {
        for (int64_t y = 0; y < p.height; ++y) {
            for (int64_t x = 0; x < p.width; ++x) {
                for (int64_t tap = 0; tap < 9; ++tap) {
                    const int64_t v = y + tap / 3 - 1, u = x + tap % 3 - 1;
                    if (v < 0 || v >= p.height || u < 0 || u >= p.width) continue;
                    f((b * p.height + y) * p.width + x, (b * p.height + v) * p.width + u, tap);
                }
            }
        }
    }
}

// y[i, j, o] = bias[o] + sum over u, v, c of W[o, c, u, v] x[i + u - 1, j + v - 1, c]
inline std::vector<double> convolution(const Picture& p, int64_t channels_in, int64_t channels_out,
                                       const Numbers& x, const Numbers& weights,
                                       const Numbers& bias) {
    const std::vector<double> in = x.doubles(), w = weights.doubles(), b = bias.doubles();
    std::vector<double> y;
    for (int64_t i = 0; i < p.batch * p.height * p.width; ++i)
        y.insert(y.end(), b.begin(), b.end());
    for_each_tap(p, [&](int64_t to, int64_t from, int64_t tap) {
        const double* const here = in.data() + from * channels_in;
        for (int64_t o = 0; o < channels_out; ++o) {
            const double* const filter = w.data() + o * channels_in * 9 + tap;
            double sum = 0;
            for (int64_t c = 0; c < channels_in; ++c) sum += filter[c * 9] * here[c];
            y[static_cast<std::size_t>(to * channels_out + o)] += sum;
        }
    });
    return y;
}

// dx[i + u - 1, j + v - 1, c] += sum over o of W[o, c, u, v] dy[i, j, o]
inline std::vector<double> input_gradient(const Picture& p, int64_t channels_in,
                                          int64_t channels_out, const Numbers& dy,
                                          const Numbers& weights) {
    const std::vector<double> in = dy.doubles(), w = weights.doubles();
    std::vector<double> dx(static_cast<std::size_t>(p.batch * p.height * p.width * channels_in));
    for_each_tap(p, [&](int64_t from, int64_t to, int64_t tap) {
        double* const here = dx.data() + to * channels_in;
        for (int64_t o = 0; o < channels_out; ++o) {
            const double g = in[static_cast<std::size_t>(from * channels_out + o)];
            const double* const filter = w.data() + o * channels_in * 9 + tap;
            for (int64_t c = 0; c < channels_in; ++c) here[c] += g * filter[c * 9];
        }
    });
    return dx;
}

// f(index of the pooled, indices of the four of its window), whole windows only
template <class F>
void for_each_window(const Picture& p, int64_t channels, const F& f) {
    int64_t at = 0;
    for (int64_t b = 0; b < p.batch; ++b) {
        for (int64_t y = 0; y < p.height / 2; ++y) {
            for (int64_t x = 0; x < p.width / 2; ++x) {
                const int64_t corner = ((b * p.height + 2 * y) * p.width + 2 * x) * channels;
                for (int64_t c = 0; c < channels; ++c, ++at) {
                    const int64_t from[4] = {corner + c, corner + channels + c,
                                             corner + p.width * channels + c,
                                             corner + (p.width + 1) * channels + c};
                    f(at, from);
                }
            }
        }
    }
}

}  // namespace checks
