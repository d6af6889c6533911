#include "ops/box_copy.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

namespace subbyte {
namespace {

// Axes in the order in which a copy walks them: as they are, unless rows would be short and those of the input are
// not; then the axes behind the input's rows go to the front.
std::vector<std::size_t> walk_order(const Dims& shape, const Dims& in) {
    constexpr std::int64_t SHORT = 16;
    std::vector<std::size_t> order(shape.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (shape.empty() || shape.back() >= SHORT) return order;
    for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) {
        if (in[axis] == 1 && shape[axis] >= SHORT) {
            std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(axis) + 1, order.end());
            break;
        }
    }
    return order;
}

Dims picked(const Dims& dims, const std::vector<std::size_t>& order) {
    Dims result;
    for (const std::size_t axis : order)
        result.push_back(dims[axis]);
    return result;
}

Dims without_last(Dims dims) {
    dims.pop_back();
    return dims;
}

}  // namespace

BoxCopy::BoxCopy(const Dims& shape, const Dims& in, std::int64_t in_first, const Dims& out, std::int64_t out_first,
                 Storage storage)
    : in_first_(in_first), out_first_(out_first), wide_(storage == Storage::i16) {
    if (!wide_ && shape.size() > 1 && shape.back() > 1 && shape.back() <= MOST_PLANES && out.back() == 1) {
        walk_ = Walk<2>(without_last(shape), {without_last(in), without_last(out)}, false);
        if (walk_.step(0) == 1 && walk_.step(1) == shape.back()) {
            planes_ = shape.back();
            plane_step_ = in.back();
            return;
        }
    }
    const std::vector<std::size_t> order = walk_order(shape, in);
    walk_ = Walk<2>(picked(shape, order), {picked(in, order), picked(out, order)}, false);
}

void BoxCopy::run(const Kernels& kernels, const std::uint8_t* in, std::uint8_t* out, Part part) const {
    if (planes_ > 0) {
        walk_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            kernels.join_planes(in + in_first_ + at[0], plane_step_, planes_, out + out_first_ + at[1], count);
        });
    } else if (wide_) {
        copy(reinterpret_cast<const std::int16_t*>(in), reinterpret_cast<std::int16_t*>(out), part);
    } else {
        copy(in, out, part);
    }
}

template <class T>
void BoxCopy::copy(const T* in, T* out, Part part) const {
    const std::int64_t from = walk_.step(0);
    const std::int64_t to = walk_.step(1);
    walk_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
        const T* x = in + in_first_ + at[0];
        T* y = out + out_first_ + at[1];
        if (from == 1 && to == 1) {
            std::memcpy(y, x, static_cast<std::size_t>(count) * sizeof(T));
        } else if (from == 0 && to == 1) {
            std::fill_n(y, count, *x);
        } else {
            for (std::int64_t i = 0; i < count; ++i)
                y[i * to] = x[i * from];
        }
    });
}

}  // namespace subbyte
