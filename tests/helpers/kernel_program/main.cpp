// Checks every kernel of csrc/cpu on every instruction set of the processor that it runs on,
// against plain loops in double: for processors that the tests in Python cannot be run on. It is
// built by CMake with -DFASTNST_KERNEL_PROGRAM=ON, and needs neither Python nor PyTorch.
//
//     cmake -S . -B build/arm64 -DFASTNST_KERNEL_PROGRAM=ON -DCMAKE_SYSTEM_NAME=Linux
//         -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
//     cmake --build build/arm64
//     qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu build/arm64/kernel_program
//
// It prints the instruction sets, what failed, and how many checks there were; with the word `isas`
// as its argument, the instruction sets alone.

#include "check.h"

int main(int count, char** arguments) {
    std::printf("instruction sets:");
    for (const std::string& isa : fastnst::available_isas()) std::printf(" %s", isa.c_str());
    std::printf("\n");
    if (count > 1 && std::string(arguments[1]) == "isas") return 0;
    checks::Report report;
    checks::check_sums(report);
    checks::check_history(report);
    checks::check_gram(report);
    checks::check_direct(report);
    checks::check_convolution(report);
    std::printf("%d checks, %d failed\n", report.count(), report.failed());
    return report.failed() ? 1 : 0;
}
