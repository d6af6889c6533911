// The seam between the engine and the kernels of one instruction set: plain structs and a table of functions.
//
// Kernel files are compiled with flags that not every CPU understands. So nothing here may become code shared by the
// linker: no standard containers, no templates, no inline functions other than static ones.
//
// Weight panels, one layout for convolution, linear layers and (columns = channels) depthwise convolution:
//   [panel][step][vector][lane][4]  int8
// A panel is 1, 2 or 4 vectors of `lanes` output columns (panel_vectors); a step is 4 consecutive k, padded with 0.
// Activations are read 4 bytes at a time, so a run whose length is no multiple of 4 reads up to 3 bytes behind it,
// which meet zero weights; depthwise kernels read up to `lanes` bytes. Buffers have READ_SLACK bytes for that.
#pragma once

#include <cstddef>
#include <cstdint>

namespace subbyte {

constexpr std::ptrdiff_t READ_SLACK = 64;

// Vectors in the next panel when `left` vectors of columns remain.
static inline int panel_vectors(int left, int most) {
    int vectors = most;
    while (vectors > left)
        vectors /= 2;
    return vectors;
}

// From int32 accumulators to stored integers; arrays are padded to whole vectors.
// Accumulators start at bias, where the input's zero point is folded in, and wrap: their final sum is proved to fit.
struct Epilogue {
    const std::int32_t* bias;
    const std::int32_t* m;
    const std::int32_t* n;
    const std::int32_t* m_neg;  // for acc < 0; the same arrays as m and n where there is no leaky slope
    const std::int32_t* n_neg;
    bool leaky;
    bool high;  // every shift is >= 33, so the high half of acc * m decides and 32-bit adds do
    bool wide;  // result is int16, else uint8
    std::int32_t zero_point;
    std::int32_t lo;
    std::int32_t hi;
};

// A rectangle of pixels in row-major order; steps in bytes.
struct Grid {
    std::int64_t width;
    std::ptrdiff_t in_step;  // between the first bytes read for neighbouring result pixels of a row
    std::ptrdiff_t in_row;
    std::ptrdiff_t out_step;
    std::ptrdiff_t out_row;
};

// What is proved of the products w * (x - center) of a layer, for kernels that multiply signed bytes (Kernels::centred):
// the smallest and largest product are known, so it is known how many of them, at least, fit a type together.
struct Products {
    std::int32_t center = 0;    // x - center is a signed byte; the bias holds center * sum(W)
    std::int32_t in_int8 = 0;   // 0: not even one
    std::int32_t in_int16 = 0;
};

// Dot products of `tap_count` runs of 4 * steps bytes with every column, for result pixels first..last-1 of the grid.
struct DotJob {
    const std::uint8_t* in;  // first byte of pixel 0's window
    std::uint8_t* out;       // first column of pixel 0
    Grid grid;
    std::int64_t first;
    std::int64_t last;
    const std::int32_t* taps;  // byte offset of each run in the window
    std::int32_t tap_count;
    std::int32_t steps;
    const std::int8_t* panels;
    std::int32_t columns;
    bool pairs_fit;  // every sum of two neighbouring products fits int16
    Products products;
    Epilogue epilogue;
};

// As above with one input column per result column: tap t of column c is in[taps[t] + c].
struct DepthwiseJob {
    const std::uint8_t* in;
    std::uint8_t* out;
    Grid grid;
    std::int64_t first;
    std::int64_t last;
    const std::int32_t* taps;  // padded to a multiple of 4 with any valid tap
    std::int32_t tap_count;    // a multiple of 4
    const std::int8_t* panels;
    std::int32_t columns;
    Epilogue epilogue;
};

enum class Cell : std::uint8_t { u8, i16, i32 };

// A row of numbers of an elementwise operator: X = q - zero_point; step 0 repeats one number.
struct Operand {
    const void* data;
    std::ptrdiff_t step;  // in numbers: 0 or 1
    Cell cell;
    std::int32_t zero_point;
};

struct ResultRow {
    void* data;
    bool wide;
    std::int32_t zero_point;
    std::int32_t lo;
    std::int32_t hi;
};

// clamp(z + ((A * m0 + B * m1 + 2^(n-1)) >> n)), or with A * B * m0 for a product, or A * m0 alone.
struct RowJob {
    Operand a;
    Operand b;
    ResultRow out;
    std::int64_t count;
    std::int32_t m0;
    std::int32_t m1;
    std::int32_t n;
};

struct Kernels {
    const char* isa;
    int lanes;
    int most_vectors;  // per panel
    void (*dot)(const DotJob&);
    void (*depthwise)(const DepthwiseJob&);
    void (*add)(const RowJob&);
    void (*mul)(const RowJob&);
    void (*rescale)(const RowJob&);
    void (*lookup8)(const std::uint8_t* in, const std::uint8_t* table, std::uint8_t* out, std::int64_t count);
    void (*lookup16)(const std::uint8_t* in, const std::int16_t* table, std::int16_t* out, std::int64_t count);
    void (*accumulate)(const Operand& in, std::int32_t* sums, std::int64_t count);  // sums += X
    void (*max8)(const std::uint8_t* in, std::uint8_t* best, std::int64_t count);
    void (*max16)(const std::int16_t* in, std::int16_t* best, std::int64_t count);
    bool centred = false;  // dot subtracts DotJob::products.center from activations
};

}  // namespace subbyte
