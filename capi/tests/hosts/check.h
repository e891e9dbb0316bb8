/* What the hosts of the tests have in common. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nnc.h>

/* Ends the test, with the library's message. */
#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, nnc_last_error()); \
            exit(1); \
        } \
    } while (0)

/* All of a file. */
static void *contents(const char *path, size_t *count) {
    FILE *file = fopen(path, "rb");
    char *bytes;
    long end;
    CHECK(file && !fseek(file, 0, SEEK_END) && (end = ftell(file)) > 0 && !fseek(file, 0, SEEK_SET));
    bytes = (char *)malloc((size_t)end);
    *count = (size_t)end;
    CHECK(bytes && fread(bytes, 1, *count, file) == *count && !fclose(file));
    return bytes;
}

/* Runs a model of one input and one output on the file "in"; the caller frees what comes out. */
static void *results(nnc_model *model, size_t *count) {
    size_t given;
    void *input = contents("in", &given), *output;
    const void *inputs[1];
    void *outputs[1];
    nnc_tensor in, out;
    CHECK(nnc_model_inputs(model) == 1 && nnc_model_outputs(model) == 1);
    CHECK(!nnc_model_input(model, 0, &in) && in.bytes == given && in.type == NNC_F32);
    CHECK(!nnc_model_output(model, 0, &out) && out.rank == 2 && out.shape[0] * out.shape[1] * 4 == out.bytes);
    *count = (size_t)out.bytes;
    output = calloc(1, *count);
    CHECK(output);
    inputs[0] = input;
    outputs[0] = output;
    CHECK(!nnc_model_run(model, inputs, outputs));
    free(input);
    return output;
}

/* Writes to the file "out". */
static void put(const void *bytes, size_t count) {
    FILE *file = fopen("out", "wb");
    CHECK(file && fwrite(bytes, 1, count, file) == count && !fclose(file));
}
