// The whole native API of fastnst: plain pointers, sizes and strides. It knows neither Python nor
// PyTorch. All outputs are allocated by the caller, all strides count elements, and a failed check
// throws std::invalid_argument (a wrong value) or std::runtime_error (cannot run on this machine).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fastnst {

enum class DType : int { float32 = 0, bfloat16 = 1, int16 = 2 };

inline std::int64_t size_of(DType dtype) {  // in bytes
    return dtype == DType::float32 ? 4 : 2;
}

// Features of one layer:
//
//     F[b, c, n] = data[b * batch_stride + c * channel_stride + n * position_stride]
//
// NCHW has position_stride 1, channels_last has channel_stride 1; any other strides work, slower.
struct Features {
    const void* data;  // [B, C, N]
    DType dtype;
    std::int64_t batch, channels, positions;
    std::int64_t batch_stride, channel_stride, position_stride;
};

// G_b = F_b F_b^T / N and, where a target A is given, D_b = G_b - A_b and
// loss = mean over b, i, j of D_b[i, j]^2.
struct GramLayer {
    Features features;                 // [B, C, N]
    float* gram;                       // [B, C, C], or null: not wanted
    const float* target;               // [B, C, C] or [C, C], or null: no loss
    std::int64_t target_batch_stride;  // C * C, or 0 for one target shared by the batch
    float* difference;                 // [B, C, C], or null: not wanted
    float* loss;                       // [1], with a target only
};

// out_b <- (accumulate ? out_b : 0) + scale * mask(F_b) * S_b F_b   with   S_b = (D_b + D_b^T) / 2,
// mask(F) = 0 where F <= 0 (the derivative of ReLU at its output F), or 1 everywhere.
// With scale = 4 / (B * C^2 * N) it is the gradient of the loss above with respect to F.
struct GradientLayer {
    Features features;
    const float* difference;  // [B, C, C]
    float scale;
    bool relu_mask;
    bool accumulate;
    void* out;  // [B, C, N]; it shares no memory with the features
    DType out_dtype;
    std::int64_t out_batch_stride, out_channel_stride, out_position_stride;
};

// All layers in one go, over at most `threads` threads. The result does not depend on `threads`.
void gram(const GramLayer* layers, std::size_t count, int threads);
void gram_gradient(const GradientLayer* layers, std::size_t count, int threads);

enum class Pooling : int { none = 0, average = 1, max = 2 };  // 2x2, stride 2

// A 3x3 convolution with stride 1 and padding 1 of channels_last pictures, by Winograd's
// F(m x m, 3x3) with tiles of m = 4 or 6, and what follows it:
//
//     preactivation = W * input + bias
//     out    = mask( relu ? max(0, preactivation) : preactivation ),   0 where mask <= 0
//     pooled = pool(out)
//
// Channels are multiples of 16. The input gradient is the same convolution with the weights of
// winograd_weights(gradient = true), or `transposed` with those of the way forward: flipped and
// with the roles of Ci and Co exchanged.
struct Convolution {
    DType dtype;     // of everything but weights and bias
    DType products;  // of the transformed patches and the weights: as dtype, or bfloat16 or int16,
                     // to which patches of float32 are rounded; sums of products are floats, but
                     // of 128 channels of int16 exact
    int tile;        // m, of the weights; 4 for products of bfloat16 and int16
    std::int64_t batch, height, width, channels_in, channels_out;
    std::int64_t first, last;  // the rows of outputs that are computed; of others nothing is
                               // written. All, or of a batch of 1 some that whole tiles make up
                               // (pooling: whole windows). Inputs are read from first - 1 to last
    const void* input;         // [B, H, W, Ci]
    const std::uint16_t* input_positive;  // [B, H, W, Ci / 16], or null. With it the input is
                                          // [B, H / 2, W / 2, Ci] and means its unpooling, as below
    const void* weights;                  // by winograd_weights, of this tile and type of products
    bool transposed;    // the weights are those from Co to Ci; products of float32, no pooling
    const float* bias;  // [Co], or null: zero
    const void* mask;   // [B, H, W, Co], or null
    bool relu;
    Pooling pooling;
    void* preactivation;      // [B, H, W, Co], or null: not wanted
    void* out;                // [B, H, W, Co], or null with a pooling: not wanted
    void* pooled;             // [B, H / 2, W / 2, Co], with a pooling only
    std::uint16_t* positive;  // [B, H, W, Co / 16] or null: bits set where out > 0
};

