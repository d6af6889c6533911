// How the pixels of a layer are cut into tiles and blocks: by the kernels' own rules unless a choice says otherwise.
#pragma once

#include <cstdint>

#include "attributes.h"
#include "subbyte/kernels.h"

namespace subbyte {

class Tiling {
public:
    // Where there is nothing to choose.
    explicit Tiling(const Kernels& kernels) : kernels_(kernels) {}
    // pixels: of the result; slides: whether windows of neighbouring pixels may overlap.
    Tiling(Attributes& attributes, const Kernels& kernels, std::int64_t pixels, bool slides);

    // run: bytes read without a gap; columns: of one group.
    TileShape shape(const Grid& grid, std::int64_t pixels, std::int64_t run, std::int64_t columns) const;

private:
    const Kernels& kernels_;
    int most_groups_ = 1;
    bool slides_ = false;
    std::int32_t block_ = 0;
};

}  // namespace subbyte
