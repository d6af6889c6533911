// Where results stored as codes of a table are looked for: see CodeSearch.
#pragma once

#include <algorithm>
#include <vector>

#include "subbyte/plan.h"

namespace subbyte {

class Codes {
public:
    explicit Codes(const Layout& y) {
        if (!y.coded()) return;
        for (std::size_t i = 0; i + 1 < y.table.size(); ++i)
            thresholds_.push_back(y.table[i] + y.table[i + 1]);
        const auto reached = [&](std::int32_t number) {
            return static_cast<int>(std::upper_bound(thresholds_.begin(), thresholds_.end(), number) -
                                    thresholds_.begin());
        };
        first_.resize(2 * CODE_BUCKETS);
        for (int k = 0; k < CODE_BUCKETS; ++k) {
            const std::int32_t size = lowest(k);
            const std::int32_t beyond = lowest(k + 1);
            if (size == beyond) continue;  // small exponents have fewer integers than buckets
            const int up = reached(k == 0 ? 0 : size);
            const int down = reached(1 - beyond);
            first_[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(up);
            first_[static_cast<std::size_t>(k + CODE_BUCKETS)] = static_cast<std::uint8_t>(down);
            steps_ = std::max({steps_, reached(beyond - 1) - up, reached(-size) - down});
        }
        thresholds_.push_back(INT32_MAX);
    }

    bool any() const { return !thresholds_.empty(); }
    CodeSearch search() const { return {thresholds_.data(), first_.data(), steps_}; }

private:
    // The smallest integer of a bucket, or of one that comes later.
    static std::int32_t lowest(int bucket) {
        const std::int64_t units = std::int64_t{32 + bucket % 32} << (bucket / 32);  // of 1 / 32
        return static_cast<std::int32_t>((units + 31) / 32);
    }

    std::vector<std::int32_t> thresholds_;
    std::vector<std::uint8_t> first_;
    int steps_ = 0;
};

}  // namespace subbyte
