/* Calls a compiled LSTM from C: weights and inputs come from safetensors files, and the outputs are
 * compared with those that torch.nn.LSTM gave for them. README.md says how to build it. */

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lstm.h"

/* The order of the header, lstm.h, under the names of the files. */
static const char *const weight_names[lstm_WEIGHTS] = {
    "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
    "weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1",
};
static const char *const input_names[lstm_INPUTS] = { "x", "h_0", "c_0" };
static const char *const output_names[lstm_OUTPUTS] = { "y", "h_n", "c_n" };

static void fail(const char *what, const char *which) {
    fprintf(stderr, "%s: %s\n", what, which);
    exit(1);
}

static void check(int32_t status, const char *what) {
    if (status == MDLC_CPU) fail(what, "this processor lacks instructions that the code uses");
    if (status == MDLC_FAILED) fail(what, "a check of the model failed; context.site says which");
    if (status != MDLC_OK) {
        fprintf(stderr, "%s: status %" PRId32 "\n", what, status);
        exit(1);
    }
}

/* Memory as the generated code wants it: aligned to 64 bytes. */
static void *aligned(int64_t bytes) {
    void *memory = aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64 + 64);
    if (!memory) fail("memory", "there is not enough");
    return memory;
}

/* A whole safetensors file: eight bytes of length, a JSON header, the tensors. */
typedef struct {
    char *header;
    char *data;
    size_t data_bytes;
} archive;

static archive open_archive(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail("cannot open", path);
    uint64_t header_bytes = 0;
    if (fread(&header_bytes, sizeof header_bytes, 1, file) != 1 || header_bytes > 1 << 20) fail("no header", path);
    archive found = { calloc(header_bytes + 1, 1), NULL, 0 };
    if (!found.header || fread(found.header, 1, header_bytes, file) != header_bytes) fail("no header", path);
    fseek(file, 0, SEEK_END);
    found.data_bytes = (size_t)ftell(file) - 8 - header_bytes;
    fseek(file, (long)(8 + header_bytes), SEEK_SET);
    found.data = aligned((int64_t)found.data_bytes);
    if (fread(found.data, 1, found.data_bytes, file) != found.data_bytes) fail("cut short", path);
    fclose(file);
    return found;
}

/* Finds an f32 tensor. This reads the header that our own files have; a program that takes files
 * from others parses JSON. */
static mdlc_tensor find(const archive *from, const char *name) {
    char key[256];
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    const char *at = strstr(from->header, key);
    if (!at) fail("no f32 tensor", name);
    at += strlen(key);
    mdlc_tensor tensor = { .dtype = MDLC_F32, .rank = 0 };
    while (*at != ']' && tensor.rank < 8) {
        char *end;
        tensor.shape[tensor.rank++] = strtoll(at, &end, 10);
        at = *end == ',' ? end + 1 : end;
    }
    const char *offsets = strstr(at, "\"data_offsets\":[");
    long long start, stop;
    if (!offsets || sscanf(offsets, "\"data_offsets\":[%lld,%lld]", &start, &stop) != 2) fail("no offsets", name);
    if (start < 0 || stop < start || (size_t)stop > from->data_bytes) fail("offsets outside", name);
    tensor.data = from->data + start;
    tensor.bytes = stop - start;
    return tensor;
}

int main(int argc, char **argv) {
    if (argc != 2) fail("usage", "host FOLDER");
    archive weight_file = open_archive(argv[1], "weights");
    archive input_file = open_archive(argv[1], "inputs");
    archive output_file = open_archive(argv[1], "outputs");
    mdlc_tensor weights[lstm_WEIGHTS], inputs[lstm_INPUTS], outputs[lstm_OUTPUTS];
    for (int k = 0; k < lstm_WEIGHTS; k++) weights[k] = find(&weight_file, weight_names[k]);
    for (int k = 0; k < lstm_INPUTS; k++) inputs[k] = find(&input_file, input_names[k]);

    /* Once per process and thread: is this the processor that the code was made for? */
    mdlc_context context;
    check(lstm_init(&context), "init");

    /* Free dimensions, in the order of the header: B and T. */
    int64_t dims[lstm_DIMS] = { inputs[0].shape[0], inputs[0].shape[1] };
    int64_t sizes[lstm_SIZES];
    check(lstm_sizes(dims, sizes), "sizes");
    void *blob = aligned(sizes[0]);
    void *scratch = aligned(sizes[1]);

    /* Once per set of weights. */
    check(lstm_pack(&context, weights, blob, dims, scratch), "pack");

    /* Any number of times. Each call in flight needs a context and a scratch of its own. */
    mdlc_tensor expected[lstm_OUTPUTS];
    for (int k = 0; k < lstm_OUTPUTS; k++) {
        expected[k] = find(&output_file, output_names[k]);
        outputs[k] = expected[k];
        outputs[k].data = aligned(outputs[k].bytes);
    }
    check(lstm_forward(&context, blob, inputs, outputs, dims, scratch), "forward");

    int status = 0;
    for (int k = 0; k < lstm_OUTPUTS; k++) {
        const float *got = outputs[k].data, *want = expected[k].data;
        double largest = 0;
        for (int64_t i = 0; i < sizes[2 + k]; i++) largest = fmax(largest, fabs((double)got[i] - want[i]));
        printf("%s: %" PRId64 " elements, largest difference %s\n", output_names[k], sizes[2 + k],
            largest < 1e-6 ? "below 1e-6" : "TOO LARGE");
        status |= largest >= 1e-6;
        free(outputs[k].data);
    }
    free(scratch);
    free(blob);
    archive *files[] = { &weight_file, &input_file, &output_file };
    for (int k = 0; k < 3; k++) free(files[k]->header), free(files[k]->data);
    return status;
}
