// Weight panels of one group of columns, as bytes or packed to as few bits as their numbers need.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned_bytes.h"
#include "kernels/packed.h"
#include "ops/accumulation.h"
#include "ops/families.h"
#include "ops/weights.h"
#include "subbyte/kernels.h"
#include "subbyte/plan.h"
#include "subbyte/spec.h"

namespace subbyte {

// Packed weights are faster only where they come from beyond the caches and meet few pixels.
bool keep_packed(Packing packing, std::int64_t numbers, std::int64_t taps, std::int64_t pixels);
// That, or as chosen where the weights are of few levels.
bool choose_packed(Attributes& attributes, const Weights& weights, bool usual);

// Different numbers, ascending; a code is an index. With more numbers than codes can tell apart, or none: PLAIN_BITS.
class Codebook {
public:
    Codebook() = default;
    // padded: runs are filled up to whole steps with the number 0, which then needs a code.
    Codebook(const std::int8_t* numbers, std::int64_t count, bool padded);

    int bits() const { return bits_; }
    const std::int8_t* table() const { return table_; }
    // 0 for a number that is not in the table: columns of padding, whose results nobody reads.
    std::uint8_t code(std::int8_t number) const { return codes_[static_cast<std::uint8_t>(number)]; }

private:
    int bits_ = PLAIN_BITS;
    std::int8_t table_[MOST_LEVELS] = {};
    std::uint8_t codes_[256] = {};
};

// Whole vectors of panels in a row.
class Panels final : public Multiplier {
public:
    struct Shape {
        std::int64_t columns;
        std::int64_t taps;
        std::int64_t run;
        std::int64_t pixels;  // that the layer computes
    };

    Panels() = default;
    // From numbers [columns][taps][run], which meet the input's.
    Panels(const std::int8_t* numbers, const Shape& shape, const Layout& in, const Kernels& kernels, bool pack);
    // From whole vectors in any order of their own, for kernels other than dot.
    Panels(const std::vector<std::int8_t>& plain, const Kernels& kernels, bool pack);

    std::int64_t bytes() const override { return static_cast<std::int64_t>(data_.size()); }
    std::int64_t scratch_bytes() const override;
    void dot(DotJob job, std::uint8_t* scratch) const override;
    // All of them as bytes.
    const std::int8_t* unpacked(std::uint8_t* scratch) const;

private:
    void pack(const std::vector<std::int8_t>& plain, const std::vector<std::int64_t>& panels, const Codebook& book);
    void unpack(std::size_t first, std::size_t last, std::int8_t* out) const;
    std::int64_t vectors(std::size_t first, std::size_t last) const;
    DotJob share(DotJob job, std::size_t first, std::size_t last) const;
    void dot_thin(DotJob job, std::uint8_t* scratch) const;
    std::int64_t pitch() const;  // of pixels in thin kernels
    std::int64_t wide_columns() const;

    const Kernels* kernels_ = nullptr;
    const PackedKernels* packed_ = nullptr;
    AlignedBytes data_;
    int bits_ = PLAIN_BITS;
    std::int8_t table_[MOST_LEVELS] = {};
    Shape shape_{};
    Accumulation sums_;
    std::int64_t vector_bytes_ = 0;
    std::vector<std::int64_t> starts_;   // of every panel and of the end, in vectors
    std::vector<std::int64_t> offsets_;  // the same in bytes of data_
    std::size_t wide_panels_ = 0;        // panels of most_vectors vectors, which come first
    std::int64_t thin_pixels_ = 0;  // how many the layer computes, if they are few enough to decode in registers
};

}  // namespace subbyte
