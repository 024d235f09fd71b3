// What Winograd is not for: the first layer, whose three channels leave a product too thin, and the
// gradient of pooling. Compiled once per instruction set.

#include "product.h"
#include "simd.h"
#include "table.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

constexpr int64_t kColours = 3, kTaps = 9;

// --------------------------------------------------------------------------------- first layer --

// Patches of this many neighbouring positions are laid out as rows of 27 for one product.
constexpr int64_t kPatches = 48;

int64_t image_scratch(int64_t width) {
    return 3 * kColours * (width + 2) + kPatches * (kColours * kTaps + kMostPanels * kPanel);
}

// out[x, co] = relu(bias[co] + sum over c, u, v of W[co, c, u, v] image[c, row + u - 1, x + v - 1])
template <class T>
void image_row_as(const ImageRowTask& task) {
    const int64_t padded = task.width + 2, taps = kColours * kTaps;
    const bool streamed = task.streamed;
    float* lines = task.scratch;  // [c][u][padded]: the three rows around, with zeros outside
    for (int64_t c = 0; c < kColours; ++c) {
        for (int64_t u = 0; u < 3; ++u) {
            const int64_t y = task.row + u - 1;
            float* line = lines + (c * 3 + u) * padded;
            line[0] = line[padded - 1] = 0;
            if (y < 0 || y >= task.height)
                memset(line, 0, static_cast<size_t>(padded) * sizeof(float));
            else
                memcpy(line + 1, task.image + (c * task.height + y) * task.width,
                       static_cast<size_t>(task.width) * sizeof(float));
        }
    }
    float* patches = lines + 9 * padded;      // [x][c, u, v]
    float* sums = patches + kPatches * taps;  // [x][columns]
    for (int64_t first = 0; first < task.width; first += kPatches) {
        const int64_t count = min(kPatches, task.width - first);
        for (int64_t x = 0; x < count; ++x) {
            for (int64_t line = 0; line < 9; ++line) {
                for (int64_t v = 0; v < 3; ++v)
                    patches[x * taps + line * 3 + v] = lines[line * padded + first + x + v];
            }
        }
        for (int64_t channel = 0; channel < task.channels_out;) {
            const int64_t panels = min(kMostPanels, (task.channels_out - channel) / kPanel);
            const int64_t columns = panels * kPanel;
            product<float>(count, taps, panels, patches, taps, task.weights + channel * taps,
                           taps * kPanel, sums, columns, false, nullptr, 0);
            for (int64_t x = 0; x < count; ++x) {
                const int64_t offset =
                    (task.row * task.width + first + x) * task.channels_out + channel;
                for (int64_t j = 0; j < columns; j += kWidth) {
                    const Vec y = add(load(sums + x * columns + j), load(task.bias + channel + j));
                    if (task.preactivation)
                        store(static_cast<T*>(task.preactivation) + offset + j, y);
                    store_or_stream(streamed, static_cast<T*>(task.out) + offset + j,
                                    zero_unless_positive(y, y));
                }
            }
            channel += columns;
        }
    }
    if (streamed) finish_streams();
}

void image_row(const ImageRowTask& task) {
    if (task.bfloat16)
        image_row_as<bf16>(task);
    else
        image_row_as<float>(task);
}

constexpr int64_t kTapColumns = 2 * kPanel;  // 27 products of a position, and padding

int64_t image_gradient_scratch(int64_t width, int64_t channels) {
    return 3 * (width + 2) * kTapColumns + width * channels;
}

