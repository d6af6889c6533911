#include "ops/codebook.h"

#include <algorithm>

namespace subbyte {

Codebook::Codebook(const std::int8_t* numbers, std::int64_t count, bool padded) {
    bool seen[256] = {};
    seen[128] = padded;
    for (std::int64_t i = 0; i < count; ++i)
        seen[numbers[i] + 128] = true;
    int levels = 0;
    for (int n = 0; n < 256; ++n) {
        if (!seen[n]) continue;
        if (levels == MOST_LEVELS) return;  // with the bits of plain numbers
        codes_[static_cast<std::uint8_t>(n - 128)] = static_cast<std::uint8_t>(levels);
        table_[levels++] = static_cast<std::int8_t>(n - 128);
    }
    bits_ = 1;
    while (1 << bits_ < levels)
        ++bits_;
    step_ = levels > 1 ? table_[1] - table_[0] : 1;
    for (int i = 1; i < levels; ++i) {
        if (table_[i] - table_[i - 1] != step_) step_ = 0;
    }
}

std::vector<std::uint8_t> Codebook::codes(const std::vector<std::int8_t>& numbers) const {
    std::vector<std::uint8_t> result(numbers.size());
    std::transform(numbers.begin(), numbers.end(), result.begin(),
                   [&](std::int8_t n) { return codes_[static_cast<std::uint8_t>(n)]; });
    return result;
}

void pack_block(const std::uint8_t* codes, std::int64_t vectors, std::int64_t bytes, const BlockShape& shape,
                std::uint8_t* block) {
    const int fields = 8 / shape.low_bits;
    const int mask = (1 << shape.low_bits) - 1;
    for (int j = 0; j < vectors; ++j) {
        std::uint8_t* low = block + j / fields * bytes;
        std::uint8_t* plane = block + shape.low_vectors() * bytes;
        for (std::int64_t i = 0; i < bytes; ++i) {
            const int code = codes[j * bytes + i];
            low[i] = static_cast<std::uint8_t>(low[i] | (code & mask) << (shape.low_bits * (j % fields)));
            if (shape.plane) plane[i] = static_cast<std::uint8_t>(plane[i] | (code >> shape.low_bits) << j);
        }
    }
}

}  // namespace subbyte
