// The window of a convolution and what its makers share.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ops.h"
#include "ops/weights.h"

namespace subbyte {

struct ConvWindow {
    std::int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top, left, bottom, right;

    std::int64_t extent_h() const { return (kernel_h - 1) * dilation_h + 1; }
    std::int64_t extent_w() const { return (kernel_w - 1) * dilation_w + 1; }

    // The value gets a border wide enough for this window's padding.
    void request(Layout& x) const {
        x.top = std::max(x.top, top);
        x.left = std::max(x.left, left);
        x.bottom = std::max(x.bottom, bottom);
        x.right = std::max(x.right, right);
    }
    // Bytes from element 0 of the value to the first window.
    std::int64_t first(const Layout& x) const { return -top * x.strides[0] - left * x.shape[2]; }
};

// Widens the weights by zeros so that several groups become one wherever that is less work, or as chosen; returns how
// many are left.
std::int64_t merge_groups(Attributes& attributes, Weights& weights, std::int64_t groups, const Kernels& kernels);

// A convolution with one input channel per result channel, of the groups that make_conv has checked.
OpPtr make_depthwise(const Build& build, Attributes& attributes, const ConvWindow& window, const Weights& weights);

}  // namespace subbyte
