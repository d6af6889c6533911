// Convolution and linear layers: one grid of pixels times one set of weight panels.
//
// A convolution reads its input in place: padding is a physical border of the zero point around the value, so a window
// is kernel_h contiguous runs of kernel_w * channels bytes (kernel_h * kernel_w runs of a group's channels where the
// window is dilated or grouped). Nothing is copied, and no kernel knows about padding.

#include <algorithm>

#include "ops/conv_window.h"
#include "ops/families.h"
#include "ops/panels.h"
#include "ops/products.h"
#include "ops/tiling.h"
#include "ops/wide.h"

namespace subbyte {
namespace {

// Bytes of a tap, of which a run makes one, or one for every step where kernels of dot want it so.
std::int64_t tap_bytes(Family family, std::int64_t run, const Kernels& kernels) {
    return family == Family::dot && kernels.sums_in_int16 ? 4 : run;
}

void add_run(std::vector<std::int32_t>& taps, std::int64_t first, std::int64_t run, std::int64_t tap) {
    for (std::int64_t at = 0; at < run; at += tap)
        taps.push_back(static_cast<std::int32_t>(first + at));
}

// All columns of a layer as one run.
GroupWeights whole(const Attributes& attributes, const Weights& weights) {
    const Layout& x = attributes.in(0);
    const std::int64_t pixels = attributes.out().count() / weights.columns();
    return {weights.numbers.data(), weights.columns(), 1, weights.depth(), pixels, std::max(x.hi, x.zero_point)};
}

// Whoever says how weights are kept means bytes or codes of them; few columns of a group do not pay for other families.
Family wanted_family(const Build& build, std::int64_t groups) {
    const bool decided = build.packing != Packing::automatic || groups > 1;
    return decided && build.family == Family::automatic ? Family::dot : build.family;
}

// Only whoever multiplies bytes chooses between them and their codes.
bool choose_packed(Attributes& attributes, const Weights& weights, Family family, bool usual) {
    if (family == Family::dot) return choose_packed(attributes, weights, usual);
    attributes.pass_over("weights");
    return false;
}

MultiplierPtr multiplier(Family family, const GroupWeights& weights, const Kernels& kernels, const Layout& in,
                         bool pack, const Epilogue& epilogue) {
    if (family != Family::dot) return make_multiplier(family, weights, kernels, epilogue);
    const Panels::Shape shape{weights.columns, weights.taps, weights.run, weights.pixels};
    return std::make_unique<Panels>(weights.numbers, shape, in, kernels, pack);
}

class Conv final : public Op {
public:
    Conv(const Build& build, Attributes& attributes, const ConvWindow& window, std::int64_t groups,
         const Weights& weights, Family chosen)
        : Op(build.spec),
          window_(window),
          groups_(groups),
          fold_(window.dilation_w == 1 && groups == 1 && chosen == Family::dot
                    ? choose_fold(attributes, weights, window.stride_w, build.kernels)
                    : 1),
          tiling_(chosen == Family::dot
                      ? Tiling(attributes, build.kernels, attributes.out().shape[0] * attributes.out().shape[1] / fold_,
                               window.kernel_w == 3 && window.dilation_w == 1 && groups == 1)
                      : Tiling(build.kernels)),
          products_(chosen == Family::dot ? prove_products(weights, attributes.in(0), build.kernels) : Products{}),
          columns_(attributes, weights, attributes.in(0), groups, build.kernels,
                   panel_order(weights.columns() / groups, build.kernels, fold_), products_.center),
          rows_in_one_run_(window.dilation_w == 1 && groups == 1) {
        const std::int64_t group_channels = weights.shape[3];
        const Weights wide = fold_pixels(weights, fold_, window.stride_w);
        run_ = rows_in_one_run_ ? wide.shape[2] * group_channels : group_channels;
        GroupWeights group = whole(attributes, wide);
        group.columns /= groups;
        group.taps = wide.depth() / run_;
        group.run = run_;
        family = chosen;
        tap_ = tap_bytes(family, run_, build.kernels);
        const bool usual = keep_packed(build.packing, wide.columns() * wide.depth(), group.taps, group.pixels, wide.levels);
        const bool pack = choose_packed(attributes, wide, family, usual);
        for (std::int64_t g = 0; g < groups; ++g, group.numbers += group.count()) {
            multipliers_.push_back(multiplier(family, group, build.kernels, attributes.in(0), pack, columns_.group(g)));
            scratch_bytes = std::max(scratch_bytes, multipliers_.back()->scratch_bytes());
            weight_bytes += multipliers_.back()->bytes();
            wide_macs += multipliers_.back()->wide_columns() * group.pixels * weights.depth() / fold_;
        }
        work = attributes.out().count() * weights.depth();
    }

