// What the checks share: arrays that end at a page which may not be touched, random numbers, the
// comparison with plain loops in double, and the count of what failed.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "fastnst.h"

namespace checks {

using fastnst::DType;
using std::int64_t;
using std::uint16_t;

// Half a unit in the last place of a float and of a bfloat16, relative to the number.
constexpr double kRounding = 1.0 / (1 << 24), kRoundingBf16 = 1.0 / (1 << 8);

inline float from_bf16(uint16_t x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// To nearest, ties to even; finite numbers only.
inline uint16_t to_bf16(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Bytes whose last is followed by a page that may not be touched. Pages are kept for the next one
// of their size: in an emulator it takes long to map them.
class Memory {
  public:
    explicit Memory(std::size_t bytes) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        used_ = (bytes + page - 1) / page * page;
        std::vector<char*>& spare = spares()[used_];
        if (spare.empty()) {
            void* const all = mmap(nullptr, used_ + page, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (all == MAP_FAILED) std::abort();
            mprotect(static_cast<char*>(all) + used_, page, PROT_NONE);
            spare.push_back(static_cast<char*>(all));
        }
        begin_ = spare.back();
        spare.pop_back();
        data_ = begin_ + used_ - bytes;
    }
    ~Memory() {
        if (begin_) spares()[used_].push_back(begin_);
    }
    Memory(Memory&& other) : begin_(other.begin_), data_(other.data_), used_(other.used_) {
        other.begin_ = nullptr;
    }
    Memory& operator=(Memory&&) = delete;
    char* data() const { return data_; }

  private:
    static std::map<std::size_t, std::vector<char*>>& spares() {
        static std::map<std::size_t, std::vector<char*>> all;
        return all;
    }
    char *begin_, *data_;
    std::size_t used_;
};

// Numbers of any type there is for features, and NaN until they are set.
class Numbers {
  public:
    Numbers(DType dtype, int64_t count)
        : dtype_(dtype),
          count_(count),
          memory_(static_cast<std::size_t>(count * fastnst::size_of(dtype))) {
        std::memset(memory_.data(), 0xff, static_cast<std::size_t>(count * size_of(dtype)));
    }
    DType dtype() const { return dtype_; }
    int64_t size() const { return count_; }
    void* data() const { return memory_.data(); }
    float operator[](int64_t i) const {
        if (dtype_ == DType::bfloat16) {
            uint16_t x;
            std::memcpy(&x, memory_.data() + 2 * i, 2);
            return from_bf16(x);
        }
        float x;
        std::memcpy(&x, memory_.data() + 4 * i, 4);
        return x;
    }
    void set(int64_t i, float value) {
        const uint16_t half = to_bf16(value);
        if (dtype_ == DType::bfloat16)
            std::memcpy(memory_.data() + 2 * i, &half, 2);
        else
            std::memcpy(memory_.data() + 4 * i, &value, 4);
    }
    void set(const Numbers& other) {
        for (int64_t i = 0; i < count_; ++i) set(i, other[i]);
    }
    bool same_bits(const Numbers& other) const {
        return std::memcmp(data(), other.data(),
                           static_cast<std::size_t>(count_ * size_of(dtype_))) == 0;
    }
    float* floats() const { return static_cast<float*>(data()); }
    std::vector<double> doubles() const {
        std::vector<double> all(static_cast<std::size_t>(count_));
        for (int64_t i = 0; i < count_; ++i) all[static_cast<std::size_t>(i)] = (*this)[i];
        return all;
    }

  private:
    DType dtype_;
    int64_t count_;
    Memory memory_;
};

// The same numbers on every machine.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
    double uniform() {  // in [0, 1)
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<double>(state_ >> 40) / (1 << 24);
    }
    float normal() {  // nearly: the sum of twelve, mean 0, deviation 1
        double sum = -6;
        for (int i = 0; i < 12; ++i) sum += uniform();
        return static_cast<float>(sum);
    }
    void fill(Numbers& x, double scale = 1, bool relu = false) {
        for (int64_t i = 0; i < x.size(); ++i) {
            const float value = static_cast<float>(scale) * normal();
            x.set(i, relu && value < 0 ? 0.0f : value);
        }
    }

  private:
    std::uint64_t state_;
};

// Counts checks; prints those that failed.
class Report {
  public:
    void expect(bool holds, const std::string& what) {
        ++count_;
        if (holds) return;
        ++failed_;
        std::printf("FAILED %s: %s\n", fastnst::selected_isa().c_str(), what.c_str());
    }
    // |found - truth| as a part of |truth|, over all elements
    void close(const Numbers& found, const std::vector<double>& truth, double tolerance,
               const std::string& what) {
        double distance = 0, size = 0;
        for (std::size_t i = 0; i < truth.size(); ++i) {
            const double d = static_cast<double>(found[static_cast<int64_t>(i)]) - truth[i];
            distance += d * d;
            size += truth[i] * truth[i];
        }
        const double error = std::sqrt(distance / (size > 0 ? size : 1));
        // not (error > tolerance): NaN is no success
        expect(error <= tolerance,
               what + ", error " + std::to_string(error / tolerance) + " times what is allowed");
    }
    int count() const { return count_; }
    int failed() const { return failed_; }

  private:
    int count_ = 0, failed_ = 0;
};

// f(isa) for each instruction set that this processor runs.
template <class F>
void for_each_isa(const F& f) {
    for (const std::string& isa : fastnst::available_isas()) {
        fastnst::force_isa(isa);
        f(isa);
    }
    fastnst::force_isa("");
}

void check_gram(Report& report);
void check_convolution(Report& report);
void check_direct(Report& report);
void check_history(Report& report);
void check_sums(Report& report);

}  // namespace checks
