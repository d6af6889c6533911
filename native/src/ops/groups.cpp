// Small groups of a convolution share a panel, so that there is not one dot product per group.

#include "ops/conv_window.h"

namespace subbyte {
namespace {

std::int64_t parts(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit;
}

// Vector instructions per pixel for all groups, `merged` of them in a panel.
double cost(const Weights& w, std::int64_t groups, std::int64_t merged, int lanes) {
    constexpr std::int64_t EPILOGUE = 8;
    const std::int64_t steps = w.shape[1] * w.shape[2] * parts(w.shape[3] * merged, 4);
    const std::int64_t vectors = parts(w.columns() / groups * merged, lanes);
    return static_cast<double>(vectors * (steps + EPILOGUE)) * static_cast<double>(groups / merged);
}

}  // namespace

std::int64_t merge_groups(Attributes& attributes, Weights& weights, std::int64_t groups, const Kernels& kernels) {
    const int lanes = kernels.lanes;
    const std::int64_t panel = std::int64_t{lanes} * kernels.most_vectors;
    std::int64_t best = 1;
    Dims ways = {1};
    for (std::int64_t merged = 2; merged <= groups; ++merged) {
        if (groups % merged != 0) continue;
        const bool better = cost(weights, groups, merged, lanes) < cost(weights, groups, best, lanes);
        if (better) best = merged;
        if (better || weights.columns() / groups * merged <= panel) ways.push_back(merged);
    }
    best = attributes.choose("merged", ways, best);
    if (best == 1) return groups;
    const std::int64_t per_group = weights.columns() / groups;
    const std::int64_t channels = weights.shape[3];
    const std::int64_t taps = weights.shape[1] * weights.shape[2];
    Weights wide;
    wide.shape = weights.shape;
    wide.levels = weights.levels;
    wide.shape[3] *= best;
    wide.numbers.assign(weights.numbers.size() * static_cast<std::size_t>(best), 0);
    for (std::int64_t column = 0; column < weights.columns(); ++column) {
        const std::int64_t place = column / per_group % best;  // of the column's group among those of its panel
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t c = 0; c < channels; ++c) {
                wide.numbers[static_cast<std::size_t>(((column * taps + t) * best + place) * channels + c)] =
                    weights.numbers[static_cast<std::size_t>((column * taps + t) * channels + c)];
            }
        }
    }
    weights = wide;
    return groups / best;
}

}  // namespace subbyte