// out[c, y, x] = sum over u, v, co of W[co, c, u, v] gradient[y + 1 - u, x + 1 - v, co]:
// first the 27 products of each position, then a sum of nine of them for each pixel.
void image_gradient(const ImageGradientTask& task) {
    const int64_t padded = task.width + 2, row_size = padded * kTapColumns;
    const auto fill = [&](int64_t y) {
        float* row = task.scratch + (y + 3) % 3 * row_size;
        if (y < 0 || y >= task.height) {
            memset(row, 0, static_cast<size_t>(row_size) * sizeof(float));
            return;
        }
        memset(row, 0, kTapColumns * sizeof(float));
        memset(row + (padded - 1) * kTapColumns, 0, kTapColumns * sizeof(float));
        const int64_t size = task.width * task.channels;
        const float* line = static_cast<const float*>(task.gradient) + y * size;
        if (task.bfloat16) {
            float* copy = task.scratch + 3 * row_size;
            const bf16* from = static_cast<const bf16*>(task.gradient) + y * size;
            for (int64_t i = 0; i < size; i += kWidth) store(copy + i, load(from + i));
            line = copy;
        }
        product<float>(task.width, task.channels, 2, line, task.channels, task.weights,
                       task.channels * kPanel, row + kTapColumns, kTapColumns, false, nullptr, 0);
    };
    fill(task.first - 1);
    fill(task.first);
    const int64_t plane = task.height * task.width;
    for (int64_t y = task.first; y < task.last; ++y) {
        fill(y + 1);
        const float* rows[3];  // by u
        for (int64_t u = 0; u < 3; ++u) rows[u] = task.scratch + (y + 4 - u) % 3 * row_size;
        for (int64_t x = 0; x < task.width; ++x) {
            float sum[4] = {0, 0, 0, 0};  // three colours; the fourth lane is not used
            for (int64_t tap = 0; tap < kTaps; ++tap) {
                const float* p = rows[tap / 3] + (x + 2 - tap % 3) * kTapColumns + kColours * tap;
                for (int c = 0; c < 4; ++c) sum[c] += p[c];
            }
            for (int64_t c = 0; c < kColours; ++c)
                task.out[c * plane + y * task.width + x] = sum[c];
        }
    }
}

// ------------------------------------------------------------------------------------- pooling --

// out = mask(F) * pooled / 4, or mask(F) * (F is the first largest of its window ? pooled : 0)
template <class T>
void unpool_as(const UnpoolTask& task) {
    const int64_t channels = task.channels, width = task.width, across = width / 2;
    const int64_t steps[4] = {0, channels, width * channels, (width + 1) * channels};
    const float quarter_value = 0.25f;
    const Vec quarter = broadcast(&quarter_value);
    const bool streamed = task.streamed;
    for (int64_t y = task.first; y < task.last; ++y) {
        for (int64_t x = 0; x < across; ++x) {
            const T* pooled = static_cast<const T*>(task.pooled) + (y * across + x) * channels;
            const int64_t origin = (2 * y * width + 2 * x) * channels;
            for (int64_t c = 0; c < channels; c += kWidth) {
                const T* f = static_cast<const T*>(task.features) + origin + c;
                T* out = static_cast<T*>(task.out) + origin + c;
                Vec value[4], gradient = load(pooled + c);
                for (int i = 0; i < 4; ++i) value[i] = load(f + steps[i]);
                if (!task.max_pooling) {
                    gradient = multiply(gradient, quarter);
                    for (int i = 0; i < 4; ++i) {
                        store_or_stream(
                            streamed, out + steps[i],
                            task.relu_mask ? zero_unless_positive(gradient, value[i]) : gradient);
                    }
                    continue;
                }
                // The first largest takes the gradient; what is left for those behind it is zero.
                const Vec largest = max(max(value[0], value[1]), max(value[2], value[3]));
                Vec left = gradient;
                for (int i = 0; i < 4; ++i) {
                    const Vec taken = zero_if_less(left, value[i], largest);
                    left = subtract(left, taken);
                    store_or_stream(streamed, out + steps[i],
                                    task.relu_mask ? zero_unless_positive(taken, value[i]) : taken);
                }
            }
        }
        // an odd column at the right is in no window
        if (width % 2) {
            for (int64_t i = 0; i < 2; ++i)
                memset(static_cast<T*>(task.out) + ((2 * y + i + 1) * width - 1) * channels, 0,
                       static_cast<size_t>(channels) * sizeof(T));
        }
    }
    if (streamed) finish_streams();
    // nor is an odd row at the bottom
    if (task.height % 2 && task.last == task.height / 2)
        memset(static_cast<T*>(task.out) + (task.height - 1) * width * channels, 0,
               static_cast<size_t>(width * channels) * sizeof(T));
}

void unpool(const UnpoolTask& task) {
    if (task.bfloat16)
        unpool_as<bf16>(task);
    else
        unpool_as<float>(task);
}

}  // namespace

extern const DirectTable direct_table;
const DirectTable direct_table = {image_scratch, image_gradient_scratch, image_row, image_gradient,
                                  unpool};

}  // namespace FASTNST_ISA
}  // namespace fastnst
