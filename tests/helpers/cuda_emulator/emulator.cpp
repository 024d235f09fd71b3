// Where it is stricter than a GPU:
//
//   * threads run in a given order between two points where they wait: ascending, descending or
//     shuffled, and so do the blocks. A missing __syncthreads() shows in one of them.
//   * an asynchronous copy happens as late as it may, or at once, as asked.
//   * all of shared memory is NaN at the start of a block and ends at a page that may not be
//     touched; so do the buffers that emulator_allocate() hands out, or they begin at one.
//   * all threads of a block must come to a barrier, and all lanes of a warp to the same
//     instruction; nobody may leave with copies under way.
//   * tensor cores round every sum towards zero, and ignore the bits that TF32 has not.

#include "emulator.h"

#include <csetjmp>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "fastnst.h"

Index threadIdx{}, blockIdx{};

namespace {

enum Order : int { ascending = 0, descending = 1, shuffled = 2 };

struct Settings {
    Order order = ascending;
    bool early_copies = false;
    bool tensor_cores = true;
} settings;

// ------------------------------------------------------------------------------------ memory --

// Pages with one before and one behind them that may not be touched.
class Guarded {
  public:
    explicit Guarded(std::size_t bytes) {
        page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        size_ = (bytes + page_ - 1) / page_ * page_;
        base_ = static_cast<char*>(
            mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (base_ == MAP_FAILED || mprotect(begin(), size_, PROT_READ | PROT_WRITE) != 0)
            throw std::bad_alloc();
    }
    ~Guarded() { munmap(base_, size_ + 2 * page_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    char* begin() const { return base_ + page_; }
    char* end() const { return begin() + size_; }

  private:
    char* base_;
    std::size_t page_, size_;
};

constexpr std::size_t kSharedLimit = 48 << 10;  // static shared memory of any GPU

// ------------------------------------------------------------------------------------- fibres --

enum class State { fresh, ready, at_barrier, in_warp, done };

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

struct Fibre {
    ucontext_t context;
    std::unique_ptr<Guarded> stack;
    std::jmp_buf point;
    State state;
    std::vector<std::vector<Copy>> groups;  // committed; the last one is open
};

struct Warp {
    const char* instruction = nullptr;
    int arrived = 0;
    const void* lanes[32];
};

constexpr std::size_t kStack = 64 << 10;

std::vector<Fibre> fibres;
std::vector<Warp> warps;
std::unique_ptr<Guarded> shared_pages;
std::size_t shared_size;
int threads, current, at_barrier;
const std::function<void()>* kernel;
ucontext_t scheduler_context;
std::jmp_buf scheduler;
std::string failure;
std::mt19937 generator;
std::map<std::string, int> launches;  // by kernel
std::string launched;

// A fibre that finds something wrong says so and never runs again.
[[noreturn]] void fail(const std::string& what) {
    failure = what + " (block " + std::to_string(blockIdx.x) + ", thread " +
              std::to_string(current) + ")";
    longjmp(scheduler, 1);
}

void wait(State state) {
    Fibre& self = fibres[static_cast<std::size_t>(current)];
    self.state = state;
    if (_setjmp(self.point) == 0) longjmp(scheduler, 1);
}

void body() {
    (*kernel)();
    Fibre& self = fibres[static_cast<std::size_t>(current)];
    for (const auto& group : self.groups) {
        if (!group.empty()) fail("a thread ended with copies under way");
    }
    self.state = State::done;
    longjmp(scheduler, 1);
}

// Runs a fibre until it waits. Not inlined: setjmp and the caller's locals do not mix.
__attribute__((noinline)) void resume(int index) {
    current = index;
    threadIdx.x = static_cast<unsigned>(index);
    Fibre& fibre = fibres[static_cast<std::size_t>(index)];
    if (_setjmp(scheduler) != 0) return;
    if (fibre.state == State::fresh) {
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack->begin();
        fibre.context.uc_stack.ss_size = kStack;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, body, 0);
        fibre.state = State::ready;
        swapcontext(&scheduler_context, &fibre.context);
    }
    longjmp(fibre.point, 1);
}

template <class Number>
std::vector<Number> in_order(Number count) {
    std::vector<Number> indices(static_cast<std::size_t>(count));
    std::iota(indices.begin(), indices.end(), Number{0});
    if (settings.order == descending) std::reverse(indices.begin(), indices.end());
    if (settings.order == shuffled) std::shuffle(indices.begin(), indices.end(), generator);
    return indices;
}

void run_block() {
    for (Fibre& fibre : fibres) {
        fibre.state = State::fresh;
        fibre.groups.assign(1, {});
    }
    warps.assign(static_cast<std::size_t>(threads / 32), {});
    shared_size = 0;
    at_barrier = 0;
    for (;;) {
        bool any = false;
        for (const int index : in_order(threads)) {
            const State state = fibres[static_cast<std::size_t>(index)].state;
            if (state != State::fresh && state != State::ready) continue;
            any = true;
            resume(index);
            if (!failure.empty()) return;
        }
        if (at_barrier == threads) {
            at_barrier = 0;
            for (Fibre& fibre : fibres) fibre.state = State::ready;
        } else if (!any) {
            break;
        }
    }
    for (const Fibre& fibre : fibres) {
        if (fibre.state != State::done) {
            failure = "threads wait for others that never come (block " +
                      std::to_string(blockIdx.x) + ")";
        }
    }
}

void on_signal(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
    fail(signal == SIGILL ? "a misaligned access, or an index beyond its array"
                          : "an access beyond a buffer");
}

class Signals {
  public:
    Signals() {
        for (std::size_t i = 0; i < 3; ++i) before_[i] = std::signal(kSignals[i], on_signal);
    }
    ~Signals() {
        for (std::size_t i = 0; i < 3; ++i) std::signal(kSignals[i], before_[i]);
    }

  private:
    static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL};
    void (*before_[3])(int);
};

// Hands over a lane's operands; the last lane of the warp to come calls perform(lanes) for all.
template <class Lane, class Perform>
void warp_wide(const char* instruction, const Lane& lane, Perform perform) {
    Warp& warp = warps[static_cast<std::size_t>(current / 32)];
    if (warp.arrived > 0 && warp.instruction != instruction)
        fail(std::string("a warp is in two instructions: ") + warp.instruction + ", " +
             instruction);
    warp.instruction = instruction;
    warp.lanes[current % 32] = &lane;
    if (++warp.arrived < 32) {
        wait(State::in_warp);
        return;
    }
    warp.arrived = 0;
    Lane lanes[32];
    for (int i = 0; i < 32; ++i) lanes[i] = *static_cast<const Lane*>(warp.lanes[i]);
    perform(lanes);
    const auto first = fibres.begin() + current / 32 * 32;
    for (auto fibre = first; fibre != first + 32; ++fibre) fibre->state = State::ready;
}

// ---------------------------------------------------------------------------------- arithmetic --

float from_bits(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

std::uint32_t to_bits(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return bits;
}

float towards_zero(double x) {
    const float near = static_cast<float>(x);
    const bool beyond = std::fabs(static_cast<double>(near)) > std::fabs(x);
    return beyond && std::isfinite(x) ? std::nextafterf(near, 0.0f) : near;
}

// sum (16 x 8) += a (16 x kDepth) b (kDepth x 8)
template <int kDepth>
void multiply(float (&sum)[16][8], const float (&a)[16][kDepth], const float (&b)[kDepth][8]) {
    for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 8; ++j) {
            double total = static_cast<double>(sum[i][j]);
            for (int k = 0; k < kDepth; ++k)
                total += static_cast<double>(a[i][k]) * static_cast<double>(b[k][j]);
            sum[i][j] = towards_zero(total);
        }
    }
}

// PTX ISA, accumulators of mma.m16n8: row = groupID for c0, c1, groupID + 8 for c2, c3;
// column = 2 threadID_in_group + (i & 1)
template <class Visit>
void for_sums(const emulator::Product (&lanes)[32], Visit visit) {
    for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i)
            visit(lanes[lane].sum[i], lane / 4 + (i < 2 ? 0 : 8), lane % 4 * 2 + (i & 1));
    }
}

}  // namespace