// The tile, 4 or 6, that takes less time for pictures of this size, if its filters are no burden.
int winograd_tile(DType products, std::int64_t batch, std::int64_t height, std::int64_t width,
                  std::int64_t channels_in, std::int64_t channels_out);

// The transformed filters of [Co, Ci, 3, 3]: (m + 2)^2 * Co * Ci numbers of the given type, the
// same for every instruction set. gradient: flipped and with the roles of Co and Ci exchanged.
// Behind those of int16 are (m + 2)^2 * Co floats (Ci of them with `gradient`): their scales.
void winograd_weights(int tile, const float* filters, std::int64_t channels_out,
                      std::int64_t channels_in, bool gradient, DType dtype, void* out, int threads);
// Throws std::runtime_error for products of bfloat16 or int16 where there are none.
void winograd_convolution(const Convolution& layer, int threads);

// The first layer: out = max(0, preactivation), preactivation = W * image + bias.
struct ImageConvolution {
    std::int64_t batch, height, width, channels_out;
    const float* image;    // [B, 3, H, W]
    const float* weights;  // [Co / 16, 27, 16]: W[co, c, u, v], its 27 taps in the order c, u, v
    const float* bias;     // [Co]
    DType dtype;           // of what is written
    void* preactivation;   // [B, H, W, Co], or null: not wanted
    void* out;             // [B, H, W, Co]
};

// Its input gradient: out[c, y, x] = sum of W[co, c, u, v] gradient[y + 1 - u, x + 1 - v, co].
struct ImageGradient {
    std::int64_t batch, height, width, channels;
    DType dtype;           // of the gradient
    const void* gradient;  // [B, H, W, C]
    const float* weights;  // [2, C, 16]: columns (u, v, c) of 27, then five of zeros
    float* out;            // [B, 3, H, W]
};

// The gradient of ReLU (relu_mask) and 2x2 pooling: average: a quarter for each of the window;
// max: all for its first largest. What is in no window, at odd sides, gets zero.
struct Unpool {
    DType dtype;  // of all three
    std::int64_t batch, height, width, channels;
    const void* pooled;    // [B, H / 2, W / 2, C]: the gradient of the pooled
    const void* features;  // [B, H, W, C]: what was pooled
    Pooling pooling;
    bool relu_mask;
    void* out;  // [B, H, W, C]
};

// Over at most `threads` threads; no result depends on `threads`.
void image_convolution(const ImageConvolution& layer, int threads);
void image_gradient(const ImageGradient& layer, int threads);
void unpool(const Unpool& layer, int threads);

// Vectors of `length` floats as rows of eight-bit numbers, of which 64 share a scale:
//
//     x[r, n] = scales[n / 64, r] * values[n, r],    -127 <= values <= 127
//
// in chunks of 4096 values that hold all rows, so that a pass over the used ones is one stream.
struct History {
    std::int64_t rows, length;
    std::int8_t* values;  // [ceil(length / 4096), rows, 4096]
    float* scales;        // [ceil(length / 4096), rows, 64]
};

// Row <- x, rounded to nearest: by at most 1/254 of the largest of its block.
void history_store(const History& history, std::int64_t row, const float* x, int threads);
// products[r] = row r . x for r < used.
void history_products(const History& history, std::int64_t used, const float* x, double* products,
                      int threads);
// out <- out + sum of weights[r] * row r over r < used.
void history_combination(const History& history, std::int64_t used, const float* weights,
                         float* out, int threads);

// Sums over the values of a picture: of |x|, of x y, or of (x - y)^2, in double. The result depends
// on the values alone: not on `threads`, and not on the instruction set.
enum class Sum : int { absolute = 0, dot = 1, squared_distance = 2 };
double sum(Sum what, const float* x, const float* y, std::int64_t length, int threads);

// Whether a thread that waits for others spins only briefly before it sleeps: microseconds in the
// place of milliseconds. It holds for all of the process that uses the same OpenMP runtime, with a
// team of `threads` threads. Where the runtime cannot be told, can_wait_briefly() is false and
// wait_briefly does nothing.
bool can_wait_briefly();
void wait_briefly(bool briefly, int threads);

