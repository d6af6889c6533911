// Trimmed codes with shared windows of 4 bits as bytes; src/subbyte/formats/shared_windows.py defines the form.
#pragma once

#include <cstdint>
#include <vector>

#include "subbyte/spec.h"

namespace subbyte {

struct SharedWindows {
    std::int64_t channels;  // of a row
    std::int64_t run;       // channels that share a window: 16 or 32
    Dims shifts;            // 2 to 8 of 0..4, ascending, the last one 4
    std::uint8_t zero;      // code of 0
};

// Raises PlanError where the description means nothing or rows are negative.
std::int64_t packed_bytes(const SharedWindows& form, std::int64_t rows);

// Whether every code fits its window; else the bytes are anything.
bool pack_shared(const SharedWindows& form, const std::uint8_t* codes, std::int64_t rows, std::uint8_t* bytes);

enum class Unpacked : std::uint8_t { good, wrong_place, beyond_codes };
Unpacked unpack_shared(const SharedWindows& form, const std::uint8_t* bytes, std::int64_t rows, std::uint8_t* codes);

}  // namespace subbyte