void(__syncthreads)() {
    ++at_barrier;
    wait(State::at_barrier);
}

namespace emulator {

void* shared(std::size_t bytes) {
    if (bytes > kSharedLimit) fail("too much shared memory");
    if (shared_size == 0) {
        shared_size = bytes;
        std::memset(shared_pages->begin(), 0xff, kSharedLimit);
    }
    if (shared_size != bytes) fail("two kinds of shared memory");
    return shared_pages->end() - bytes;
}

void run(const char* name, std::int64_t blocks, int count, const std::function<void()>& body) {
    const Signals signals;
    ++launches[name];
    if (!shared_pages) shared_pages = std::make_unique<Guarded>(kSharedLimit);
    threads = count;
    kernel = &body;
    failure.clear();
    fibres.resize(static_cast<std::size_t>(count));
    for (Fibre& fibre : fibres) {
        if (!fibre.stack) fibre.stack = std::make_unique<Guarded>(kStack);
    }
    for (const std::int64_t block : in_order(blocks)) {
        blockIdx.x = static_cast<unsigned>(block);
        run_block();
        if (!failure.empty()) throw std::runtime_error(std::string(name) + ": " + failure);
    }
}

// PTX ISA, ldmatrix: threads 8 m .. 8 m + 7 give the rows of matrix m; thread (g, t) receives
// elements 2t and 2t + 1 of row g, of the transposed matrix with .trans
void load_matrices(Matrices lane) {
    warp_wide(lane.transposed ? "ldmatrix.trans" : "ldmatrix", lane, [](const Matrices* lanes) {
        for (int m = 0; m < 4; ++m) {
            std::uint16_t matrix[8][8];
            for (int r = 0; r < 8; ++r) {
                const void* row = lanes[8 * m + r].row;
                if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) fail("ldmatrix: misaligned");
                std::memcpy(matrix[r], row, sizeof(matrix[r]));
            }
            for (int i = 0; i < 32; ++i) {
                const int g = i / 4, t = i % 4;
                const bool transposed = lanes[i].transposed;
                const std::uint32_t low = transposed ? matrix[2 * t][g] : matrix[g][2 * t];
                const std::uint32_t high = transposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
                lanes[i].to[m] = low | high << 16;
            }
        }
    });
}

