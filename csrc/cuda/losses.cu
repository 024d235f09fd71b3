// All that is left of the losses once the layers are done, in one block: sums of squares by block
// become losses, and the losses their weighted sum.

#include "layers.cuh"
#include "reduce.cuh"

namespace fastnst {
namespace cuda {
namespace {

constexpr int kLossThreads = 256;

struct LossMemory {
    double sums[kLossThreads / 32];
};

struct LossTerms {
    std::int64_t count;
    CudaLossTerm terms[kMaxLossTerms];
};

__global__ void __launch_bounds__(kLossThreads)
    weigh_losses(const __grid_constant__ LossTerms work, float* losses) {
    auto& memory = shared_memory<LossMemory>();
    double total = 0;
    for (std::int64_t k = 0; k < work.count; ++k) {
        const CudaLossTerm& term = work.terms[k];
        double sum = 0;
        for (std::int64_t i = threadIdx.x; i < term.count; i += kLossThreads) sum += term.sums[i];
        sum = block_sum<kLossThreads>(sum, memory.sums);
        __syncthreads();  // thread 0 has read the sums: the next term may overwrite them
        if (threadIdx.x == 0) {
            const double value = term.count > 0 ? sum / term.divisor
                                 : term.value   ? static_cast<double>(*term.value)
                                                : 0.0;
            const float rounded = static_cast<float>(value + term.offset);
            losses[1 + k] = rounded;
            total += term.factor * static_cast<double>(rounded);
        }
    }
    if (threadIdx.x == 0) losses[0] = static_cast<float>(total);
}

}  // namespace
}  // namespace cuda

void cuda_losses(const CudaLossTerm* terms, std::size_t count, float* losses, int device,
                 void* stream) {
    using namespace cuda;
    expect(count <= kMaxLossTerms, "losses: too many terms");
    expect(losses != nullptr, "losses: null pointer");
    LossTerms work{};
    work.count = static_cast<std::int64_t>(count);
    for (std::size_t i = 0; i < count; ++i) {
        expect(terms[i].count == 0 || (terms[i].sums && terms[i].divisor > 0),
               "losses: sums without pointer or divisor");
        work.terms[i] = terms[i];
    }
    const DeviceGuard guard(device);
    launch("weigh_losses", weigh_losses, 1, kLossThreads, stream, work, losses);
}

}  // namespace fastnst
