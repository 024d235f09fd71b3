// The first convolution, whose input is the picture: three channels waste a tensor core's tile, and
// 256 levels do not survive bfloat16. So both directions multiply in float, or as exactly as that
// matters, and read and write the features in their own type: no cast, no padding of channels, no
// pass for the normalisation.
//
//   image_features   relu(W * (x - mean) / std + b): 34 MB written at 512 x 512 in bfloat16,
//                    0.9 Gflop
//   image_gradient   from the gradient of the features to that of the picture: as much read
//   image_features_products, image_gradient_products   the same for 64 channels in bfloat16 by
//                    tensor cores, which multiply the picture and the filters as sums of two
//                    bfloat16 numbers: 2^-18 of a factor is lost

#include "layers.cuh"
#include "product.cuh"

namespace fastnst {
namespace cuda {
namespace {

// ------------------------------------------------------------------------------------ forward --

constexpr int kImageThreads = 128;
constexpr int kColumns = 32, kRows = 4;  // positions of a block: a column of four to a thread
constexpr int kPart = 16;                // channels of a thread
constexpr int kParts = kImageThreads / kColumns;
constexpr int kBlockChannels = kPart * kParts;
constexpr int kStep = 4 * kParts;  // from four channels of a thread to its next four: those between
                                   // are its neighbours', so that they read and write whole sectors
constexpr int kTaps = 27;

struct FeaturesMemory {
    alignas(16) float weights[kTaps][kBlockChannels];
    float image[3][kRows + 2][kColumns + 2];
};

// The pixel at a position, or the nearest to it.
__device__ __forceinline__ float nearest(const CudaImageFeatures& layer, std::int64_t sample,
                                         int plane, std::int64_t y, std::int64_t x) {
    y = y < 0 ? 0 : y < layer.height ? y : layer.height - 1;
    x = x < 0 ? 0 : x < layer.width ? x : layer.width - 1;
    return layer.image[((sample * 3 + plane) * layer.height + y) * layer.width + x];
}

// What the network sees there.
__device__ __forceinline__ float normalised(const CudaImageFeatures& layer, int plane,
                                            std::int64_t y, std::int64_t x, float pixel) {
    const bool inside = 0 <= y && y < layer.height && 0 <= x && x < layer.width;
    const float value = (pixel - layer.mean[plane]) / layer.deviation[plane];
    return inside || layer.replicate ? value : 0.0f;
}

template <class T>
__global__ void __launch_bounds__(kImageThreads)
    image_features(const __grid_constant__ CudaImageFeatures layer) {
    auto& memory = shared_memory<FeaturesMemory>();
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t channel_blocks = ceil_div(layer.channels, kBlockChannels);
    const std::int64_t tiles_x = ceil_div(layer.width, kColumns);
    const std::int64_t tiles_y = ceil_div(layer.height, kRows);
    const std::int64_t tile = blockIdx.x / channel_blocks;
    const std::int64_t channel = blockIdx.x % channel_blocks * kBlockChannels;
    const std::int64_t x0 = tile % tiles_x * kColumns, y0 = tile / tiles_x % tiles_y * kRows;
    const std::int64_t sample = tile / tiles_x / tiles_y;
    for (int i = thread; i < kTaps * kBlockChannels; i += kImageThreads) {
        const int tap = i / kBlockChannels, c = i % kBlockChannels;
        memory.weights[tap][c] =
            channel + c < layer.channels ? layer.weights[tap * layer.channels + channel + c] : 0.0f;
    }
    constexpr int patch = (kRows + 2) * (kColumns + 2);
    for (int i = thread; i < 3 * patch; i += kImageThreads) {
        const int c = i / patch, row = i % patch / (kColumns + 2), column = i % (kColumns + 2);
        const std::int64_t y = y0 + row - 1, x = x0 + column - 1;
        memory.image[c][row][column] = normalised(layer, c, y, x, nearest(layer, sample, c, y, x));
    }
    __syncthreads();

    const int part = thread % kParts * 4, column = thread / kParts;
    float sums[kRows][kPart];
#pragma unroll
    for (int c = 0; c < kPart; ++c) {
        const std::int64_t at = channel + part + c / 4 * kStep + c % 4;
        const float bias = at < layer.channels ? layer.bias[at] : 0.0f;
#pragma unroll
        for (int row = 0; row < kRows; ++row) sums[row][c] = bias;
    }
#pragma unroll 1
    for (int plane = 0; plane < 3; ++plane) {
#pragma unroll 1
        for (int v = 0; v < 3; ++v) {
            float x[kRows + 2];
#pragma unroll
            for (int row = 0; row < kRows + 2; ++row) x[row] = memory.image[plane][row][column + v];
#pragma unroll
            for (int u = 0; u < 3; ++u) {
                const float* weights = &memory.weights[plane * 9 + u * 3 + v][part];
#pragma unroll
                for (int c = 0; c < kPart; c += 4) {
                    const float4 w = *reinterpret_cast<const float4*>(weights + c / 4 * kStep);
#pragma unroll
                    for (int row = 0; row < kRows; ++row) {
                        sums[row][c] = fmaf(w.x, x[row + u], sums[row][c]);
                        sums[row][c + 1] = fmaf(w.y, x[row + u], sums[row][c + 1]);
                        sums[row][c + 2] = fmaf(w.z, x[row + u], sums[row][c + 2]);
                        sums[row][c + 3] = fmaf(w.w, x[row + u], sums[row][c + 3]);
                    }
                }
            }
        }
    }
    if (x0 + column >= layer.width) return;
    T* out = static_cast<T*>(layer.out);
    const bool vectors = layer.channels % 4 == 0;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        if (y0 + row >= layer.height) break;
        const std::int64_t place = (sample * layer.height + y0 + row) * layer.width + x0 + column;
        T* to = out + place * layer.channels + channel + part;
#pragma unroll
        for (int c = 0; c < kPart; c += 4) {
            Vector<T, 4> four;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float sum = sums[row][c + i];
                four.at[i] = from_float<T>(layer.relu && sum < 0 ? 0.0f : sum);
            }
            const int place_of_four = c / 4 * kStep;
            const std::int64_t left = layer.channels - channel - part - place_of_four;
            if (vectors && left >= 4) {
                *reinterpret_cast<Vector<T, 4>*>(to + place_of_four) = four;
            } else {
                for (int i = 0; i < 4; ++i) {
                    if (i < left) to[place_of_four + i] = four.at[i];
                }
            }
        }
    }
}

// ---------------------------------------------------------------- forward by tensor cores --
//
// A pixel is the sum of two bfloat16 numbers, and so is a filter; of their four products the least
// is left out. A product of tiles has 16 positions of a row, 8 channels and 16 taps, whose order is
// free: lane t has taps 8 t to 8 t + 7, the first half of them for one product and the second for
// the next. The order of the channels is that in which a lane's sums are 16 bytes of the result.

constexpr int kTallRows = 8;  // a block has kColumns x kTallRows positions
constexpr int kTapsPadded = 32;
constexpr int kProductChannels = 64;

struct FeaturesProductsMemory {
    alignas(16) float bias[kProductChannels];
    std::uint32_t image[3][kTallRows + 2][kColumns + 2];  // a pixel's parts, the first on top
};

template <class Arithmetic>
__global__ void __launch_bounds__(kImageThreads, 4)
    image_features_products(const __grid_constant__ CudaImageFeatures layer) {
    if constexpr (Arithmetic::kCompiled) {
        auto& memory = shared_memory<FeaturesProductsMemory>();
        const int thread = static_cast<int>(threadIdx.x);
        const int g = thread % 32 / 4, t = thread % 4;
        const auto tiles_x = static_cast<unsigned>(ceil_div(layer.width, kColumns));
        const auto tiles_y = static_cast<unsigned>(ceil_div(layer.height, kTallRows));
        const unsigned line = blockIdx.x / tiles_x, sample = line / tiles_y;
        const std::int64_t x0 = static_cast<std::int64_t>(blockIdx.x - line * tiles_x) * kColumns;
        const std::int64_t y0 = static_cast<std::int64_t>(line - sample * tiles_y) * kTallRows;
        if (thread < kProductChannels) memory.bias[thread] = layer.bias[thread];
        constexpr int pitch = kColumns + 2, patch = (kTallRows + 2) * pitch;
        constexpr int pixels = (3 * patch + kImageThreads - 1) / kImageThreads;  // of a thread
        float pixel[pixels];
#pragma unroll
        for (int j = 0; j < pixels; ++j) {  // all are asked for before the first is waited for
            const int i = j * kImageThreads + thread, c = i < 3 * patch ? i / patch : 0;
            const std::int64_t y = y0 + i % patch / pitch - 1, x = x0 + i % pitch - 1;
            pixel[j] = nearest(layer, sample, c, y, x);
        }
#pragma unroll
        for (int j = 0; j < pixels; ++j) {
            const int i = j * kImageThreads + thread;
            if (i >= 3 * patch) break;
            const int c = i / patch, row = i % patch / pitch, column = i % pitch;
            const float x = normalised(layer, c, y0 + row - 1, x0 + column - 1, pixel[j]);
            const bf16 high = from_float<bf16>(x), low = from_float<bf16>(x - to_float(high));
            memory.image[c][row][column] = static_cast<std::uint32_t>(high.bits) << 16 | low.bits;
        }
        uint4 filters[2][kProductChannels / 8];
#pragma unroll
        for (int part = 0; part < 2; ++part) {
#pragma unroll
            for (int n = 0; n < kProductChannels / 8; ++n) {
                const int channel = n / 4 * 32 + g / 2 * 8 + n % 4 * 2 + g % 2;
                filters[part][n] = *reinterpret_cast<const uint4*>(
                    static_cast<const bf16*>(layer.parts) +
                    (part * kProductChannels + channel) * kTapsPadded + 8 * t);
            }
        }
        int offsets[8];  // of the lane's taps, from the first of them; those beyond 27 count
                         // nothing
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int tap = 8 * t + i < kTaps ? 8 * t + i : 0;
            offsets[i] = tap / 9 * patch + tap % 9 / 3 * pitch + tap % 3;
        }
        __syncthreads();

        constexpr int tiles = kTallRows * kColumns / 16, warps = kImageThreads / 32;
#pragma unroll 1
        for (int tile = thread / 32; tile < tiles; tile += warps) {
            const int row = tile / 2, column = tile % 2 * 16 + g;
            const std::int64_t y = y0 + row, x = x0 + column;
            if (y >= layer.height) break;
            std::uint32_t a[2][2][4];  // by part and product
#pragma unroll
            for (int i = 0; i < 2; ++i) {  // the positions of g and g + 8
                const std::uint32_t* corner = &memory.image[0][row][column + 8 * i];
#pragma unroll
                for (int pair = 0; pair < 4; ++pair) {
                    const std::uint32_t even = corner[offsets[2 * pair]];
                    const std::uint32_t odd = corner[offsets[2 * pair + 1]];
                    const int k = pair / 2, at = pair % 2 * 2 + i;
                    a[0][k][at] = even >> 16 | (odd & 0xffff0000u);
                    a[1][k][at] = (even & 0xffffu) | odd << 16;
                }
            }
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                Vector<bf16, 8> result[2];
#pragma unroll
                for (int n = 0; n < 4; ++n) {
                    const float* bias = memory.bias + 32 * half + 8 * t + 2 * n;
                    float sums[4] = {bias[0], bias[1], bias[0], bias[1]};
#pragma unroll
                    for (int k = 0; k < 2; ++k) {
#pragma unroll
                        for (int order = 0; order < 3; ++order) {  // the smallest products first
                            const int of_image = order == 0, of_filter = order == 1;
                            const uint4& f = filters[of_filter][4 * half + n];
                            const std::uint32_t b[2] = {k == 0 ? f.x : f.z, k == 0 ? f.y : f.w};
                            multiply_bfloat16(sums, a[of_image][k], b);
                        }
                    }
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const float sum = layer.relu && sums[i] < 0 ? 0.0f : sums[i];
                        result[i / 2].at[2 * n + i % 2] = from_float<bf16>(sum);
                    }
                }
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    if (x + 8 * i >= layer.width) continue;
                    bf16* out =
                        static_cast<bf16*>(layer.out) +
                        ((sample * layer.height + y) * layer.width + x + 8 * i) * kProductChannels +
                        32 * half + 8 * t;
                    *reinterpret_cast<Vector<bf16, 8>*>(out) = result[i];
                }
            }
        }
    }
}