// Instruction sets, worst first: scalar (portable C++); on x86-64 avx2, avx512, avx512bf16; on
// arm64 neon, neonbf16.
std::vector<std::string> compiled_isas();
std::vector<std::string> available_isas();  // compiled, and this machine can run them
std::string selected_isa();                 // best available, capped by FASTNST_CPU_ISA
bool multiplies_integers();                 // whether it has products of int16, and the processor
bool convolves_bfloat16();                  // whether the selected one does
bool bfloat16_is_quicker();                 // it does, and this processor gains by it
void force_isa(const std::string& name);    // for tests: "" returns to the normal choice

struct CudaDevice {
    std::string name;
    int major, minor;     // compute capability
    std::int64_t memory;  // bytes
};

struct CudaDevices {
    std::vector<CudaDevice> devices;
    std::string reason;  // why there is none, or empty
};

// Asks the driver; touches no device. Without CUDA in the build the reason says so.
CudaDevices cuda_devices();

// The coarsest that a factor of a product may be rounded to; sums are float at least. float32
// features are multiplied in TF32 by either of the last two. bfloat16 features have exact products
// with each other; D is rounded to what is given here. Before compute capability 8.0 all is fp32.
enum class CudaPrecision : int { fp32 = 0, tf32 = 1, bf16 = 2 };

// gram and gram_gradient as above, for pointers to memory of a CUDA device: queued on the stream (a
// cudaStream_t), nothing allocated, nothing waited for. The workspace lies on the same device,
// aligned to 16 bytes, until the stream has done the work; the first two say how many bytes it
// needs. The result does not depend on the device's size. A launch may be captured into a graph
// once the same call has run outside of one.
//
// Two things spare a pass. `symmetric` [B, C, 8 ceil(C / 8)], or null for each layer, is S = (D +
// D^T) / 2 in float, or in bfloat16 where cuda_symmetric_dtype says so: cuda_gram writes it beside
// D, and a gradient that is given it needs no launch to make it of D. A masked sum: the mask is
// that of all of out, and not only of what is added.
struct CudaGramExtra {
    void* symmetric;
    DType dtype;
};
struct CudaGradientExtra {
    const void* symmetric;
    bool masked_sum;
};
DType cuda_symmetric_dtype(DType features, CudaPrecision precision, int device);

std::size_t cuda_gram_workspace(const GramLayer* layers, std::size_t count);
std::size_t cuda_gram_gradient_workspace(const GradientLayer* layers, std::size_t count);
void cuda_gram(const GramLayer* layers, const CudaGramExtra* extras, std::size_t count,
               CudaPrecision precision, void* workspace, std::size_t bytes, int device,
               void* stream);
void cuda_gram_gradient(const GradientLayer* layers, const CudaGradientExtra* extras,
                        std::size_t count, CudaPrecision precision, void* workspace,
                        std::size_t bytes, int device, void* stream);

// ------------------------------------------------------------------ the rest of an iteration --
//
// All pointers below are to memory of a CUDA device; everything is queued on the stream, nothing is
// allocated or waited for, and a launch may be captured. No result depends on the device's size.

// The three operations of History, with rows and counts that stand on the device. Products are left
// in parts, [ceil(length / 4096), rows], of which a row's sum over the chunks is its product; rows
// from `used` on are neither read nor written. Row `slot` <- x.
void cuda_history_store(const History& history, const std::int64_t* slot, const float* x,
                        int device, void* stream);
void cuda_history_products(const History& history, const std::int64_t* used, const float* x,
                           float* partials, int device, void* stream);
// out <- outer * (sign * base + sum of weights[r] * row r), outer is 1 where null; base may be out.
// squares [4 ceil(length / 4096)], or null: their sum is |out|^2.
void cuda_history_combination(const History& history, const std::int64_t* used,
                              const float* weights, float sign, const float* base,
                              const double* outer, float* out, double* squares, int device,
                              void* stream);

// out = mask(F) (up(incoming) + scale (F - P)): all that happens to a gradient between two layers.
struct CudaLayerGradient {
    DType dtype;  // of all but the squares
    std::int64_t batch, height, width, channels;
    const void* features;  // F [B, H, W, C]
    const void* incoming;  // as F, or with a pooling [B, H / 2, W / 2, C]; null: zero
    Pooling pooling;       // as for Unpool above
    bool relu_mask;        // out is zero where F <= 0
    const void* target;    // P [B, H, W, C], or null: no content loss
    float scale;
    double* squares;  // [cuda_layer_gradient_blocks], sums of (F - P)^2, or null: not wanted
    void* out;        // [B, H, W, C]; without a pooling it may be incoming
};

