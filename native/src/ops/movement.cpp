// Operators that move numbers: each is one or a few strided copies.

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/box_copy.h"
#include "ops/ops.h"
#include "walk.h"

namespace subbyte {
namespace {

// Base of operators that are one copy per input.
class Move : public Op {
public:
    Move(const Build& build, Attributes& a) : Op(build.spec), kernels_(build.kernels) {
        a.moved();
        work = a.out().count();
    }

    void run(const Frame& frame, Part part) const override {
        for (std::size_t i = 0; i < copies_.size(); ++i)
            copies_[i].run(kernels_, frame.at(inputs[i]), frame.at(output), part);
    }

protected:
    const Kernels& kernels_;
    std::vector<BoxCopy> copies_;
};

class Concat final : public Move {
public:
    Concat(const Build& build, Attributes& a) : Move(build, a), axis_(a.axis("axis")) {
        Dims shape = a.in(0).shape;
        shape[axis_] = 0;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            Dims other = a.in(i).shape;
            if (other.size() != shape.size()) a.fail("inputs differ in rank");
            shape[axis_] += other[axis_];
            other[axis_] = shape[axis_];
            if (other != shape) a.fail("inputs differ in shape behind axis");
        }
        a.result(shape);
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& y = values[output];
        std::int64_t first = 0;
        for (const std::size_t i : inputs) {
            const Layout& x = values[i];
            copies_.emplace_back(x.shape, x.strides, 0, y.strides, first * y.strides[axis_], y.storage);
            first += x.shape[axis_];
        }
    }

private:
    std::size_t axis_;
};

class Transpose final : public Move {
public:
    Transpose(const Build& build, Attributes& a) : Move(build, a) {
        const Dims& in = a.in(0).shape;
        const Dims perm = a.list("perm", in.size() + 1, 0, static_cast<std::int64_t>(in.size()));
        std::vector<bool> seen(in.size(), false);
        if (perm[0] != 0) a.fail("the batch stays first");
        Dims shape;
        for (std::size_t i = 1; i < perm.size(); ++i) {
            if (perm[i] == 0 || seen[static_cast<std::size_t>(perm[i] - 1)])
                a.fail("perm " + text(perm) + " is no permutation");
            seen[static_cast<std::size_t>(perm[i] - 1)] = true;
            axes_.push_back(static_cast<std::size_t>(perm[i] - 1));
            shape.push_back(in[axes_.back()]);
        }
        a.result(shape);
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& y = values[output];
        Dims in;
        for (const std::size_t axis : axes_)
            in.push_back(values[inputs[0]].strides[axis]);
        copies_.emplace_back(y.shape, in, 0, y.strides, 0, y.storage);
    }

private:
    std::vector<std::size_t> axes_;
};

class Slice final : public Move {
public:
    Slice(const Build& build, Attributes& a) : Move(build, a) {
        const Dims& in = a.in(0).shape;
        const Dims starts = a.list("starts", in.size() + 1, 0, INT32_HI);
        const Dims ends = a.list("ends", in.size() + 1, 0, INT32_HI);
        const Dims steps = a.list("steps", in.size() + 1, 1, INT32_HI);
        if (starts[0] != 0 || steps[0] != 1) a.fail("the batch is not sliced");
        Dims shape;
        for (std::size_t d = 0; d < in.size(); ++d) {
            const std::int64_t first = starts[d + 1];
            const std::int64_t last = std::min(ends[d + 1], in[d]);
            if (first >= last) a.fail("slice " + text(starts) + ".." + text(ends) + " of " + text(in) + " is empty");
            shape.push_back((last - first + steps[d + 1] - 1) / steps[d + 1]);
        }
        a.result(shape);
        starts_.assign(starts.begin() + 1, starts.end());
        steps_.assign(steps.begin() + 1, steps.end());
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& y = values[output];
        Dims in = values[inputs[0]].strides;
        std::int64_t first = 0;
        for (std::size_t d = 0; d < in.size(); ++d) {
            first += starts_[d] * in[d];
            in[d] *= steps_[d];
        }
        copies_.emplace_back(y.shape, in, first, y.strides, 0, y.storage);
    }

private:
    Dims starts_, steps_;
};

// Numbers keep their order. Where neither side has a border nothing is copied.
class Reshape final : public Move {
public:
    Reshape(const Build& build, Attributes& a) : Move(build, a) {
        if (a.in(0).count() != a.out().count()) a.fail(text(a.in(0).shape) + " cannot become " + text(a.out().shape));
    }

    bool aliases() const override { return true; }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        if (y.root == x.root) return;
        // A border splits the dense order into runs; the side with a border is walked, the other follows in dense
        // order. Where both have one, rows of the source are copied number by number.
        if (!x.bordered() || !y.bordered()) {
            const Layout& walked = x.bordered() ? x : y;
            const Dims in = x.bordered() ? x.strides : dense(walked.shape);
            const Dims out = x.bordered() ? dense(walked.shape) : y.strides;
            copies_.emplace_back(walked.shape, in, 0, out, 0, y.storage);
            return;
        }
        both_ = true;
        size_ = storage_bytes(x.storage);
        in_ = Walk<1>(x.shape, {x.strides}, false);
        shape_ = y.shape;
        strides_ = y.strides;
    }

