/* Calls a compiled feed-forward network from C.
 *
 *   mdlc compile models/feed_forward.mdl --model ffn_gelu --set D=16 --set F=64 -o ffn.a
 *   cc -O2 -I. examples/c/ffn.c ffn.a -o ffn && ./ffn
 *
 * Batch and time were left free, so each call brings its own. The weights are made up here; a real
 * host maps them from a file in the order that ffn.h lists. Prints one output element a line.
 */
#include "ffn.h"

#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, int32_t status) {
    fprintf(stderr, "%s: status %d\n", what, (int)status);
    return 1;
}

/* A dense f32 tensor with numbers between -0.3 and 0.3. */
static mdlc_tensor tensor(int32_t rank, int64_t a, int64_t b, int64_t c) {
    const int64_t shape[3] = {a, b, c};
    mdlc_tensor made = {0};
    int64_t elements = 1;
    made.dtype = MDLC_F32;
    made.rank = rank;
    for (int32_t k = 0; k < rank; k++) {
        made.shape[k] = shape[k];
        elements *= shape[k];
    }
    made.bytes = elements * (int64_t)sizeof(float);
    made.data = aligned_alloc(64, (size_t)(made.bytes + 63) / 64 * 64);
    for (int64_t k = 0; made.data && k < elements; k++) {
        ((float *)made.data)[k] = (float)(k % 7 - 3) * 0.1f;
    }
    return made;
}

/* aligned_alloc wants a multiple of the alignment, and at least one. */
static void *aligned(int64_t bytes) {
    return aligned_alloc(64, (size_t)(bytes / 64 + 1) * 64);
}

int main(void) {
    mdlc_context context;
    int32_t status = ffn_init(&context);
    if (status != MDLC_OK) return fail("this processor cannot run the code", status);

    const int64_t dims[ffn_DIMS] = {2, 3}; /* B, T */
    int64_t sizes[ffn_SIZES];
    status = ffn_sizes(dims, sizes);
    if (status != MDLC_OK) return fail("sizes", status);
    void *blob = aligned(sizes[0]);
    void *scratch = aligned(sizes[1]);

    mdlc_tensor weights[ffn_WEIGHTS] = {tensor(2, 64, 16, 0), tensor(1, 64, 0, 0), tensor(2, 16, 64, 0),
                                        tensor(1, 16, 0, 0)};
    status = ffn_pack(&context, weights, blob, dims, scratch);
    if (status != MDLC_OK) return fail("pack", status);

    mdlc_tensor inputs[ffn_INPUTS] = {tensor(3, dims[0], dims[1], 16)};
    mdlc_tensor outputs[ffn_OUTPUTS] = {tensor(3, dims[0], dims[1], 16)};
    status = ffn_forward(&context, blob, inputs, outputs, dims, scratch);
    if (status != MDLC_OK) return fail("forward", status);

    for (int64_t k = 0; k < sizes[2]; k++) printf("%.9g\n", ((float *)outputs[0].data)[k]);
    for (int k = 0; k < ffn_WEIGHTS; k++) free(weights[k].data);
    free(inputs[0].data);
    free(outputs[0].data);
    free(blob);
    free(scratch);
    return 0;
}
