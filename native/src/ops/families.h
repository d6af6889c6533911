// How the columns of a layer, or of one of its groups, are multiplied: byte by byte, or by another kernel family.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "attributes.h"
#include "subbyte/kernels.h"
#include "subbyte/plan.h"
#include "subbyte/spec.h"

namespace subbyte {

// How a layer is shared: by pixels, or by panels, where each part reads its own weights only and all pixels.
struct Shares {
    Part pixels;
    Part panels;
};

// Weights in the form that some kernel takes.
class Multiplier {
public:
    virtual ~Multiplier() = default;

    virtual Shares shares(Part part, std::int64_t pixels) const = 0;
    // kernels.dot of the job, whose panels are a part of these.
    virtual void dot(const DotJob& job, Part part, std::uint8_t* scratch) const = 0;
    virtual std::int64_t scratch_bytes() const = 0;
    virtual std::int64_t bytes() const = 0;
    // Columns with two neighbouring products that may leave the int16 that the kernel adds them in.
    virtual std::int64_t wide_columns() const { return 0; }
};

using MultiplierPtr = std::unique_ptr<Multiplier>;

struct GroupWeights {
    const std::int8_t* numbers;  // [columns][taps][run]
    std::int64_t columns;
    std::int64_t taps;
    std::int64_t run;
    std::int64_t pixels;      // that the layer computes
    std::int32_t most_input;  // largest activation, that of borders included

    std::int64_t depth() const { return taps * run; }
    std::int64_t count() const { return columns * depth(); }
};

std::string family_name(Family family);

// The family that multiplies a layer, whose groups may be given as one: the knob "family". Usually the wanted one where
// it can, else dot; automatic: the fastest.
Family choose_family(Attributes& attributes, Family wanted, const GroupWeights& weights, const Kernels& kernels);

// For a family other than dot that choose_family gave for these columns or more; the epilogue is theirs.
MultiplierPtr make_multiplier(Family family, const GroupWeights& weights, const Kernels& kernels,
                              const Epilogue& epilogue);

}  // namespace subbyte
