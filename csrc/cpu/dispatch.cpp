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

namespace fastnst {

#define FASTNST_DECLARE(isa)        \
    namespace isa {                 \
    extern const KernelTable table; \
    }
FASTNST_DECLARE(scalar)
#ifdef FASTNST_HAVE_AVX2
FASTNST_DECLARE(avx2)
FASTNST_DECLARE(avx512)
#ifdef FASTNST_HAVE_AVX512BF16
FASTNST_DECLARE(avx512bf16)
#endif
#endif
#undef FASTNST_DECLARE

namespace {

const char* const kKnown[] = {"scalar", "avx2", "avx512", "avx512bf16"};  // worst first

struct Choice {
    const KernelTable* table;
    bool runs_here;
};

const std::vector<Choice>& choices() {
    static const std::vector<Choice> all = [] {
        std::vector<Choice> found{{&scalar::table, true}};
#ifdef FASTNST_HAVE_AVX2
        // asks the processor and the operating system (which must save the wide registers)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        const bool avx512 =
            avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
        found.push_back({&avx2::table, avx2});
        found.push_back({&avx512::table, avx512});
#ifdef FASTNST_HAVE_AVX512BF16
        found.push_back({&avx512bf16::table, avx512 && __builtin_cpu_supports("avx512bf16")});
#endif
#endif
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
    if (std::find(std::begin(kKnown), std::end(kKnown), name) == std::end(kKnown)) {
        throw std::invalid_argument(asked_by + ": unknown instruction set '" + name +
                                    "', expected one of scalar, avx2, avx512, avx512bf16");
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

void force_isa(const std::string& name) {
    forced = name.empty() ? nullptr : find(name, "force_isa");
}

}  // namespace fastnst