    void run(const Frame& frame, Part part) const override {
        if (!both_) {
            Move::run(frame, part);
            return;
        }
        if (part.index != 0) return;
        const std::uint8_t* x = frame.at(inputs[0]);
        std::uint8_t* y = frame.at(output);
        std::int64_t at = 0;
        in_.each(Part{}, [&](const Walk<1>::Offsets& offsets, std::int64_t count) {
            for (std::int64_t i = 0; i < count; ++i, ++at)
                std::memcpy(y + place(at) * size_, x + (offsets[0] + i * in_.step(0)) * size_,
                            static_cast<std::size_t>(size_));
        });
    }

private:
    std::int64_t place(std::int64_t number) const {
        const std::int64_t row = shape_[1] * shape_[2];
        return number / row * strides_[0] + number % row;
    }

    bool both_ = false;
    std::int64_t size_ = 1;
    Walk<1> in_;
    Dims shape_, strides_;
};

class Pad final : public Move {
public:
    Pad(const Build& build, Attributes& a) : Move(build, a) {
        const Dims& in = a.in(0).shape;
        before_ = a.list("before", in.size() + 1, 0, INT32_HI);
        const Dims after = a.list("after", in.size() + 1, 0, INT32_HI);
        if (before_[0] != 0 || after[0] != 0) a.fail("the batch is not padded");
        Dims shape;
        for (std::size_t d = 0; d < in.size(); ++d)
            shape.push_back(in[d] + before_[d + 1] + after[d + 1]);
        a.result(shape);
        fill_ = static_cast<std::int16_t>(a.one("fill", a.out().lo, a.out().hi));
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        std::int64_t first = 0;
        for (std::size_t d = 0; d < x.shape.size(); ++d)
            first += before_[d + 1] * y.strides[d];
        copies_.emplace_back(x.shape, x.strides, 0, y.strides, first, y.storage);
        // The fill is one number repeated: a copy whose source never moves.
        background_.emplace_back(y.shape, Dims(y.shape.size(), 0), 0, y.strides, 0, y.storage);
        wide_ = y.storage == Storage::i16;
    }

    void run(const Frame& frame, Part part) const override {
        if (part.index != 0) return;  // the background and the copy overlap
        const auto narrow = static_cast<std::uint8_t>(fill_);
        const auto* fill = wide_ ? reinterpret_cast<const std::uint8_t*>(&fill_) : &narrow;
        background_[0].run(kernels_, fill, frame.at(output), Part{});
        copies_[0].run(kernels_, frame.at(inputs[0]), frame.at(output), Part{});
    }

private:
    Dims before_;
    std::int16_t fill_ = 0;
    bool wide_ = false;
    std::vector<BoxCopy> background_;
};

class Resize final : public Move {
public:
    Resize(const Build& build, Attributes& a) : Move(build, a) {
        const Dims& in = a.in(0).shape;
        if (in.size() != 3) a.fail("the input has shape " + text(in) + ", not [height, width, channels]");
        if (!a.flag("channels_last")) a.fail("channels must be last");
        const Dims size = a.list("size", 2, 1, INT32_HI);
        a.result({size[0], size[1], in[2]});
    }

    void prepare(const std::vector<Layout>& values) override {
        in_ = values[inputs[0]];
        out_ = values[output];
    }

    void run(const Frame& frame, Part part) const override {
        const std::int64_t size = storage_bytes(in_.storage);
        const auto bytes = static_cast<std::size_t>(in_.shape[2] * size);
        for (std::int64_t y = part.begin(out_.shape[0]); y < part.end(out_.shape[0]); ++y) {
            const std::uint8_t* row = frame.at(inputs[0]) + y * in_.shape[0] / out_.shape[0] * in_.strides[0] * size;
            std::uint8_t* result = frame.at(output) + y * out_.strides[0] * size;
            for (std::int64_t x = 0; x < out_.shape[1]; ++x) {
                std::memcpy(result + x * out_.strides[1] * size,
                            row + x * in_.shape[1] / out_.shape[1] * in_.strides[1] * size, bytes);
            }
        }
    }

private:
    Layout in_, out_;
};

template <class T>
OpPtr make(const Build& build, std::size_t most_inputs = 1) {
    Attributes a(build.spec, build.values);
    a.arity(1, most_inputs);
    auto op = std::make_unique<T>(build, a);
    a.done();
    return op;
}

}  // namespace

OpPtr make_concat(const Build& build) {
    return make<Concat>(build, build.spec.inputs.size());
}

OpPtr make_reshape(const Build& build) {
    return make<Reshape>(build);
}

OpPtr make_transpose(const Build& build) {
    return make<Transpose>(build);
}

OpPtr make_slice(const Build& build) {
    return make<Slice>(build);
}

OpPtr make_pad(const Build& build) {
    return make<Pad>(build);
}

OpPtr make_resize(const Build& build) {
    return make<Resize>(build);
}

}  // namespace subbyte