// ----------------------------------------------------------------------------------- gradient --

constexpr int kGradientColumns = 32, kGradientRows = 8;  // two positions to a thread
constexpr int kDepthOfStep = 16;                         // channels at a time
constexpr int kPlacePitch = kDepthOfStep + 4;            // eight lanes read all banks

struct ImageGradientMemory {
    alignas(16) float gradient[kGradientRows + 2][kGradientColumns + 2][kPlacePitch];
    alignas(16) float weights[9][kDepthOfStep][4];
};

template <class T>
__global__ void __launch_bounds__(kImageThreads)
    image_gradient(const __grid_constant__ CudaImageGradient layer) {
    auto& memory = shared_memory<ImageGradientMemory>();
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t tiles_x = ceil_div(layer.width, kGradientColumns);
    const std::int64_t tiles_y = ceil_div(layer.height, kGradientRows);
    const std::int64_t tile = blockIdx.x;
    const std::int64_t x0 = tile % tiles_x * kGradientColumns;
    const std::int64_t y0 = tile / tiles_x % tiles_y * kGradientRows;
    const std::int64_t sample = tile / tiles_x / tiles_y;
    const T* gradient = static_cast<const T*>(layer.gradient);
    const bool vectors = layer.channels % 4 == 0;
    const int column = thread % 16, line = thread / 16;
    float sums[2][3] = {};
#pragma unroll 1
    for (std::int64_t channel = 0; channel < layer.channels; channel += kDepthOfStep) {
        constexpr int places = (kGradientRows + 2) * (kGradientColumns + 2);
        for (int i = thread; i < places * kDepthOfStep / 4; i += kImageThreads) {
            const int place = i / (kDepthOfStep / 4), c = i % (kDepthOfStep / 4) * 4;
            const int row = place / (kGradientColumns + 2), at = place % (kGradientColumns + 2);
            const std::int64_t y = y0 + row - 1, x = x0 + at - 1;
            const bool inside = 0 <= y && y < layer.height && 0 <= x && x < layer.width;
            const std::int64_t left = inside ? layer.channels - channel - c : 0;
            const T* from = gradient;
            if (left > 0) {
                from +=
                    ((sample * layer.height + y) * layer.width + x) * layer.channels + channel + c;
            }
            float4 values{0, 0, 0, 0};
            if (vectors && left >= 4) {
                const auto four = *reinterpret_cast<const Vector<T, 4>*>(from);
                values = float4{to_float(four.at[0]), to_float(four.at[1]), to_float(four.at[2]),
                                to_float(four.at[3])};
            } else {
                if (left > 0) values.x = to_float(from[0]);
                if (left > 1) values.y = to_float(from[1]);
                if (left > 2) values.z = to_float(from[2]);
                if (left > 3) values.w = to_float(from[3]);
            }
            *reinterpret_cast<float4*>(&memory.gradient[row][at][c]) = values;
        }
        for (int i = thread; i < 9 * kDepthOfStep * 4; i += kImageThreads) {
            const int tap = i / (kDepthOfStep * 4), c = i / 4 % kDepthOfStep, out = i % 4;
            memory.weights[tap][c][out] =
                channel + c < layer.channels
                    ? layer.weights[(tap * layer.channels + channel + c) * 4 + out]
                    : 0.0f;
        }
        __syncthreads();
#pragma unroll 1
        for (int tap = 0; tap < 9; ++tap) {
#pragma unroll
            for (int c = 0; c < kDepthOfStep; c += 4) {
                float4 g[2];
#pragma unroll
                for (int p = 0; p < 2; ++p) {
                    g[p] = *reinterpret_cast<const float4*>(
                        &memory.gradient[line + tap / 3][column + 16 * p + tap % 3][c]);
                }
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float4 w = *reinterpret_cast<const float4*>(memory.weights[tap][c + i]);
#pragma unroll
                    for (int p = 0; p < 2; ++p) {
                        const float value = i == 0   ? g[p].x
                                            : i == 1 ? g[p].y
                                            : i == 2 ? g[p].z
                                                     : g[p].w;
                        sums[p][0] = fmaf(w.x, value, sums[p][0]);
                        sums[p][1] = fmaf(w.y, value, sums[p][1]);
                        sums[p][2] = fmaf(w.z, value, sums[p][2]);
                    }
                }
            }
        }
        __syncthreads();  // all have read it: the next channels may overwrite it
    }