// CUDA C++ Programming Guide, __shfl_xor_sync: the value of lane (own ^ distance)
void exchange(Exchange lane) {
    warp_wide("shfl.xor", lane, [](const Exchange* lanes) {
        for (int i = 0; i < 32; ++i) {
            const Exchange& own = lanes[i];
            if (own.distance < 0 || own.distance > 31) fail("shfl.xor: no such lane");
            if (own.distance != lanes[i ^ own.distance].distance) fail("shfl.xor: lanes disagree");
            std::memcpy(own.to, lanes[i ^ own.distance].from, own.bytes);
        }
    });
}

// PTX ISA, mma.m16n8k16 of 16-bit elements, two to a register, the lower half first:
//     a_i: row = groupID for 0 <= i < 2 and 4 <= i < 6, else groupID + 8;
//          column = 2 threadID_in_group + (i & 1), + 8 for i >= 4
//     b_i: row = 2 threadID_in_group + (i & 1), + 8 for i >= 2; column = groupID
void multiply_bfloat16(Product lane) {
    warp_wide("mma.bf16", lane, [](const Product(&lanes)[32]) {
        float a[16][16], b[16][8], sum[16][8];
        const auto element = [](const std::uint32_t* registers, int i) {
            return from_bits((registers[i / 2] >> (i % 2 * 16)) << 16);
        };
        for (int l = 0; l < 32; ++l) {
            const int group = l / 4, thread = l % 4;
            for (int i = 0; i < 8; ++i) {
                const bool upper = i < 2 || (4 <= i && i < 6);
                a[upper ? group : group + 8][2 * thread + (i & 1) + (i < 4 ? 0 : 8)] =
                    element(lanes[l].a, i);
            }
            for (int i = 0; i < 4; ++i)
                b[2 * thread + (i & 1) + (i < 2 ? 0 : 8)][group] = element(lanes[l].b, i);
        }
        for_sums(lanes, [&](float& x, int row, int column) { sum[row][column] = x; });
        multiply(sum, a, b);
        for_sums(lanes, [&](float& x, int row, int column) { x = sum[row][column]; });
    });
}

