#include "ops/accumulation.h"

#include <algorithm>

namespace subbyte {
namespace {

constexpr std::int64_t INT16_LO = -32768;
constexpr std::int64_t INT16_HI = 32767;

// Smallest and largest sum of some products.
struct Reach {
    std::int64_t low = 0;
    std::int64_t high = 0;

    void add(std::int64_t w, const Seen& x) {
        low += std::min(w * x.low, w * x.high);
        high += std::max(w * x.low, w * x.high);
    }
    void add(const Reach& other) {
        low += other.low;
        high += other.high;
    }
    bool fits() const { return low >= INT16_LO && high <= INT16_HI; }
    // How many numbers between them (low <= 0 <= high) fit least..most together, at least.
    std::int64_t fitting(std::int64_t least, std::int64_t most) const {
        return std::min(low < 0 ? least / low : most, high > 0 ? most / high : most);
    }
};

// Of single products.
Reach reach_of_products(const std::int8_t* first, const std::int8_t* last, const Seen& x) {
    const auto [least, most] = std::minmax_element(first, last);
    Reach a, b;
    a.add(std::min<std::int64_t>(*least, 0), x);  // panels are padded with 0
    b.add(std::max<std::int64_t>(*most, 0), x);
    return {std::min(a.low, b.low), std::max(a.high, b.high)};
}

// The numbers of some columns, four k at a time, as pack_panels lays them out.
struct Panel {
    const std::int8_t* numbers;
    std::int64_t first, last;  // columns
    std::int64_t taps, run;

    Reach products(const Seen& x) const {
        return reach_of_products(numbers + first * taps * run, numbers + last * taps * run, x);
    }

    // Appends the lengths of the windows of lanes that take `per_lane` products of a step; false where one step alone
    // does not fit.
    bool cut(const Seen& x, std::int64_t per_lane, std::vector<std::int32_t>& lengths) const {
        std::vector<Reach> window(static_cast<std::size_t>(4 / per_lane * (last - first)));
        std::vector<Reach> step(window.size());
        std::int32_t length = 0;
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t k = 0; k < run; k += 4) {
                fill(t, k, x, per_lane, step);
                bool alone = true;
                bool together = true;
                for (std::size_t i = 0; i < step.size(); ++i) {
                    alone = alone && step[i].fits();
                    window[i].add(step[i]);
                    together = together && window[i].fits();
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
    void fill(std::int64_t tap, std::int64_t k, const Seen& x, std::int64_t per_lane, std::vector<Reach>& step) const {
        auto lane = step.begin();
        for (std::int64_t c = first; c < last; ++c) {
            const std::int8_t* w = numbers + (c * taps + tap) * run;
            for (std::int64_t start = k; start < k + 4; start += per_lane, ++lane) {
                *lane = Reach{};
                for (std::int64_t i = start; i < std::min(start + per_lane, run); ++i)
                    lane->add(w[i], x);
            }
        }
    }
};

// For vpmaddubsw. Two windows for three steps: the two stages cost as much as one flush per step.
PanelSum sum_pairs(const Panel& panel, const Seen& seen, std::vector<std::int32_t>& lengths) {
    const std::size_t start = lengths.size();
    PanelSum sum{Accumulate::exact, nullptr, 0, 0};
    if (!panel.cut(seen, 2, lengths)) {
        lengths.resize(start);
        return sum;
    }
    const std::int64_t steps = panel.taps * ((panel.run + 3) / 4);
    sum.count = static_cast<std::int32_t>(lengths.size() - start);
    sum.how = sum.count == 1              ? Accumulate::once
              : 3 * sum.count > 2 * steps ? Accumulate::steps
                                          : Accumulate::windows;
    return sum;
}

// For NEON, where a window of fewer steps costs more at its end than sums in int16 save.
PanelSum sum_signed(const Panel& panel, const Seen& seen, std::vector<std::int32_t>& lengths) {
    constexpr std::int64_t PAYS = 8;
    const std::size_t start = lengths.size();
    const Reach product = panel.products(seen);
    PanelSum sum{};
    sum.in_int8 = static_cast<std::int32_t>(std::min<std::int64_t>(product.fitting(-128, 127), 2));
    panel.cut(seen, sum.in_int8 > 0 ? 2 : 1, lengths);
    sum.count = static_cast<std::int32_t>(lengths.size() - start);
    const std::int64_t steps = panel.taps * ((panel.run + 3) / 4);
    sum.how = sum.count == 1                                 ? Accumulate::once
              : PAYS * sum.count <= steps                    ? Accumulate::windows
              : product.fitting(INT16_LO, INT16_HI) >= 2 ? Accumulate::steps
                                                             : Accumulate::exact;
    return sum;
}

}  // namespace

Seen seen_by(const Kernels& kernels, const Layout& in) {
    const std::int32_t most = std::max(in.hi, in.zero_point);  // padding is the zero point
    if (!kernels.centred) return {0, 0, most};
    // An even number of levels lies askew: -7..8 rather than -8..7, so that two products with weights of -8..7 fit
    // int8 (-128..112). All 256 levels fit a signed byte in one way only.
    const std::int32_t center = most == 255 ? 128 : most / 2;
    return {center, -center, most - center};
}

Accumulate sum_columns(const std::int8_t* numbers, std::int64_t columns, std::int64_t depth, const Seen& seen) {
    bool all_fit = true;
    for (std::int64_t c = 0; c < columns; ++c) {
        Reach sum;
        for (std::int64_t k = 0; k < depth; ++k)
            sum.add(numbers[c * depth + k], seen);
        all_fit = all_fit && sum.fits();
    }
    if (all_fit) return Accumulate::once;
    const Reach product = reach_of_products(numbers, numbers + columns * depth, seen);
    return product.fitting(INT16_LO, INT16_HI) >= 2 ? Accumulate::steps : Accumulate::exact;
}

Accumulation::Accumulation(const std::int8_t* numbers, std::int64_t count, std::int64_t taps, std::int64_t run,
                           const Seen& seen, const Kernels& kernels) {
    if (!kernels.sums_in_int16) return;
    const std::int64_t lanes = kernels.lanes;
    const std::int64_t vectors = (count + lanes - 1) / lanes;
    std::vector<std::size_t> starts;
    for (std::int64_t v = 0; v < vectors;) {
        const int width = panel_vectors(static_cast<int>(vectors - v), kernels.most_vectors);
        const Panel panel{numbers, v * lanes, std::min(count, (v + width) * lanes), taps, run};
        starts.push_back(lengths_.size());
        panels_.push_back(kernels.centred ? sum_signed(panel, seen, lengths_) : sum_pairs(panel, seen, lengths_));
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
