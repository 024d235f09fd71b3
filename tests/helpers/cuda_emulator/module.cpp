// The emulated kernels behind the bindings that the extension has: what Python calls is the same.

#include "bindings.h"

PYBIND11_MODULE(_emulated, m) {
    fastnst::bindings::bind_cuda(m);
}
