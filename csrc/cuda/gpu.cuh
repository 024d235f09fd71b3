// What the kernels need of the CUDA runtime: static shared memory, checked launches, the caller's
// device. tests/helpers/cuda_emulator replaces this file's and mma.cuh's contents to run the
// kernels on a CPU.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#ifdef FASTNST_CUDA_EMULATOR
#include "emulator.h"
#else
#include <cuda_runtime.h>

#include "device_error.h"

namespace fastnst::cuda {

// The one block of shared memory of a kernel.
template <class Storage>
__device__ __forceinline__ Storage& shared_memory() {
    __shared__ __align__(16) unsigned char bytes[sizeof(Storage)];
    return *reinterpret_cast<Storage*>(bytes);
}

// Throws std::runtime_error where this build cannot run on the device or its driver, DeviceError
// for all else: that may be the fault of work that somebody else has queued.
inline void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    const std::string message = std::string(what) + ": " + cudaGetErrorString(status);
    const bool cannot_run = status == cudaErrorNoKernelImageForDevice ||
                            status == cudaErrorInsufficientDriver ||
                            status == cudaErrorUnsupportedPtxVersion;
    if (cannot_run) throw std::runtime_error(message);
    throw DeviceError(message);
}

// Makes a device current while it lives. Where it is current already nothing is set: to make a
// device current creates its context, and with it some 500 MB of its memory.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device) {
        int before = 0;
        check(cudaGetDevice(&before), "cudaGetDevice");
        if (before == device) return;
        check(cudaSetDevice(device), "cudaSetDevice");
        before_ = before;
    }
    ~DeviceGuard() {
        if (before_ >= 0) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int before_ = -1;  // -1: nothing to restore
};

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
            void* stream, const Arguments&... arguments) {
    if (blocks == 0) return;
    if (blocks > 0x7fffffff) throw std::invalid_argument(std::string(name) + ": too many blocks");
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = static_cast<cudaStream_t>(stream);
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, arguments...);
    cudaGetLastError();  // the error is reported here; leave none behind
    check(status, name);
}

// Whether the current device runs a copy of the kernel that was compiled with tensor-core products,
// which sm_75 code has not.
template <class... Parameters>
bool compiled_for_tensor_cores(const char* name, void (*kernel)(Parameters...)) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), name);
    return attributes.ptxVersion >= 80;
}

}  // namespace fastnst::cuda
#endif