#pragma unroll
    for (int p = 0; p < 2; ++p) {
        const std::int64_t x = x0 + column + 16 * p, y = y0 + line;
        if (x >= layer.width || y >= layer.height) continue;
        for (int c = 0; c < 3; ++c)
            layer.out[((sample * 3 + c) * layer.height + y) * layer.width + x] = sums[p][c];
    }
}

// --------------------------------------------------------------- gradient by tensor cores --
//
// Each position's products with the filters of all taps and planes come first, the sum over its
// neighbours' after: so a gradient is read once, from global memory to the registers that multiply
// it, and only 27 products of a position go through shared memory.

constexpr int kProductColumns = 32, kProductRows = 12;  // positions of a block, edges included
constexpr int kProducts = 27;                           // of a position: an odd pitch of banks
constexpr int kFilterColumns = 32;                      // the products, then five of zeros

struct ProductsMemory {
    float at[kProductRows * kProductColumns * kProducts];
};

// A lane's factors of eight sums of a row: channels 8 t to 8 t + 7, then the same from 32 on. The
// order of the channels in a product of tiles is free, so it is that in which 16 bytes bring them:
// the first half of a vector is for one product, the second for the next.
struct RowFactors {
    uint4 low, high;

    __device__ __forceinline__ void load(const bf16* channels, int t) {
        low = *reinterpret_cast<const uint4*>(channels + 8 * t);
        high = *reinterpret_cast<const uint4*>(channels + 32 + 8 * t);
    }
    // for product k of four: at k = 2t, 2t + 1 and at k + 8
    __device__ __forceinline__ std::uint32_t first(int k) const {
        const uint4& half = k < 2 ? low : high;
        return k % 2 == 0 ? half.x : half.z;
    }
    __device__ __forceinline__ std::uint32_t second(int k) const {
        const uint4& half = k < 2 ? low : high;
        return k % 2 == 0 ? half.y : half.w;
    }
};

