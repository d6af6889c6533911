// Weight panels of one group of columns, as bytes or packed to as few bits as their numbers need.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned_bytes.h"
#include "kernels/packed.h"
#include "ops/accumulation.h"
#include "ops/codebook.h"
#include "ops/families.h"
#include "ops/weights.h"
#include "subbyte/kernels.h"
#include "subbyte/plan.h"
#include "subbyte/spec.h"

namespace subbyte {

// Packed weights are faster only where they come from beyond the caches and meet few pixels, of five bits two.
bool keep_packed(Packing packing, std::int64_t numbers, std::int64_t taps, std::int64_t pixels, std::int64_t levels);
// That, or as chosen where the weights are of few levels.
bool choose_packed(Attributes& attributes, const Weights& weights, bool usual);

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
    std::int64_t wide_columns() const override;

    // By panels where pixels are few, by pixels else.
    Shares shares(Part part, std::int64_t pixels) const override;
    void dot(const DotJob& job, Part part, std::uint8_t* scratch) const override;
    // All of them as bytes.
    const std::int8_t* unpacked(std::uint8_t* scratch) const;

private:
    std::size_t count() const { return starts_.size() - 1; }
    void keep_codes(const Codebook& book);
    void pack(const std::vector<std::int8_t>& plain, const std::vector<std::int64_t>& panels, const Codebook& book);
    void keep_plain(const std::vector<std::int8_t>& plain);
    void unpack(std::size_t first, std::size_t last, std::int8_t* out) const;
    std::int64_t vectors(std::size_t first, std::size_t last) const { return starts_[last] - starts_[first]; }
    DotJob share(DotJob job, std::size_t first, std::size_t last) const;
    void dot_thin(const DotJob& job, std::size_t first, std::size_t last, std::uint8_t* scratch) const;
    std::int64_t panel_columns() const;  // of a wide panel
    std::int64_t chunk() const;          // wide panels that thin kernels take at once
    std::int64_t pitch() const;          // of pixels in thin kernels

    const Kernels* kernels_ = nullptr;
    const PackedKernels* packed_ = nullptr;
    AlignedBytes data_;
    int bits_ = PLAIN_BITS;
    std::int32_t step_ = 0;
    std::int8_t table_[MOST_LEVELS] = {};
    Shape shape_{};
    Accumulation sums_;
    std::int64_t vector_bytes_ = 0;
    std::vector<std::int64_t> starts_;   // of every panel and of the end, in vectors
    std::vector<std::int64_t> offsets_;  // the same in bytes of data_
    std::vector<std::int64_t> columns_;  // the same in columns
    std::size_t wide_panels_ = 0;        // panels of most_vectors vectors, which come first
    std::int64_t thin_pixels_ = 0;       // how many the layer computes, if few enough to decode in registers
};

}  // namespace subbyte
