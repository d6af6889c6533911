// A pooling window sliding along one axis; sizes follow ONNX (opset 19) and torch.nn, as graph/ops/geometry.py does.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attributes.h"

namespace subbyte {

struct Axis {
    std::int64_t size, kernel, stride, dilation, before, after;
    bool ceil_mode;

    std::int64_t extent() const { return (kernel - 1) * dilation + 1; }

    // Number of windows; below 1 where none fits. With ceil_mode a last, partial window counts unless it would start
    // behind the input and its leading padding.
    std::int64_t out() const {
        const std::int64_t free = size + before + after - extent();
        if (free < 0 && (!ceil_mode || -free >= stride)) return 0;
        if (!ceil_mode) return free / stride + 1;
        const std::int64_t windows = (free < 0 ? 0 : (free + stride - 1) / stride) + 1;
        return (windows - 1) * stride >= size + before ? windows - 1 : windows;
    }

    // Taps first..last-1 of a window meet the input.
    std::int64_t start(std::int64_t window) const { return window * stride - before; }
    std::int64_t first(std::int64_t window) const {
        return start(window) >= 0 ? 0 : (-start(window) + dilation - 1) / dilation;
    }
    std::int64_t last(std::int64_t window) const {
        const std::int64_t room = size - 1 - start(window);
        return room < 0 ? 0 : std::min(kernel, room / dilation + 1);
    }
    std::int64_t inside(std::int64_t window) const { return std::max<std::int64_t>(0, last(window) - first(window)); }
    // Cells of the input or its padding in an undilated window.
    std::int64_t padded(std::int64_t window) const {
        return std::min(start(window) + kernel, size + after) - start(window);
    }
};

}  // namespace subbyte
