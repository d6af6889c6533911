// Kernels that read weights packed to fewer bits, one table per instruction set; packed.inc is all of them.
//
// Packing works on whole vectors of the panels (see subbyte/kernels.h), so it knows nothing of columns and steps:
//   block = `vectors` consecutive vectors as codes, byte by byte
//   codes of 1, 2 or 4 bits   field j of a byte is the code of vector j; 8, 4 or 2 vectors in one
//   codes of 3 or 5 bits      8 vectors: their low 2 or 4 bits as above in 2 or 4 vectors, then one vector whose bit j
//                             is the highest bit of vector j
// A code is the index of the number in a table, so every set of at most 32 numbers has a packing, evenly spaced or not.
// Panels begin with a block; what fills up the last block of a panel meets no activation but zeros, and is not stored.
#pragma once

#include <cstdint>

#include "subbyte/kernels.h"

namespace subbyte {

constexpr int MOST_LEVELS = 32;
constexpr std::int64_t MOST_THIN_PIXELS = 64;
constexpr int PLAIN_BITS = 8;  // not codes: the numbers themselves

// How a block of codes of some bits lies in memory.
struct BlockShape {
    int low_bits;  // in fields
    bool plane;    // one more bit in a vector of its own

    constexpr explicit BlockShape(int bits)
        : low_bits(bits == 3 || bits == 5 ? bits - 1 : bits), plane(bits != low_bits) {}
    constexpr int vectors() const { return plane ? 8 : 8 / low_bits; }
    constexpr int low_vectors() const { return vectors() * low_bits / 8; }
    constexpr int packed_vectors() const { return low_vectors() + (plane ? 1 : 0); }
};

// Numbers of `vectors` vectors, a whole panel or several; out has room for whole blocks.
struct UnpackJob {
    const std::uint8_t* blocks;
    const std::int8_t* table;  // MOST_LEVELS entries
    int bits;
    std::int64_t vectors;
    std::int8_t* out;
};

// Sums of up to MOST_THIN_PIXELS pixels with the columns of panels of most_vectors vectors, decoded in registers:
// sums += x * w.
struct ThinJob {
    const std::uint8_t* blocks;
    const std::int8_t* table;
    int bits;
    std::int32_t step;      // between one entry of the table and the next where that is always the same, else 0
    bool pairs_fit;  // every sum of two neighbouring products fits int16
    const std::uint8_t* x;  // [pixels][pitch], zeros behind the depth
    std::ptrdiff_t pitch;   // a multiple of 32
    std::int64_t pixels;
    std::int32_t steps;
    std::int32_t panels;
    std::int32_t* sums;  // [pixels][sum_pitch]
    std::ptrdiff_t sum_pitch;
};

struct PackedKernels {
    int vectors;  // of the panels that thin takes
    void (*unpack)(const UnpackJob&);
    void (*thin)(const ThinJob&);  // nullptr where unpacking first is as good
};

namespace portable {
extern const PackedKernels PACKED;
}
namespace avx2 {
extern const PackedKernels PACKED;
}
namespace avx512bw {
extern const PackedKernels PACKED;
}
namespace avx512_vnni {
extern const PackedKernels PACKED;
}
namespace neon {
extern const PackedKernels PACKED;
}

}  // namespace subbyte
