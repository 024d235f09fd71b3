// Sums over a picture: the same bits on every instruction set and for any number of threads.

#include "check.h"

namespace checks {

void check_sums(Report& report) {
    using fastnst::Sum;
    const char* const names[] = {"absolute", "dot", "squared distance"};
    for (const int64_t length : {int64_t{0}, int64_t{1}, int64_t{31}, int64_t{16384 + 37}}) {
        Random random(static_cast<std::uint64_t>(length));
        Numbers x(DType::float32, length), y(DType::float32, length);
        random.fill(x);
        random.fill(y);
        for (const Sum what : {Sum::absolute, Sum::dot, Sum::squared_distance}) {
            double truth = 0, size = 0;
            for (int64_t i = 0; i < length; ++i) {
                const double a = static_cast<double>(x[i]), b = static_cast<double>(y[i]);
                const double d = static_cast<double>(x[i] - y[i]);  // which is rounded to float
                const double term = what == Sum::absolute ? std::fabs(a)
                                    : what == Sum::dot    ? a * b
                                                          : d * d;
                truth += term;
                size += std::fabs(term);
            }
            double first = 0;
            for_each_isa([&](const std::string& isa) {
                const double sum = fastnst::sum(what, x.floats(), y.floats(), length, 1);
                const std::string name = std::string(names[static_cast<int>(what)]) + " of " +
                                         std::to_string(length) + " numbers";
                // length roundings of 1.1e-16, in another order
                report.expect(
                    std::fabs(sum - truth) <= 1.2e-16 * static_cast<double>(length) * size, name);
                if (isa == "scalar") first = sum;
                report.expect(sum == first, name + " is that of scalar");
                report.expect(sum == fastnst::sum(what, x.floats(), y.floats(), length, 3),
                              name + " by three threads");
            });
            // for whoever compares the bits of two machines
            std::printf("sum %s %lld %a\n", names[static_cast<int>(what)],
                        static_cast<long long>(length), first);
        }
    }
}

}  // namespace checks
