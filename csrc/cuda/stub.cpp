// The build without CUDA: says so.

#include <stdexcept>

#include "../fastnst.h"

namespace fastnst {

namespace {

constexpr const char* kReason = "fastnst was built without CUDA";

}  // namespace

CudaDevices cuda_devices() {
    return {{}, kReason};
}

// Every function of the GPU, of any type and arguments.
#define FASTNST_WITHOUT_CUDA(type, name, ...) \
    type name(__VA_ARGS__) {                  \
        throw std::runtime_error(kReason);    \
    }

FASTNST_WITHOUT_CUDA(std::size_t, cuda_gram_workspace, const GramLayer*, std::size_t)
FASTNST_WITHOUT_CUDA(std::size_t, cuda_gram_gradient_workspace, const GradientLayer*, std::size_t)
FASTNST_WITHOUT_CUDA(DType, cuda_symmetric_dtype, DType, CudaPrecision, int)
FASTNST_WITHOUT_CUDA(void, cuda_gram, const GramLayer*, const CudaGramExtra*, std::size_t,
                     CudaPrecision, void*, std::size_t, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_gram_gradient, const GradientLayer*, const CudaGradientExtra*,
                     std::size_t, CudaPrecision, void*, std::size_t, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_history_store, const History&, const std::int64_t*, const float*,
                     int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_history_products, const History&, const std::int64_t*, const float*,
                     float*, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_history_combination, const History&, const std::int64_t*,
                     const float*, float, const float*, const double*, float*, double*, int, void*)
FASTNST_WITHOUT_CUDA(std::int64_t, cuda_layer_gradient_blocks, const CudaLayerGradient&)
FASTNST_WITHOUT_CUDA(void, cuda_layer_gradient, const CudaLayerGradient&, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_pool, const CudaPool&, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_losses, const CudaLossTerm*, std::size_t, float*, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_image_features, const CudaImageFeatures&, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_image_gradient, const CudaImageGradient&, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_solver_take, const CudaSolver&, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_solver_first, const CudaSolver&, bool, int, void*)
FASTNST_WITHOUT_CUDA(void, cuda_solver_second, const CudaSolver&, int, void*)

}  // namespace fastnst