template <class Arithmetic>
__global__ void __launch_bounds__(kImageThreads, 4)
    image_gradient_products(const __grid_constant__ CudaImageGradient layer) {
    if constexpr (Arithmetic::kCompiled) {
        auto& memory = shared_memory<ProductsMemory>();
        constexpr int out_columns = kProductColumns - 2, out_rows = kProductRows - 2;
        const int thread = static_cast<int>(threadIdx.x);
        const int g = thread % 32 / 4, t = thread % 4;
        const auto tiles_x = static_cast<unsigned>(ceil_div(layer.width, out_columns));
        const auto tiles_y = static_cast<unsigned>(ceil_div(layer.height, out_rows));
        const unsigned line = blockIdx.x / tiles_x, sample = line / tiles_y;
        const std::int64_t x0 =
            static_cast<std::int64_t>(blockIdx.x - line * tiles_x) * out_columns;
        const std::int64_t y0 = static_cast<std::int64_t>(line - sample * tiles_y) * out_rows;
        const bf16* gradient = static_cast<const bf16*>(layer.gradient) +
                               sample * layer.height * layer.width * kProductChannels;
        constexpr int tiles = kProductRows * kProductColumns / 16, warps = kImageThreads / 32;
        // 16 positions of a row: g and g + 8 of them are the lane's
        const auto load = [&](int tile, RowFactors(&rows)[2]) {
            const std::int64_t y = y0 + tile / 2 - 1;
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const std::int64_t x = x0 + tile % 2 * 16 + 8 * i + g - 1;
                rows[i] = RowFactors{};
                if (0 <= y && y < layer.height && 0 <= x && x < layer.width)
                    rows[i].load(gradient + (y * layer.width + x) * kProductChannels, t);
            }
        };
        RowFactors next[2];
        load(thread / 32, next);
        RowFactors filters[2][kFilterColumns / 8];
#pragma unroll
        for (int part = 0; part < 2; ++part) {
#pragma unroll
            for (int n = 0; n < kFilterColumns / 8; ++n) {
                filters[part][n].load(static_cast<const bf16*>(layer.parts) +
                                          (part * kFilterColumns + 8 * n + g) * kProductChannels,
                                      t);
            }
        }
#pragma unroll 1
        for (int tile = thread / 32; tile < tiles; tile += warps) {
            const RowFactors rows[2] = {next[0], next[1]};
            if (tile + warps < tiles) load(tile + warps, next);
            float* to = memory.at + (tile * 16 + g) * kProducts;
#pragma unroll
            for (int n = 0; n < kFilterColumns / 8; ++n) {
                float sums[4] = {};
#pragma unroll
                for (int k = 0; k < kProductChannels / 16; ++k) {
                    const std::uint32_t a[4] = {rows[0].first(k), rows[1].first(k),
                                                rows[0].second(k), rows[1].second(k)};
#pragma unroll
                    for (int part = 0; part < 2; ++part) {
                        const std::uint32_t b[2] = {filters[part][n].first(k),
                                                    filters[part][n].second(k)};
                        multiply_bfloat16(sums, a, b);
                    }
                }
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int column = 8 * n + 2 * t + i % 2;
                    if (column < kProducts) to[i / 2 * 8 * kProducts + column] = sums[i];
                }
            }
        }
        __syncthreads();
