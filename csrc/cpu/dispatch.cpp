// Chooses the instruction set: the best that the build holds and the machine runs, unless
// FASTNST_CPU_ISA or a test says otherwise. Baseline code: compiled without any instruction-set
// flag, so that it runs before the choice is made.

#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "../fastnst.h"
#include "isas.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace fastnst {

#define FASTNST_DECLARE(isa, runs_here) \
    namespace isa {                     \
    extern const KernelTable table;     \
    }
FASTNST_FOR_EACH_ISA(FASTNST_DECLARE)
#undef FASTNST_DECLARE

namespace {

// FASTNST_HAS(feature): whether the processor has it, and the operating system saves its registers
#if defined(__x86_64__)
#define FASTNST_HAS(feature) __builtin_cpu_supports(#feature)
#elif defined(__aarch64__)
#define FASTNST_HAS(feature) has_##feature()

[[maybe_unused]] bool has_bf16() {
#if defined(__linux__)
    constexpr unsigned long hwcap2_bf16 = 1ul << 14;  // which the C library's headers may lack
    return (getauxval(AT_HWCAP2) & hwcap2_bf16) != 0;
#elif defined(__APPLE__)
    int has = 0;
    std::size_t size = sizeof(has);
    return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, nullptr, 0) == 0 && has != 0;
#else
    return false;
#endif
}
#endif

const std::vector<std::string> kKnown{FASTNST_KNOWN_ISAS};  // worst first

struct Choice {
    const KernelTable* table;
    bool runs_here;
};

const std::vector<Choice>& choices() {
    static const std::vector<Choice> all = [] {
        std::vector<Choice> found;
        // asks the processor and the operating system (which must save the wide registers)
#ifdef __x86_64__
        __builtin_cpu_init();
#endif
#define FASTNST_OFFER(isa, runs_here) found.push_back({&isa::table, runs_here});
        FASTNST_FOR_EACH_ISA(FASTNST_OFFER)
#undef FASTNST_OFFER
        return found;
    }();
    return all;
}

std::string join(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

const KernelTable* find(const std::string& name, const std::string& asked_by) {
    for (const Choice& choice : choices()) {
        if (name == choice.table->name && choice.runs_here) return choice.table;
    }
    if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end()) {
        throw std::invalid_argument(asked_by + ": unknown instruction set '" + name +
                                    "', expected one of " + join(kKnown));
    }
    throw std::runtime_error(asked_by + ": this machine or this build cannot run '" + name +
                             "', available: " + join(available_isas()));
}

const KernelTable* choose() {
    const char* cap = std::getenv("FASTNST_CPU_ISA");
    if (cap && *cap) return find(cap, "FASTNST_CPU_ISA");
    const KernelTable* best = nullptr;
    for (const Choice& choice : choices()) {
        if (choice.runs_here) best = choice.table;
    }
    return best;
}

std::atomic<const KernelTable*> forced{nullptr};

}  // namespace

const KernelTable& kernels() {
    if (const KernelTable* table = forced.load()) return *table;
    static const KernelTable* const chosen = choose();
    return *chosen;
}

std::vector<std::string> compiled_isas() {
    std::vector<std::string> names;
    for (const Choice& choice : choices()) names.emplace_back(choice.table->name);
    return names;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Choice& choice : choices()) {
        if (choice.runs_here) names.emplace_back(choice.table->name);
    }
    return names;
}

std::string selected_isa() {
    return kernels().name;
}

// Intel's processors begin one product of bfloat16 pairs a cycle and two of floats: as many
// multiplications, and conversions beside them. Measured on one: docs/performance.md.
bool bfloat16_is_quicker() {
    if (!convolves_bfloat16()) return false;
#ifdef __x86_64__
    if (__builtin_cpu_is("intel")) return false;
#endif
    return true;
}

void force_isa(const std::string& name) {
    forced = name.empty() ? nullptr : find(name, "force_isa");
}

}  // namespace fastnst
