// Every operator of the integer dialect, by family; each maker checks its specification fully and raises PlanError.
#pragma once

#include <memory>

#include "attributes.h"
#include "subbyte/plan.h"

namespace subbyte {

struct Build {
    const OpSpec& spec;
    const std::vector<Layout>& values;
    const Kernels& kernels;
    Packing packing;
    Family family;
};

using OpPtr = std::unique_ptr<Op>;

OpPtr make_conv(const Build& build);
OpPtr make_linear(const Build& build);
OpPtr make_linear_per_token(const Build& build);
OpPtr make_linear_norm(const Build& build);
OpPtr make_linear_argmax(const Build& build);
OpPtr make_channel_stack(const Build& build);
OpPtr make_add(const Build& build);
OpPtr make_mul(const Build& build);
OpPtr make_rescale(const Build& build);
OpPtr make_lookup(const Build& build);
OpPtr make_max_pool(const Build& build);
OpPtr make_avg_pool(const Build& build);
OpPtr make_mean(const Build& build);
OpPtr make_argmax(const Build& build);
OpPtr make_softmax(const Build& build);
OpPtr make_log_softmax(const Build& build);
OpPtr make_concat(const Build& build);
OpPtr make_reshape(const Build& build);
OpPtr make_transpose(const Build& build);
OpPtr make_slice(const Build& build);
OpPtr make_pad(const Build& build);
OpPtr make_resize(const Build& build);
OpPtr make_trim(const Build& build);

}  // namespace subbyte
