// The whole native API of fastnst: plain pointers, sizes and strides. It knows neither Python nor
// PyTorch. All outputs are allocated by the caller, all strides count elements, and a failed check
// throws std::invalid_argument (a wrong value) or std::runtime_error (cannot run on this machine).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fastnst {

enum class DType : int { float32 = 0, bfloat16 = 1 };

// Features of one layer: F[b, c, n] = data[b * batch_stride + c * channel_stride + n *
// position_stride]. NCHW has position_stride 1, channels_last has channel_stride 1; any other
// strides work, slower.
struct Features {
    const void* data;  // [B, C, N]
    DType dtype;
    std::int64_t batch, channels, positions;
    std::int64_t batch_stride, channel_stride, position_stride;
};

// G_b = F_b F_b^T / N and, where a target A is given, D_b = G_b - A_b and loss = mean over b, i, j
// of D^2.
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
    void* out;  // [B, C, N]
    DType out_dtype;
    std::int64_t out_batch_stride, out_channel_stride, out_position_stride;
};

// All layers in one go, over at most `threads` threads. The result does not depend on `threads`.
void gram(const GramLayer* layers, std::size_t count, int threads);
void gram_gradient(const GradientLayer* layers, std::size_t count, int threads);

// Instruction sets, worst first: scalar (portable C++), avx2, avx512, avx512bf16.
std::vector<std::string> compiled_isas();
std::vector<std::string> available_isas();  // compiled, and this machine can run them
std::string selected_isa();                 // best available, capped by FASTNST_CPU_ISA
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

}  // namespace fastnst
