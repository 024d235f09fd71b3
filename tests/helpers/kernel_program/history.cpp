// The curvature pairs of L-BFGS in eight bits.

#include <algorithm>

#include "check.h"

namespace checks {

void check_history(Report& report) {
    constexpr int64_t kRows = 7, kChunk = 4096, kBlock = 64;
    for (const int64_t length : {int64_t{1}, int64_t{63}, kChunk + 130}) {
        const int64_t chunks = (length + kChunk - 1) / kChunk;
        Random random(static_cast<std::uint64_t>(length) + 17);
        for_each_isa([&](const std::string&) {
            const std::string name = "history of " + std::to_string(length);
            std::vector<std::int8_t> values(static_cast<std::size_t>(chunks * kRows * kChunk));
            Numbers scales(DType::float32, chunks * kRows * (kChunk / kBlock));
            const fastnst::History history{kRows, length, values.data(), scales.floats()};
            std::vector<std::vector<double>> rows;
            bool near = true;
            for (int64_t row = 0; row < kRows; ++row) {
                Numbers x(DType::float32, length);
                random.fill(x, row == 3 ? 1e-3 : 2);
                fastnst::history_store(history, row, x.floats(), 1);
                rows.emplace_back();
                for (int64_t n = 0; n < length; ++n) {
                    const int64_t chunk = n / kChunk, at = n % kChunk;
                    const double value =
                        values[static_cast<std::size_t>((chunk * kRows + row) * kChunk + at)];
                    const double scale = static_cast<double>(
                        scales[(chunk * kRows + row) * (kChunk / kBlock) + at / kBlock]);
                    rows.back().push_back(value * scale);
                    // to nearest: half a step, and three roundings of the scale and its inverse
                    const double error = std::fabs(rows.back().back() - static_cast<double>(x[n]));
                    near = near && error <= scale * (0.5 + 127 * 3 * kRounding);
                }
            }
            report.expect(near, name + ": rounded to nearest");

            Numbers x(DType::float32, length);
            random.fill(x);
            const int64_t used = kRows - 1;  // not a multiple of the rows that are taken together
            std::vector<double> products(static_cast<std::size_t>(used)), again = products;
            fastnst::history_products(history, used, x.floats(), products.data(), 1);
            fastnst::history_products(history, used, x.floats(), again.data(), 3);
            report.expect(products == again, name + ": products by three threads");
            for (std::size_t row = 0; row < products.size(); ++row) {
                double truth = 0, size = 0;
                for (int64_t n = 0; n < length; ++n) {
                    const double term =
                        rows[row][static_cast<std::size_t>(n)] * static_cast<double>(x[n]);
                    truth += term;
                    size += std::fabs(term);
                }
                // 4 sums in the block's 64 products, then 64 blocks: less than 90 roundings
                report.expect(std::fabs(products[row] - truth) <= 90 * kRounding * size,
                              name + ": product " + std::to_string(row));
            }

            Numbers weights(DType::float32, used), out(DType::float32, length),
                by_three(DType::float32, length);
            random.fill(weights);
            random.fill(out);
            by_three.set(out);
            std::vector<double> truth, bound;
            for (int64_t n = 0; n < length; ++n) {
                truth.push_back(static_cast<double>(out[n]));
                bound.push_back(std::fabs(truth.back()));
                for (int64_t row = 0; row < used; ++row) {
                    const double term =
                        static_cast<double>(weights[row]) *
                        rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(n)];
                    truth.back() += term;
                    bound.back() += std::fabs(term);
                }
            }
            fastnst::history_combination(history, used, weights.floats(), out.floats(), 1);
            fastnst::history_combination(history, used, weights.floats(), by_three.floats(), 3);
            report.expect(out.same_bits(by_three), name + ": combination by three threads");
            bool close = true;
            for (int64_t n = 0; n < length; ++n) {
                const std::size_t i = static_cast<std::size_t>(n);
                // each of the six rows rounds its factor and the sum, and the last sum is rounded
                close = close && std::fabs(static_cast<double>(out[n]) - truth[i]) <=
                                     (2 * used + 1) * kRounding * bound[i];
            }
            report.expect(close, name + ": combination");
        });
    }
}

}  // namespace checks