#pragma unroll 1
        for (int i = thread; i < out_rows * out_columns; i += kImageThreads) {
            const int row = i / out_columns, column = i % out_columns;
            const std::int64_t x = x0 + column, y = y0 + row;
            if (x >= layer.width || y >= layer.height) continue;
            float sums[3] = {};
#pragma unroll
            for (int tap = 0; tap < 9; ++tap) {
                const float* products =
                    memory.at + ((row + tap / 3) * kProductColumns + column + tap % 3) * kProducts +
                    3 * tap;
#pragma unroll
                for (int c = 0; c < 3; ++c) sums[c] += products[c];
            }
#pragma unroll
            for (int c = 0; c < 3; ++c)
                layer.out[((sample * 3 + c) * layer.height + y) * layer.width + x] = sums[c];
        }
    }
}

}  // namespace
}  // namespace cuda

void cuda_image_features(const CudaImageFeatures& layer, int device, void* stream) {
    using namespace cuda;
    expect(layer.batch > 0 && layer.height > 0 && layer.width > 0 && layer.channels > 0,
           "image: all sizes must be at least 1");
    expect(layer.image && layer.weights && layer.bias && layer.out, "image: null pointer");
    expect(reinterpret_cast<std::uintptr_t>(layer.out) % 16 == 0, "image: out is not aligned");
    const DeviceGuard guard(device);
    if (layer.dtype == DType::bfloat16 && layer.channels == kProductChannels && layer.parts &&
        compiled_for_tensor_cores("image_features_products", image_features_products<Bfloat16>)) {
        expect(reinterpret_cast<std::uintptr_t>(layer.parts) % 16 == 0,
               "image: the parts of the filters are not aligned");
        launch("image_features_products", image_features_products<Bfloat16>,
               layer.batch * ceil_div(layer.width, kColumns) * ceil_div(layer.height, kTallRows),
               kImageThreads, stream, layer);
        return;
    }
    const std::int64_t blocks = layer.batch * ceil_div(layer.width, kColumns) *
                                ceil_div(layer.height, kRows) *
                                ceil_div(layer.channels, kBlockChannels);
    launch("image_features",
           layer.dtype == DType::bfloat16 ? image_features<bf16> : image_features<float>, blocks,
           kImageThreads, stream, layer);
}

