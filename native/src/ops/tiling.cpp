#include "ops/tiling.h"

namespace subbyte {
namespace {

constexpr std::int64_t MOST_GROUPS = 6;
constexpr std::int64_t BY_CACHE = 0;
constexpr std::int64_t WHOLE = 1 << 30;

}  // namespace

Tiling::Tiling(Attributes& attributes, const Kernels& kernels, std::int64_t pixels, bool slides) : kernels_(kernels) {
    Dims blocks = {BY_CACHE};
    for (std::int64_t block = 48; block < pixels; block *= 4)
        blocks.push_back(block);
    if (blocks.size() > 1) blocks.push_back(WHOLE);
    block_ = static_cast<std::int32_t>(attributes.choose("block", blocks, BY_CACHE));
    if (kernels.shape == nullptr) return;
    const Dims groups = pixels > 1 ? Dims{2, 3, 4, 5, MOST_GROUPS} : Dims{MOST_GROUPS};
    most_groups_ = static_cast<int>(attributes.choose("groups", groups, MOST_GROUPS));
    slides_ = attributes.choose("sliding", slides ? Dims{0, 1} : Dims{0}, slides ? 1 : 0) != 0;
}

TileShape Tiling::shape(const Grid& grid, std::int64_t pixels, std::int64_t run, std::int64_t columns) const {
    TileShape result{};
    if (kernels_.shape != nullptr) {
        DotJob job{};
        job.grid = grid;
        job.last = pixels;
        job.steps = static_cast<std::int32_t>((run + 3) / 4);
        job.columns = static_cast<std::int32_t>(columns);
        result = kernels_.shape(job, most_groups_);
    }
    result.sliding = result.sliding && slides_;
    result.block = block_;
    return result;
}

}  // namespace subbyte
