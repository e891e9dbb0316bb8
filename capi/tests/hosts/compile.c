/* Compiles net.onnx from its file and from memory, to memory and to an artefact: one output, the same for all. */
#include "check.h"

int main(void) {
    size_t bytes, count, again;
    void *model = contents("net.onnx", &bytes), *first;
    const uint64_t shape[4] = {1, 3, 32, 32};
    nnc_onnx *from_file = nnc_onnx_open("net.onnx"), *from_memory = nnc_onnx_open_memory(model, bytes);
    nnc_options *options = nnc_options_new();
    nnc_artefact *artefact;
    nnc_model *models[4];
    int i;

    free(model);
    CHECK(from_file && from_memory);
    CHECK(!nnc_options_threads(options, 2) && !nnc_options_target(options, "native"));
    CHECK(!nnc_options_precision(options, "f32") && !nnc_options_shape(options, "input", shape, 4));
    models[0] = nnc_compile(from_file, NULL, 2);
    models[1] = nnc_compile(from_memory, options, 1);
    artefact = nnc_compile_artefact(from_memory, options);
    CHECK(artefact && !nnc_artefact_write(artefact, "written.nnc.so"));
    models[2] = nnc_model_open_memory(nnc_artefact_data(artefact), nnc_artefact_bytes(artefact), 1);
    models[3] = nnc_model_map("written.nnc.so", 1);
    nnc_artefact_close(artefact);
    nnc_onnx_close(from_memory);
    CHECK(models[0]);
    first = results(models[0], &count);
    for (i = 1; i < 4; ++i) {
        void *output;
        CHECK(models[i]);
        output = results(models[i], &again);
        CHECK(count == again && !memcmp(first, output, count));
        free(output);
    }
    put(first, count);
    free(first);

    /* Half as many bits, and so another result. */
    CHECK(!nnc_options_precision(options, "bf16"));
    nnc_model_close(models[1]);
    models[1] = nnc_compile(from_file, options, 1);
    CHECK(models[1]);
    first = results(models[1], &again);
    model = contents("out", &count);
    CHECK(again == count && memcmp(first, model, count));
    free(first);
    free(model);

    /* What is wrong is said. */
    CHECK(!nnc_options_dim(options, "batch", 2));
    CHECK(!nnc_compile(from_file, options, 1) && strstr(nnc_last_error(), "nnc_options_dim(options, \"batch\", 2)"));
    CHECK(!nnc_onnx_open("in") && strstr(nnc_last_error(), "in"));
    for (i = 0; i < 4; ++i) nnc_model_close(models[i]);
    nnc_options_close(options);
    nnc_onnx_close(from_file);
    return 0;
}
