#include "ops/accumulation.h"

#include <algorithm>
#include <numeric>

namespace subbyte {
namespace {

using Numbers = std::vector<std::int32_t>;

// Smallest and largest sum that a lane can hold, in units of the largest activation.
struct Reach {
    std::int32_t low = 0;
    std::int32_t high = 0;

    void add(std::int32_t w) { (w < 0 ? low : high) += w; }
    Reach operator+(const Reach& other) const { return {low + other.low, high + other.high}; }
    bool fits(std::int64_t most) const { return low * most >= -32768 && high * most <= 32767; }
};

// By lane of a panel: two for the four products of every column, or two for either half of its weights.
using Lanes = std::vector<Reach>;

bool fit(const Lanes& lanes, std::int64_t most) {
    return std::all_of(lanes.begin(), lanes.end(), [&](const Reach& lane) { return lane.fits(most); });
}

Lanes together(const Lanes& a, const Lanes& b) {
    Lanes sum(a.size());
    std::transform(a.begin(), a.end(), b.begin(), sum.begin(), std::plus<Reach>());
    return sum;
}

// Some columns, four k at a time, as pack_panels lays them out.
class Panel {
public:
    Panel(const ColumnNumbers& all, std::int64_t first, std::int64_t last, std::int64_t most, bool halves)
        : most_(most) {
        for (std::int64_t t = 0; t < all.taps; ++t) {
            for (std::int64_t k = 0; k < all.run; k += 4) {
                Lanes lanes;
                for (std::int64_t c = first; c < last; ++c)
                    add_column(lanes, all.numbers + (c * all.taps + t) * all.run, k, all.run, halves);
                steps_.push_back(lanes);
            }
        }
    }

    // Whether every step fits alone.
    bool fits() const {
        return std::all_of(steps_.begin(), steps_.end(), [&](const Lanes& lanes) { return fit(lanes, most_); });
    }

    // Lengths, as long as possible from the first step on.
    Numbers windows() const {
        Numbers lengths;
        Lanes window;
        for (const Lanes& step : steps_) {
            const Lanes longer = window.empty() ? step : together(window, step);
            const bool goes_on = !window.empty() && fit(longer, most_);
            if (!goes_on) lengths.push_back(0);
            window = goes_on ? longer : step;
            ++lengths.back();
        }
        return lengths;
    }

    // Numbers of the steps: those that fit two by two, then the others. Returns how many pairs there are.
    std::int32_t pair(Numbers& order) const {
        constexpr std::size_t NEAR = 24;  // how far a partner is looked for
        Numbers single;
        std::vector<bool> taken(steps_.size());
        for (std::size_t a = 0; a < steps_.size(); ++a) {
            if (taken[a]) continue;
            std::size_t b = a + 1;
            while (b < std::min(steps_.size(), a + NEAR) && (taken[b] || !fit(together(steps_[a], steps_[b]), most_)))
                ++b;
            if (b < std::min(steps_.size(), a + NEAR)) {
                taken[b] = true;
                order.push_back(static_cast<std::int32_t>(a));
                order.push_back(static_cast<std::int32_t>(b));
            } else {
                single.push_back(static_cast<std::int32_t>(a));
            }
        }
        const auto pairs = static_cast<std::int32_t>(order.size() / 2);
        order.insert(order.end(), single.begin(), single.end());
        return pairs;
    }

    std::size_t count() const { return steps_.size(); }

private:
    static void add_column(Lanes& lanes, const std::int8_t* w, std::int64_t k, std::int64_t run, bool halves) {
        for (std::int64_t pair = k; pair < k + 4; pair += 2) {
            Reach whole, low, high;
            for (std::int64_t i = pair; i < std::min(pair + 2, run); ++i) {
                whole.add(w[i]);
                low.add(low_half(w[i]));
                high.add(high_half(w[i]));
            }
            lanes.push_back(halves ? low : whole);
            if (halves) lanes.push_back(high);
        }
    }

    std::int64_t most_;
    std::vector<Lanes> steps_;
};

// What a panel's sum costs in cycles of a vector of products, measured.
double windows_cost(std::size_t steps, std::size_t windows) {
    return 0.62 * static_cast<double>(steps) + 1.2 * static_cast<double>(windows);
}
double steps_cost(std::size_t steps, std::int32_t pairs) {
    return static_cast<double>(steps) - 0.5 * pairs;
}

// Chooses, and says the details.
PanelSum plan(const Panel& panel, bool may_arrange, Numbers& detail) {
    if (!panel.fits()) return {Accumulate::exact, 0, nullptr, 0};
    Numbers order;
    std::int32_t pairs = 0;
    if (may_arrange) {
        pairs = panel.pair(order);
    } else {
        order.resize(panel.count());
        std::iota(order.begin(), order.end(), 0);
    }
    detail = panel.windows();
    if (windows_cost(panel.count(), detail.size()) < steps_cost(panel.count(), pairs))
        return {Accumulate::windows, static_cast<std::int32_t>(detail.size()), nullptr, 0};
    detail = order;
    return {Accumulate::steps, pairs, nullptr, 0};
}

}  // namespace

Accumulation::Accumulation(const ColumnNumbers& numbers, std::int64_t most, const Kernels& kernels, bool may_arrange) {
    if (!kernels.sums_in_int16) return;
    const std::int64_t lanes = kernels.lanes;
    const std::int64_t vectors = (numbers.columns + lanes - 1) / lanes;
    std::vector<std::size_t> starts;
    for (std::int64_t v = 0; v < vectors;) {
        const int width = panel_vectors(static_cast<int>(vectors - v), kernels.most_vectors);
        const std::int64_t last = std::min(numbers.columns, (v + width) * lanes);
        const Panel panel(numbers, v * lanes, last, most, false);
        Numbers detail;
        PanelSum sum = plan(panel, may_arrange, detail);
        sum.bytes = 4 * lanes * width * static_cast<std::ptrdiff_t>(panel.count());
        if (sum.how == Accumulate::exact && may_arrange) {
            detail = Panel(numbers, v * lanes, last, most, true).windows();
            sum = {Accumulate::split, static_cast<std::int32_t>(detail.size()), nullptr, 2 * sum.bytes};
        }
        starts.push_back(details_.size());
        details_.insert(details_.end(), detail.begin(), detail.end());
        panels_.push_back(sum);
        v += width;
    }
    for (std::size_t p = 0; p < panels_.size(); ++p)
        panels_[p].detail = details_.data() + starts[p];
}

bool Accumulation::pairs_fit() const {
    return std::none_of(panels_.begin(), panels_.end(), [](const PanelSum& p) { return p.how == Accumulate::exact; });
}

std::vector<std::int32_t> windows(const ColumnNumbers& numbers, std::int64_t most) {
    const Panel panel(numbers, 0, numbers.columns, most, false);
    return panel.fits() ? panel.windows() : Numbers();
}

}  // namespace subbyte
