// What the CUDA runtime reports of a device that runs this build: an error of this call, or of work
// that was queued before it.
#pragma once

#include <stdexcept>

namespace fastnst {

class DeviceError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace fastnst