void cuda_image_gradient(const CudaImageGradient& layer, int device, void* stream) {
    using namespace cuda;
    expect(layer.batch > 0 && layer.height > 0 && layer.width > 0 && layer.channels > 0,
           "image: all sizes must be at least 1");
    expect(layer.gradient && layer.weights && layer.out, "image: null pointer");
    expect(reinterpret_cast<std::uintptr_t>(layer.gradient) % 16 == 0,
           "image: the gradient is not aligned");
    const DeviceGuard guard(device);
    if (layer.dtype == DType::bfloat16 && layer.channels == kProductChannels && layer.parts &&
        compiled_for_tensor_cores("image_gradient_products", image_gradient_products<Bfloat16>)) {
        expect(reinterpret_cast<std::uintptr_t>(layer.parts) % 16 == 0,
               "image: the parts of the filters are not aligned");
        launch("image_gradient_products", image_gradient_products<Bfloat16>,
               layer.batch * ceil_div(layer.width, kProductColumns - 2) *
                   ceil_div(layer.height, kProductRows - 2),
               kImageThreads, stream, layer);
        return;
    }
    const std::int64_t blocks = layer.batch * ceil_div(layer.width, kGradientColumns) *
                                ceil_div(layer.height, kGradientRows);
    launch("image_gradient",
           layer.dtype == DType::bfloat16 ? image_gradient<bf16> : image_gradient<float>, blocks,
           kImageThreads, stream, layer);
}

}  // namespace fastnst
