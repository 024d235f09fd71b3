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

std::size_t cuda_gram_workspace(const GramLayer*, std::size_t) {
    throw std::runtime_error(kReason);
}

std::size_t cuda_gram_gradient_workspace(const GradientLayer*, std::size_t) {
    throw std::runtime_error(kReason);
}

void cuda_gram(const GramLayer*, std::size_t, CudaPrecision, void*, std::size_t, int, void*) {
    throw std::runtime_error(kReason);
}

void cuda_gram_gradient(const GradientLayer*, std::size_t, CudaPrecision, void*, std::size_t, int,
                        void*) {
    throw std::runtime_error(kReason);
}

}  // namespace fastnst