    void request(std::vector<Layout>& values) const override { window_.request(values[inputs[0]]); }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const std::int64_t channels = x.shape[2];
        const std::int64_t size = storage_bytes(y.storage);
        first_ = window_.first(x);
        grid_ = Grid{y.shape[1] / fold_, fold_ * window_.stride_w * channels, window_.stride_h * x.strides[0],
                     fold_ * y.shape[2] * size, y.strides[0] * size};
        pixels_ = y.shape[0] * y.shape[1] / fold_;
        in_group_ = channels / groups_;
        out_group_ = fold_ * y.shape[2] / groups_;
        size_ = size;
        for (std::int64_t ky = 0; ky < window_.kernel_h; ++ky) {
            for (std::int64_t kx = 0; kx < (rows_in_one_run_ ? 1 : window_.kernel_w); ++kx)
                add_run(taps_, ky * window_.dilation_h * x.strides[0] + kx * window_.dilation_w * channels, run_, tap_);
        }
        shape_ = tiling_.shape(grid_, pixels_, run_, out_group_);
    }

    void run(const Frame& frame, Part part) const override {
        const Shares shares = groups_ == 1 ? multipliers_[0]->shares(part, pixels_) : Shares{part, Part{}};
        DotJob job{};
        job.in = frame.at(inputs[0]) + first_;
        job.out = frame.at(output);
        job.grid = grid_;
        job.first = shares.pixels.begin(pixels_);
        job.last = shares.pixels.end(pixels_);
        if (job.first == job.last) return;
        job.taps = taps_.data();
        job.tap_count = static_cast<std::int32_t>(taps_.size());
        job.steps = static_cast<std::int32_t>((tap_ + 3) / 4);
        job.columns = static_cast<std::int32_t>(out_group_);
        job.shape = shape_;
        job.products = products_;
        for (std::int64_t g = 0; g < groups_; ++g) {
            job.epilogue = columns_.group(g);
            multipliers_[static_cast<std::size_t>(g)]->dot(job, shares.panels, frame.scratch(part.index));
            job.in += in_group_;
            job.out += out_group_ * size_;
        }
    }

private:
    ConvWindow window_;
    std::int64_t groups_;
    std::int64_t fold_;  // result pixels that one pixel of the grid stands for
    Tiling tiling_;
    Products products_;
    Columns columns_;
    bool rows_in_one_run_;
    std::vector<MultiplierPtr> multipliers_;  // one per group
    std::int64_t run_ = 1;
    std::int64_t tap_ = 1;
    std::int64_t first_ = 0;
    std::int64_t pixels_ = 0;
    std::int64_t in_group_ = 0;
    std::int64_t out_group_ = 0;
    std::int64_t size_ = 1;
    Grid grid_{};
    TileShape shape_{};
    std::vector<std::int32_t> taps_;
};

class Linear final : public Op {
public:
    Linear(const Build& build, Attributes& attributes, const Weights& weights, Family chosen)
        : Op(build.spec),
          products_(chosen == Family::dot ? prove_products(weights, attributes.in(0), build.kernels) : Products{}),
          columns_(attributes, weights, attributes.in(0), 1, build.kernels,
                   panel_order(weights.columns(), build.kernels), products_.center),
          depth_(weights.depth()),
          count_(weights.columns()),
          tiling_(chosen == Family::dot ? Tiling(attributes, build.kernels, attributes.out().count() / count_, false)
                                        : Tiling(build.kernels)) {
        family = chosen;
        tap_ = tap_bytes(family, depth_, build.kernels);
        const GroupWeights all = whole(attributes, weights);
        const bool usual = keep_packed(build.packing, all.count(), 1, all.pixels, weights.levels);
        const bool pack = choose_packed(attributes, weights, family, usual);
        multiplier_ = multiplier(family, all, build.kernels, attributes.in(0), pack, columns_.group(0));
        work = attributes.out().count() * depth_;
        scratch_bytes = multiplier_->scratch_bytes();
        weight_bytes = multiplier_->bytes();
        wide_macs = multiplier_->wide_columns() * all.pixels * depth_;
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const std::int64_t size = storage_bytes(y.storage);
        pixels_ = y.count() / count_;
        grid_ = Grid{pixels_, depth_, 0, count_ * size, 0};
        if (x.shape.size() == 3) grid_ = Grid{x.shape[1], depth_, x.strides[0], count_ * size, y.strides[0] * size};
        shape_ = tiling_.shape(grid_, pixels_, depth_, count_);
        add_run(taps_, 0, depth_, tap_);
    }

