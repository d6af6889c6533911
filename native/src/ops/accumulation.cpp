#include "ops/accumulation.h"

#include <algorithm>

namespace subbyte {
namespace {

constexpr std::int64_t INT16_LO = -32768;
constexpr std::int64_t INT16_HI = 32767;

// Smallest and largest sum that a lane can hold since the window began, in units of the largest activation.
struct Reach {
    std::int64_t low = 0;
    std::int64_t high = 0;

    void add(std::int64_t w) { (w < 0 ? low : high) += w; }
    bool fits(std::int64_t most) const { return low * most >= INT16_LO && high * most <= INT16_HI; }
};

// The numbers of some columns, four k at a time, as pack_panels lays them out.
struct Panel {
    const std::int8_t* numbers;
    std::int64_t first, last;  // columns
    std::int64_t taps, run;

    // Appends the lengths of the windows; false where one step alone does not fit.
    bool cut(std::int64_t most, std::vector<std::int32_t>& lengths) const {
        std::vector<Reach> window(static_cast<std::size_t>(2 * (last - first)));
        std::vector<Reach> step(window.size());
        std::int32_t length = 0;
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t k = 0; k < run; k += 4) {
                fill(t, k, step);
                bool alone = true;
                bool together = true;
                for (std::size_t i = 0; i < step.size(); ++i) {
                    alone = alone && step[i].fits(most);
                    window[i].low += step[i].low;
                    window[i].high += step[i].high;
                    together = together && window[i].fits(most);
                }
                if (!alone) return false;
                if (!together) {
                    lengths.push_back(length);
                    length = 0;
                    window = step;
                }
                ++length;
            }
        }
        lengths.push_back(length);
        return true;
    }

private:
    void fill(std::int64_t tap, std::int64_t k, std::vector<Reach>& step) const {
        for (std::int64_t c = first; c < last; ++c) {
            const std::int8_t* w = numbers + (c * taps + tap) * run;
            for (std::int64_t pair = 0; pair < 2; ++pair) {
                Reach reach;
                for (std::int64_t i = k + 2 * pair; i < std::min(k + 2 * pair + 2, run); ++i)
                    reach.add(w[i]);
                step[static_cast<std::size_t>(2 * (c - first) + pair)] = reach;
            }
        }
    }
};

}  // namespace

Accumulation::Accumulation(const std::int8_t* numbers, std::int64_t count, std::int64_t taps, std::int64_t run,
                           std::int64_t most, const Kernels& kernels) {
    if (!kernels.sums_in_int16) return;
    const std::int64_t lanes = kernels.lanes;
    const std::int64_t vectors = (count + lanes - 1) / lanes;
    const std::int64_t steps = taps * ((run + 3) / 4);
    std::vector<std::size_t> starts;
    for (std::int64_t v = 0; v < vectors;) {
        const int width = panel_vectors(static_cast<int>(vectors - v), kernels.most_vectors);
        const Panel panel{numbers, v * lanes, std::min(count, (v + width) * lanes), taps, run};
        const std::size_t start = lengths_.size();
        PanelSum sum{Accumulate::exact, nullptr, 0};
        if (panel.cut(most, lengths_)) {
            sum.count = static_cast<std::int32_t>(lengths_.size() - start);
            // Two windows for three steps: the two stages cost as much as one flush per step.
            sum.how = sum.count == 1               ? Accumulate::once
                      : 3 * sum.count > 2 * steps ? Accumulate::steps
                                                  : Accumulate::windows;
        } else {
            lengths_.resize(start);
        }
        starts.push_back(start);
        panels_.push_back(sum);
        v += width;
    }
    lengths_.push_back(0);  // kernels look one window ahead
    for (std::size_t p = 0; p < panels_.size(); ++p)
        panels_[p].lengths = lengths_.data() + starts[p];
}

bool Accumulation::pairs_fit() const {
    return std::none_of(panels_.begin(), panels_.end(), [](const PanelSum& p) { return p.how == Accumulate::exact; });
}

std::vector<std::int32_t> Accumulation::windows(std::size_t panel) const {
    const PanelSum& sum = panels_[panel];
    return {sum.lengths, sum.lengths + sum.count};
}

}  // namespace subbyte
