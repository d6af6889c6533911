// A copy between two boxes of one shape and any strides.
#pragma once

#include "walk.h"

namespace subbyte {

// Strides and first numbers count from element 0 of each value.
class BoxCopy {
public:
    BoxCopy(const Dims& shape, const Dims& in, std::int64_t in_first, const Dims& out, std::int64_t out_first,
            Storage storage);

    void run(const Kernels& kernels, const std::uint8_t* in, std::uint8_t* out, Part part) const;

private:
    template <class T>
    void copy(const T* in, T* out, Part part) const;

    Walk<2> walk_;
    std::int64_t in_first_;
    std::int64_t out_first_;
    bool wide_;
    // Planes of bytes that become pixels of as many bytes; 0: numbers are copied one after the other.
    std::int64_t planes_ = 0;
    std::int64_t plane_step_ = 0;
};

}  // namespace subbyte
