/* Running programs compiled by nnc: the C interface of the nnc runtime library.
 *
 *     nnc_model *model = nnc_model_open("net.so", 0);
 *     if (!model) { fprintf(stderr, "%s\n", nnc_last_error()); exit(1); }
 *     const void *inputs[] = { image };
 *     void *outputs[] = { scores };
 *     if (nnc_model_run(model, inputs, outputs)) { fprintf(stderr, "%s\n", nnc_last_error()); exit(1); }
 *     nnc_model_close(model);
 */
#ifndef NNC_H
#define NNC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A program that is loaded, with memory to run it once at a time. */
typedef struct nnc_model nnc_model;

/* Types of elements. The numbers are those of ONNX. */
typedef enum nnc_type {
    NNC_F32 = 1,
    NNC_U8 = 2,
    NNC_I8 = 3,
    NNC_U16 = 4,
    NNC_I16 = 5,
    NNC_I32 = 6,
    NNC_I64 = 7,
    NNC_BOOL = 9,
    NNC_F16 = 10,
    NNC_F64 = 11,
    NNC_U32 = 12,
    NNC_U64 = 13,
    NNC_BF16 = 16,
} nnc_type;

/* An input or output. The pointers live as long as any model that shares this program. */
typedef struct nnc_tensor {
    const char *name;      /* in the model; UTF-8 */
    uint32_t type;         /* an nnc_type */
    uint32_t rank;         /* number of extents */
    const uint64_t *shape; /* extents, outermost first, in the model's axis order */
    uint64_t bytes;        /* size of a dense row-major tensor */
} nnc_tensor;

/* Loads a program and starts threads for it; 0 threads stand for one for each core. Returns null on failure.
 *
 * The file is verified: a damaged or incomplete one, one of another version, or for another CPU is refused. But its code
 * will run in this process, so it must come from somebody you trust. */
nnc_model *nnc_model_open(const char *path, uint32_t threads);

/* The same for a program in memory: the bytes of such a file, which are copied. */
nnc_model *nnc_model_open_memory(const void *artefact, size_t bytes, uint32_t threads);

/* Another model of the same program, for another thread. Code, constants and threads are shared. Returns null on
 * failure. */
nnc_model *nnc_model_share(const nnc_model *model);

/* Closes a model; null is allowed. The last one that shares a program also ends its threads. */
void nnc_model_close(nnc_model *model);

/* Number of inputs and outputs. */
uint32_t nnc_model_inputs(const nnc_model *model);
uint32_t nnc_model_outputs(const nnc_model *model);

/* Describes an input or output, counted from 0. Returns 0, or 1 if there is no such one. */
int nnc_model_input(const nnc_model *model, uint32_t index, nnc_tensor *info);
int nnc_model_output(const nnc_model *model, uint32_t index, nnc_tensor *info);

/* The extents of an output after a run. They differ from those of nnc_model_output where data decide how large it is: then
 * that names the most, and the elements that are there stand first in the buffer, as a dense tensor of these extents. shape
 * has room for its rank. Returns 0, or 1 if there is no such output. */
int nnc_model_output_shape(const nnc_model *model, uint32_t index, uint64_t *shape);

/* Runs the model. inputs and outputs are arrays of pointers to dense row-major tensors in the order of the model, each
 * aligned to its elements; no output overlaps another tensor. Allocates nothing. Returns 0, or 1 if a pointer is null or
 * not aligned; then nothing was computed; or 2 if the data contain an index that leads outside of what it points into;
 * then the outputs mean nothing, and nnc_last_error names node, axis, index and extent. One call at a time for each model; threads that run at once open one with
 * nnc_model_share. */
int nnc_model_run(nnc_model *model, const void *const *inputs, void *const *outputs);

/* The message of the last failure on this thread. Valid until the next failure on it. */
const char *nnc_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
