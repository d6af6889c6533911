// Kernel families beside byte products: sums looked up in tables, and products of bit planes counted.
//
// Both read activations in a form of their own, which is made for a block of pixels at a time: what belongs to one step
// lies side by side for all pixels, `pitch` bytes from step to step. A job's grid then walks that block. Weights lie in
// panels as in subbyte/kernels.h; results leave through the same epilogues.
#pragma once

#include "subbyte/kernels.h"

namespace subbyte {

// The windows of a block of pixels, gathered into rows of bytes.
struct WindowJob {
    const std::uint8_t* in;  // first byte of pixel 0's window
    Grid grid;
    std::int64_t first;
    std::int64_t last;
    const std::int32_t* taps;
    std::int32_t tap_count;
    std::int32_t run;    // bytes per tap
    std::int32_t depth;  // bytes of a row, zeros behind the window included: a multiple of ROW_UNIT
    std::uint8_t* rows;  // pixel first's; ROW_UNIT bytes behind the last row are overwritten too
};

constexpr std::int64_t ROW_UNIT = 64;

// Tables of 16 bytes: what `group` neighbouring activations add to a result, by the code of their weights.
constexpr std::ptrdiff_t TABLE_BYTES = 16;
constexpr int MOST_GROUP = 4;

// How two tables are made in 32 bytes: their entries are sums of one or two products of neighbours, each of which takes
// the activations at `places` behind the first one times `numbers`, first for entries 0..7 and then for 8..15.
struct TablePlan {
    std::int8_t places[2][32];
    std::int8_t numbers[2][2][32];
};

struct TableJob {
    const std::uint8_t* rows;
    std::ptrdiff_t row_step;
    std::int64_t pixels;
    std::int32_t group;               // 1, 2 or 4
    std::int32_t tables;              // per pixel, a multiple of 8
    const TablePlan* plan;
    std::uint8_t* out;
    std::ptrdiff_t pitch;
};

// A part of the depth of a block, whose sums fit int16. Weights: [panel][table][lane][vector], a byte each.
struct LookupJob : DotJob {
    std::ptrdiff_t pitch;
    std::int32_t skip;    // tables before this part
    std::int32_t tables;  // and in it
    std::int32_t run;     // entries whose sum, begun at `start`, stays in 0..255
    std::uint8_t start;
    bool begins;         // this is the first part,
    bool ends;           // the last one; in between sums stay in memory:
    std::int32_t* sums;  // [pixel][panel][vector][lane]
    std::ptrdiff_t sum_step;
};

// Planes of bits: bit k % 32 of word k / 32 of plane j is bit j of activation k.
constexpr std::ptrdiff_t WORD_BYTES = 4;
constexpr int WORD_BITS = 32;

// rows: room for one.
struct PlaneJob : WindowJob {
    std::uint8_t* out;
    std::ptrdiff_t pitch;
    std::int32_t planes;
    std::int32_t words;  // of a plane
};

// Which sum over planes i of weights and j of activations makes the product, besides the bias:
enum class Planes : std::uint8_t {
    positive,  // 2^(i + j) * count(w & a)
    negative,  // the same, but the highest plane of weights counts negatively: two's complement
    levels,    // -2^(i + j) * count(w ^ a), where weights are sums of +-2^i: the rest is a constant of the column
};

// Weights: [panel][plane][word][vector][lane] words.
struct BitJob : DotJob {
    std::ptrdiff_t pitch;
    std::int32_t words;
    std::int32_t in_planes;
    std::int32_t weight_planes;
    Planes form;
};

struct FamilyKernels {
    int lanes;  // as of Kernels; where those interleave columns, these do too
    void (*windows)(const WindowJob&);
    void (*tables)(const TableJob&);
    void (*lookup)(const LookupJob&);
    int lookup_vectors;  // in the widest panel
    void (*planes)(const PlaneJob&);
    void (*bits)(const BitJob&);
    int bit_vectors;
};

namespace portable {
extern const FamilyKernels FAMILIES;
}
namespace avx2 {
extern const FamilyKernels FAMILIES;
}
namespace avx512bw {
extern const FamilyKernels FAMILIES;
void tables(const TableJob& job);
void lookup(const LookupJob& job);
}
namespace avx512_vnni {
extern const FamilyKernels FAMILIES;
}
namespace avx512_vbmi {
extern const FamilyKernels FAMILIES;
}

}  // namespace subbyte
