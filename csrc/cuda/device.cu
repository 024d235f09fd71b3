// Which GPUs there are, asked of the driver; no context is created and nothing runs on a device.

#include <cuda_runtime.h>

#include "../fastnst.h"

namespace fastnst {

CudaDevices cuda_devices() {
    CudaDevices found;
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    for (int i = 0; status == cudaSuccess && i < count; ++i) {
        cudaDeviceProp properties;
        status = cudaGetDeviceProperties(&properties, i);
        if (status != cudaSuccess) break;
        found.devices.push_back({properties.name, properties.major, properties.minor,
                                 static_cast<std::int64_t>(properties.totalGlobalMem)});
    }
    if (status != cudaSuccess) {
        cudaGetLastError();  // the error is reported here; leave none behind
        found.reason = cudaGetErrorString(status);
    } else if (found.devices.empty()) {
        found.reason = "the driver reports no CUDA device";
    }
    return found;
}

}  // namespace fastnst