    void run(const Frame& frame, Part part) const override {
        const Shares shares = multiplier_->shares(part, pixels_);
        DotJob job{};
        job.in = frame.at(inputs[0]);
        job.out = frame.at(output);
        job.grid = grid_;
        job.first = shares.pixels.begin(pixels_);
        job.last = shares.pixels.end(pixels_);
        if (job.first == job.last) return;
        job.taps = taps_.data();
        job.tap_count = static_cast<std::int32_t>(taps_.size());
        job.steps = static_cast<std::int32_t>((tap_ + 3) / 4);
        job.columns = static_cast<std::int32_t>(count_);
        job.shape = shape_;
        job.products = products_;
        job.epilogue = columns_.group(0);
        multiplier_->dot(job, shares.panels, frame.scratch(part.index));
    }

private:
    Products products_;
    Columns columns_;
    MultiplierPtr multiplier_;
    std::int64_t depth_;
    std::int64_t tap_ = 1;
    std::int64_t count_;
    Tiling tiling_;
    std::int64_t pixels_ = 0;
    Grid grid_{};
    TileShape shape_{};
    std::vector<std::int32_t> taps_;
};

// Padding is the zero point, so it is a number of the input.
void check_input(const Attributes& attributes) {
    const Layout& x = attributes.in(0);
    const bool bytes = x.storage == Storage::u8;
    if (x.zero_point < (bytes ? 0 : -32768) || x.zero_point > (bytes ? 255 : 32767))
        attributes.fail("the input's zero point must be one of its numbers");
}

// Whether bytes times bytes in int32 do.
bool is_narrow(const Attributes& attributes, const WideWeights& weights, std::int32_t pre_shift) {
    const bool coded = attributes.in(0).coded() || attributes.out().coded();
    return attributes.in(0).storage == Storage::u8 && !coded && pre_shift == 0 && fits_int8(weights);
}

}  // namespace

OpPtr make_conv(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    check_input(a);
    const Layout& x = a.in(0);
    if (x.shape.size() != 3) a.fail("the input has shape " + text(x.shape) + ", not [height, width, channels]");
    const Dims stride = a.list("stride", 2, 1, MOST_CELLS);
    const Dims dilation = a.list("dilation", 2, 1, MOST_CELLS);
    const Dims padding = a.list("padding", 4, 0, MOST_CELLS);
    std::int64_t groups = a.one("groups", 1, x.shape[2]);
    const auto pre_shift = static_cast<std::int32_t>(a.one("pre_shift", 0, MOST_PRE_SHIFT));
    const WideWeights read = read_weights(a, 4);
    if (x.shape[2] % groups != 0 || read.columns() % groups != 0 || read.shape[3] != x.shape[2] / groups)
        a.fail("weight " + text(read.shape) + " does not fit " + std::to_string(groups) + " groups of " +
               text(x.shape));
    const ConvWindow w{read.shape[1], read.shape[2], stride[0],  stride[1],  dilation[0],
                       dilation[1],      padding[0],       padding[1], padding[2], padding[3]};
    const std::int64_t free_h = x.shape[0] + w.top + w.bottom - w.extent_h();
    const std::int64_t free_w = x.shape[1] + w.left + w.right - w.extent_w();
    if (free_h < 0 || free_w < 0) a.fail("the window does not fit the padded input");
    a.result({free_h / w.stride_h + 1, free_w / w.stride_w + 1, read.columns()});
    OpPtr op;
    if (!is_narrow(a, read, pre_shift)) {
        op = make_wide_conv(build, a, w, groups, pre_shift, read);
        a.done();
        return op;
    }
    Weights weights = narrow(read);
    if (groups > 1 && weights.columns() == groups && x.shape[2] == groups) {
        op = make_depthwise(build, a, w, weights);
    } else {
        groups = merge_groups(a, weights, groups, build.kernels);
        const Family family = choose_family(a, wanted_family(build, groups), whole(a, weights), build.kernels);
        op = std::make_unique<Conv>(build, a, w, groups, weights, family);
    }
    a.done();
    op->knobs = a.knobs();
    return op;
}

OpPtr make_linear(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    check_input(a);
    const auto pre_shift = static_cast<std::int32_t>(a.one("pre_shift", 0, MOST_PRE_SHIFT));
    const WideWeights read = read_weights(a, 2);
    Dims shape = a.in(0).shape;
    if (shape.empty() || shape.back() != read.shape[1])
        a.fail("weight " + text(read.shape) + " does not fit " + text(shape));
    shape.back() = read.columns();
    a.result(shape);
    if (!is_narrow(a, read, pre_shift)) {
        OpPtr wide = make_wide_linear(build, a, pre_shift, read);
        a.done();
        return wide;
    }
    const Weights weights = narrow(read);
    const Family family = choose_family(a, wanted_family(build, 1), whole(a, weights), build.kernels);
    auto op = std::make_unique<Linear>(build, a, weights, family);
    a.done();
    op->knobs = a.knobs();
    return op;
}

}  // namespace subbyte
