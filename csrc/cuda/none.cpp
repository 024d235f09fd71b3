// The build without CUDA: says so.

#include "../fastnst.h"

namespace fastnst {

CudaDevices cuda_devices() {
    return {{}, "fastnst was built without CUDA"};
}

}  // namespace fastnst
