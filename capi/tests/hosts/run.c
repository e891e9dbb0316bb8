/* Runs the artefact net.nnc.so in every way that there is: one output, the same for all. */
#include "check.h"
#include <pthread.h>

static void *on_a_thread(void *given) {
    size_t count;
    nnc_model *model = nnc_model_share((const nnc_model *)given);
    void *output;
    CHECK(model);
    output = results(model, &count);
    nnc_model_close(model);
    return output;
}

int main(void) {
    size_t bytes, count, again;
    void *artefact = contents("net.nnc.so", &bytes), *first;
    nnc_model *models[4];
    nnc_pool *pool = nnc_pool_open(2);
    pthread_t threads[3];
    uint32_t index = 7;
    int i;

    CHECK(!strncmp(nnc_version(), "0.", 2) && pool);
    models[0] = nnc_model_open("net.nnc.so", 2);
    models[1] = nnc_model_open_memory(artefact, bytes, 1);
    models[2] = nnc_model_map("net.nnc.so", 0);
    models[3] = nnc_model_open("net.nnc.so", 1);
    free(artefact);
    CHECK(models[3] && !nnc_model_use_pool(models[3], pool));
    nnc_pool_close(pool);
    CHECK(models[0]);
    first = results(models[0], &count);
    for (i = 1; i < 4; ++i) {
        void *output;
        CHECK(models[i]);
        output = results(models[i], &again);
        CHECK(count == again && !memcmp(first, output, count));
        free(output);
    }

    CHECK(!nnc_model_find_input(models[0], "input", &index) && index == 0);
    CHECK(!nnc_model_find_output(models[0], "logits", &index) && index == 0);
    CHECK(nnc_model_find_output(models[0], "scores", &index) == 1);
    CHECK(strstr(nnc_last_error(), "no output \"scores\"; those of the model are \"logits\""));
    CHECK(nnc_model_input(models[0], 1, NULL) == 1 && strstr(nnc_last_error(), "no input 1, only 1"));

    for (i = 0; i < 3; ++i) CHECK(!pthread_create(&threads[i], NULL, on_a_thread, models[0]));
    for (i = 0; i < 3; ++i) {
        void *output;
        CHECK(!pthread_join(threads[i], &output) && !memcmp(first, output, count));
        free(output);
    }
    put(first, count);
    free(first);
    for (i = 0; i < 4; ++i) nnc_model_close(models[i]);
    return 0;
}
