// Where a caller's arrays become values of a plan, and values arrays.
#pragma once

#include <cstdint>

#include "subbyte/engine.h"
#include "walk.h"

namespace subbyte {

// One value's way between its buffer and dense arrays [batch, *shape]; everything that a run needs is known before it.
class Port {
public:
    Port(const Layout& value, const Kernels& kernels);

    // Fill the buffer with a sample; false where a real is not finite or a stored integer is outside lo..hi.
    bool take(const Source& from, std::int64_t sample, std::uint8_t* buffer) const;
    // Where a sample's stored integers lie in the caller's array.
    std::uint8_t* place(const Target& to, std::int64_t sample) const {
        return static_cast<std::uint8_t*>(to.data) + sample * count_ * size_;
    }
    void give(const std::uint8_t* buffer, const Target& to, std::int64_t sample) const;

private:
    bool inside(const std::uint8_t* numbers) const;
    RealRow row(const std::uint8_t* numbers) const;

    const Kernels& kernels_;
    Walk<2> walk_;  // buffer, array
    RealRow rule_;
    std::int64_t count_;  // numbers of a sample
    std::int64_t size_;   // bytes of a number
    bool any_;            // lo..hi is all that the storage can hold
};

}  // namespace subbyte