std::int64_t cuda_layer_gradient_blocks(const CudaLayerGradient& layer);
void cuda_layer_gradient(const CudaLayerGradient& layer, int device, void* stream);

// out = 2x2 pooling of F with stride 2, average or max.
struct CudaPool {
    DType dtype;  // of both
    std::int64_t batch, height, width, channels;
    const void* features;  // F [B, H, W, C]
    Pooling pooling;
    void* out;  // [B, H / 2, W / 2, C]
};

void cuda_pool(const CudaPool& layer, int device, void* stream);

// losses[1 + k] = value + offset, the value given or sum(sums) / divisor; losses[0] = the sum of
// factor * losses[1 + k].
struct CudaLossTerm {
    const double* sums;  // [count]
    std::int64_t count;  // 0: the value is given
    double divisor;
    const float* value;  // null: 0
    double offset, factor;
};
constexpr std::size_t kMaxLossTerms = 80;

void cuda_losses(const CudaLossTerm* terms, std::size_t count, float* losses, int device,
                 void* stream);

// out = relu(W * (image - mean) / deviation + bias), padded by zeros after the normalisation, or
// with the picture's edges where `replicate`.
struct CudaImageFeatures {
    std::int64_t batch, height, width, channels;
    const float* image;  // [B, 3, H, W]
    float mean[3], deviation[3];
    const float* weights;  // [27, C]: W[c, plane, u, v] with the 27 taps in the order plane, u, v
    const float* bias;     // [C]
    const void* parts;     // null, or for 64 channels in bfloat16 by tensor cores: [2, C, 32]
                           // bfloat16 whose sum over the first is weights[tap, c]
    bool relu, replicate;
    DType dtype;  // of out
    void* out;    // [B, H, W, C]
};

// Its input gradient with zeros as padding: out[plane, y, x] = sum over (u, v), c of
// weights[3 u + v, c, plane] gradient[y - 1 + u, x - 1 + v, c].
struct CudaImageGradient {
    std::int64_t batch, height, width, channels;
    DType dtype;           // of the gradient
    const void* gradient;  // [B, H, W, C]
    const float* weights;  // [9, C, 4]; the fourth number is not used
    const void* parts;  // null, or for 64 channels in bfloat16 by tensor cores: [2, 32, C] bfloat16
                        // whose sum over the first is weights[tap, c, plane] at 3 tap + plane
    float* out;         // [B, 3, H, W]
};

void cuda_image_features(const CudaImageFeatures& layer, int device, void* stream);
void cuda_image_gradient(const CudaImageGradient& layer, int device, void* stream);

// An L-BFGS iteration; what it means stands in python/fastnst/solvers/device/lbfgs.py.
enum class SolverNumber : int { gamma, step_scale, slope, best_loss, along, square, count };
enum class SolverFlag : int { fresh, failed, accepted, better, count };
enum class SolverCounter : int { slot, used, evaluations, count };

struct CudaSolver {
    std::int64_t length, terms, capacity;
    float low, high;                                   // of a pixel
    double first_step, longest_step, least_curvature;  // FIRST_STEP, LONGEST_STEP, CURVATURE
    double shrinkage;                                  // SHRINKAGE
    const float* found;                           // [length] gradient of an evaluation at image
    const float* losses;                          // [terms] its total and parts
    float *image, *best;                          // [length]
    float *gradient, *step, *change, *direction;  // [length] g, s, y, and -H g
    History s, y;                                 // m rows each
    float* ring_images;                           // [capacity, length]
    double *ring_rows, *row;                      // [capacity, terms + 1], [terms]
    double* numbers;                              // [SolverNumber::count]
    std::uint8_t* flags;                          // [SolverFlag::count]
    std::int64_t* counters;                       // [SolverCounter::count]
    double *inverse, *diagonal, *products, *u;    // R^-1 [m, m], D [m], S g [m], [m]
    double* scratch;                              // [2 m]
    float* weights;                               // [m]
    double* sums;                                 // [4, 4 ceil(length / 4096)]
    float* partials;                              // [ceil(length / 4096), m]
};

// Takes in an evaluation at image: three launches.
void cuda_solver_take(const CudaSolver& solver, int device, void* stream);
// direction <- g - Y^T u, times gamma if it is `scaled`: three launches.
void cuda_solver_first(const CudaSolver& solver, bool scaled, int device, void* stream);
// direction z <- -(z + S^T t), and the step from image along it: four launches.
void cuda_solver_second(const CudaSolver& solver, int device, void* stream);

}  // namespace fastnst
