// The kernels of the instruction set in use, for the baseline sources that cut work into tasks.
#pragma once

#include "kernels/table.h"

namespace fastnst {

// The table of the instruction set that force_isa set, or else of the best that FASTNST_CPU_ISA
// allows. Throws as selected_isa() does where FASTNST_CPU_ISA cannot be followed.
const KernelTable& kernels();

}  // namespace fastnst
