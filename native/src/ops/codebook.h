// The different numbers of some weights, and codes of few bits in their place.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/packed.h"

namespace subbyte {

// Different numbers, ascending; a code is an index. With more numbers than codes can tell apart, or none: PLAIN_BITS.
class Codebook {
public:
    Codebook() = default;
    // padded: runs are filled up to whole steps with the number 0, which then needs a code.
    Codebook(const std::int8_t* numbers, std::int64_t count, bool padded);

    int bits() const { return bits_; }
    const std::int8_t* table() const { return table_; }
    // Between every two neighbouring numbers; 0 where it differs.
    std::int32_t step() const { return step_; }
    // 0 for numbers that are not in the table: columns of padding, whose results nobody reads.
    std::vector<std::uint8_t> codes(const std::vector<std::int8_t>& numbers) const;

private:
    int bits_ = PLAIN_BITS;
    std::int32_t step_ = 0;
    std::int8_t table_[MOST_LEVELS] = {};
    std::uint8_t codes_[256] = {};
};

// One block, zeros before, from up to shape.vectors() vectors of `bytes` codes; see kernels/packed.h.
void pack_block(const std::uint8_t* codes, std::int64_t vectors, std::int64_t bytes, const BlockShape& shape,
                std::uint8_t* block);

}  // namespace subbyte
