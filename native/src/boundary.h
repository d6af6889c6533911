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

    // Where a sample's stored integers lie in the caller's array; nothing is written to a source's.
    std::uint8_t* place(const Target& array, std::int64_t sample) const {
        return static_cast<std::uint8_t*>(array.data) + sample * count_ * size_;
    }
    std::uint8_t* place(const Source& array, std::int64_t sample) const {
        return place(Target{const_cast<void*>(array.data), array.form}, sample);
    }
    // Fill the buffer, which may be the array itself, with a sample; false where a real is not finite or a stored
    // integer is outside lo..hi.
    bool take(const Source& from, std::int64_t sample, std::uint8_t* buffer) const;
    // Nothing is done where the buffer is the array itself.
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