// PTX ISA, mma.m16n8k8 of TF32:
//     a_i: row = groupID for a0 and a2, groupID + 8 for a1 and a3;
//          column = threadID_in_group, + 4 for a2 and a3
//     b_i: row = threadID_in_group, + 4 for b1; column = groupID
void multiply_tf32(Product lane) {
    warp_wide("mma.tf32", lane, [](const Product(&lanes)[32]) {
        float a[16][8], b[8][8], sum[16][8];
        const auto element = [](std::uint32_t bits) { return from_bits(bits & ~0x1fffu); };
        for (int l = 0; l < 32; ++l) {
            const int group = l / 4, thread = l % 4;
            for (int i = 0; i < 4; ++i) {
                const int row = i == 0 || i == 2 ? group : group + 8;
                a[row][i < 2 ? thread : thread + 4] = element(lanes[l].a[i]);
            }
            for (int i = 0; i < 2; ++i)
                b[i == 0 ? thread : thread + 4][group] = element(lanes[l].b[i]);
        }
        for_sums(lanes, [&](float& x, int row, int column) { sum[row][column] = x; });
        multiply(sum, a, b);
        for_sums(lanes, [&](float& x, int row, int column) { x = sum[row][column]; });
    });
}

void perform(const Copy& copy) {
    std::memset(copy.to, 0, 16);
    std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
}

void copy_async(void* to, const void* from, int bytes) {
    if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 ||
        reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
        fail("cp.async: misaligned");
    if (bytes < 0 || bytes > 16) fail("cp.async: not 0 to 16 bytes");
    const Copy copy{to, from, bytes};
    if (settings.early_copies) {
        perform(copy);
    } else {
        fibres[static_cast<std::size_t>(current)].groups.back().push_back(copy);
    }
}

void commit_copies() {
    fibres[static_cast<std::size_t>(current)].groups.emplace_back();
}

void wait_for_copies(int pending) {
    auto& groups = fibres[static_cast<std::size_t>(current)].groups;
    while (groups.size() - 1 > static_cast<std::size_t>(pending)) {
        for (const Copy& copy : groups.front()) perform(copy);
        groups.erase(groups.begin());
    }
}

bool has_tensor_cores() {
    return settings.tensor_cores;
}

}  // namespace emulator

// cvt.rna: to nearest, ties away from zero
std::uint32_t fastnst::cuda::round_to_tf32(float x) {
    const std::uint32_t bits = to_bits(x);
    return std::isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

// ------------------------------------------------------------------------- for ctypes in Python --

namespace {

std::map<void*, std::unique_ptr<Guarded>> allocated;

template <class Call>
int reported(char* error, std::size_t size, Call call) {
    try {
        call();
        return 0;
    } catch (const std::exception& exception) {
        std::strncpy(error, exception.what(), size - 1);
        error[size - 1] = 0;
        return 1;
    }
}

}  // namespace

extern "C" {

void emulator_set(int order, unsigned seed, int early_copies, int tensor_cores) {
    settings = {static_cast<Order>(order), early_copies != 0, tensor_cores != 0};
    generator.seed(seed);
}

// Every kernel that was launched since the last call, with how often: "name count" by lines.
const char* emulator_launched() {
    launched.clear();
    for (const auto& [name, count] : launches)
        launched += name + " " + std::to_string(count) + "\n";
    launches.clear();
    return launched.c_str();
}

// Bytes that end at a page that may not be touched, or begin at one.
void* emulator_allocate(std::size_t bytes, int at_end) {
    auto pages = std::make_unique<Guarded>(bytes);
    void* memory = at_end ? pages->end() - bytes : pages->begin();
    std::memset(pages->begin(), 0xff, static_cast<std::size_t>(pages->end() - pages->begin()));
    allocated[memory] = std::move(pages);
    return memory;
}

void emulator_free_all() {
    allocated.clear();
}

std::size_t emulator_gram_workspace(const fastnst::GramLayer* layers, std::size_t count) {
    return fastnst::cuda_gram_workspace(layers, count);
}

std::size_t emulator_gradient_workspace(const fastnst::GradientLayer* layers, std::size_t count) {
    return fastnst::cuda_gram_gradient_workspace(layers, count);
}

int emulator_gram(const fastnst::GramLayer* layers, std::size_t count, int precision,
                  void* workspace, std::size_t bytes, char* error, std::size_t error_size) {
    return reported(error, error_size, [&] {
        fastnst::cuda_gram(layers, nullptr, count, static_cast<fastnst::CudaPrecision>(precision),
                           workspace, bytes, 0, nullptr);
    });
}

int emulator_gradient(const fastnst::GradientLayer* layers, std::size_t count, int precision,
                      void* workspace, std::size_t bytes, char* error, std::size_t error_size) {
    return reported(error, error_size, [&] {
        fastnst::cuda_gram_gradient(layers, nullptr, count,
                                    static_cast<fastnst::CudaPrecision>(precision), workspace,
                                    bytes, 0, nullptr);
    });
}

}  // extern "C"
