/* libnnc: runs programs compiled by nnc, and compiles ONNX models.
 *
 *     nnc_model *model = nnc_model_open("net.nnc.so", 0);
 *     if (!model) { fprintf(stderr, "%s\n", nnc_last_error()); exit(1); }
 *     const void *inputs[] = { image };
 *     void *outputs[] = { scores };
 *     if (nnc_model_run(model, inputs, outputs)) { fprintf(stderr, "%s\n", nnc_last_error()); exit(1); }
 *     nnc_model_close(model);
 *
 * Failure is a null pointer or a number other than 0, and nnc_last_error says what is wrong and what to do. Whatever is opened
 * is closed by the function of its kind, once; all of them allow null.
 *
 * Threads: any function may be called on any thread, and at the same time as any other, as long as no two calls at once have
 * one handle of which a function changes something, that is, takes it without const: one model runs once at a time. For each
 * thread that runs a program, open a model with nnc_model_share. A handle may move to another thread between calls. Behind
 * fork, the child opens its own. */
#ifndef NNC_H
#define NNC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; nnc_version is that of the library. */
#define NNC_VERSION_MAJOR 0
#define NNC_VERSION_MINOR 1
#define NNC_VERSION_PATCH 0

/* The version of the library: "0.1.0". */
const char *nnc_version(void);

/* The message of the last failure on this thread, in UTF-8. Valid until the next failure on it. */
const char *nnc_last_error(void);

/* ---- Models that run ---- */

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
    NNC_BF16 = 16
} nnc_type;

/* An input or output. The pointers live as long as any model that shares this program. */
typedef struct nnc_tensor {
    const char *name;      /* in the model; UTF-8 */
    uint32_t type;         /* an nnc_type */
    uint32_t rank;         /* number of extents */
    const uint64_t *shape; /* extents, outermost first, in the model's axis order */
    uint64_t bytes;        /* size of a dense row-major tensor */
} nnc_tensor;

/* Loads a program and starts threads for it; 0 threads stand for one for each core, 1 for the calling thread alone. Returns
 * null on failure.
 *
 * The file is verified: a damaged or incomplete one, one of another version, or for another CPU is refused. But its code
 * will run in this process, so it must come from somebody you trust. */
nnc_model *nnc_model_open(const char *path, uint32_t threads);

/* The same for a program in memory: the bytes of such a file, which are copied. */
nnc_model *nnc_model_open_memory(const void *artefact, size_t bytes, uint32_t threads);

/* The same for a file whose pages are used where they are, shared between processes and read when they are touched: fast, and
 * without the checksum of all of it. Nobody may change or shorten the file as long as a model of it is open; replace it by
 * renaming another one to its name. */
nnc_model *nnc_model_map(const char *path, uint32_t threads);

/* Another model of the same program, for another thread. Code, constants and threads are shared. Returns null on
 * failure. */
nnc_model *nnc_model_share(const nnc_model *model);

/* Closes a model. The last one that has a program or threads ends them. */
void nnc_model_close(nnc_model *model);

/* Number of inputs and outputs. */
uint32_t nnc_model_inputs(const nnc_model *model);
uint32_t nnc_model_outputs(const nnc_model *model);

/* Describes an input or output, counted from 0. Returns 0, or 1 if there is no such one. */
int nnc_model_input(const nnc_model *model, uint32_t index, nnc_tensor *info);
int nnc_model_output(const nnc_model *model, uint32_t index, nnc_tensor *info);

/* The index of the input or output of a name. Returns 0, or 1 if there is no such one; the message lists those there are. */
int nnc_model_find_input(const nnc_model *model, const char *name, uint32_t *index);
int nnc_model_find_output(const nnc_model *model, const char *name, uint32_t *index);

/* The extents of an output after a run. They differ from those of nnc_model_output where data decide how large it is: then
 * that names the most, and the elements that are there stand first in the buffer, as a dense tensor of these extents. shape
 * has room for its rank. Returns 0, or 1 if there is no such output. */
int nnc_model_output_shape(const nnc_model *model, uint32_t index, uint64_t *shape);

/* Runs the model. inputs and outputs are arrays of pointers to dense row-major tensors in the order of the model, each
 * aligned to its elements; no output overlaps another tensor. Allocates nothing. Returns 0, or 1 if a pointer is null or
 * not aligned; then nothing was computed; or 2 if the data contain an index that leads outside of what it points into;
 * then the outputs mean nothing, and nnc_last_error names node, axis, index and extent. */
int nnc_model_run(nnc_model *model, const void *const *inputs, void *const *outputs);

/* ---- Threads for several models ---- */

/* Threads that models of different programs share. */
typedef struct nnc_pool nnc_pool;

/* Starts threads; 0 stands for one for each core. The thread that calls nnc_model_run is one of them. Returns null on failure. */
nnc_pool *nnc_pool_open(uint32_t threads);

/* Closes a pool. Models that use it keep its threads. */
void nnc_pool_close(nnc_pool *pool);

/* Gives a model these threads in place of its own; open it with 1, so that it has none. While the threads work for one model, a
 * run of another goes on its calling thread alone. The results are the same for any number of threads. Returns 0, or 1 on failure;
 * then the model is as it was. */
int nnc_model_use_pool(nnc_model *model, const nnc_pool *pool);

/* ---- Compiling: in a libnnc that was built with the compiler ----
 *
 *     nnc_onnx *onnx = nnc_onnx_open("net.onnx");
 *     nnc_options *options = nnc_options_new();
 *     nnc_options_dim(options, "batch", 1);
 *     nnc_model *model = nnc_compile(onnx, options, 0);
 *
 * `pkg-config --variable=compiler nnc` says yes or no; without the compiler, linking with one of these fails. */

/* An ONNX model that was read. */
typedef struct nnc_onnx nnc_onnx;

/* How to compile. */
typedef struct nnc_options nnc_options;

/* A compiled program as the bytes of a file. */
typedef struct nnc_artefact nnc_artefact;

/* Reads a model from a file, or from memory, which is copied. Returns null on failure. A model need not be trusted. */
nnc_onnx *nnc_onnx_open(const char *path);
nnc_onnx *nnc_onnx_open_memory(const void *model, size_t bytes);
void nnc_onnx_close(nnc_onnx *onnx);

/* Options as they are unless they are set: for this machine, in 32-bit floats, with one compiling thread for each core. */
nnc_options *nnc_options_new(void);
void nnc_options_close(nnc_options *options);

/* The extent of a named dim that the model leaves open. These functions return 0, or 1 on failure; the options are then as they
 * were. */
int nnc_options_dim(nnc_options *options, const char *name, uint64_t extent);

/* The shape of an input that the model leaves open. */
int nnc_options_shape(nnc_options *options, const char *input, const uint64_t *shape, uint32_t rank);

/* What to compile for, as `nnc compile --target` has it: "native", "x86-64-v3" and so on; for nnc_compile, what runs here. */
int nnc_options_target(nnc_options *options, const char *target);

/* What weights and what lies between layers are stored in: "f32", "bf16" or "f16". Inputs and outputs stay as the model has
 * them. */
int nnc_options_precision(nnc_options *options, const char *precision);

/* Threads that compile; 0 stands for one for each core. The program is the same for any number. */
int nnc_options_threads(nnc_options *options, uint32_t threads);

/* A folder to keep programs of nnc_compile in, which is made if need be: the next time they are loaded from there. Their code runs
 * in this process, so only those may write to it whom you trust. */
int nnc_options_cache(nnc_options *options, const char *folder);

/* Compiles a model in memory, to run with so many threads, as for nnc_model_open. options may be null. Returns null on failure.
 * The model that is returned needs neither onnx nor options any more. */
nnc_model *nnc_compile(const nnc_onnx *onnx, const nnc_options *options, uint32_t threads);

/* Compiles a model to what nnc_model_open_memory takes, and what is a file for nnc_model_open. options may be null. Returns null on
 * failure. */
nnc_artefact *nnc_compile_artefact(const nnc_onnx *onnx, const nnc_options *options);

/* The bytes of an artefact, which live until it is closed, and how many there are. */
const void *nnc_artefact_data(const nnc_artefact *artefact);
size_t nnc_artefact_bytes(const nnc_artefact *artefact);

/* Writes an artefact to a file, whole or not at all. Returns 0, or 1 on failure. */
int nnc_artefact_write(const nnc_artefact *artefact, const char *path);

void nnc_artefact_close(nnc_artefact *artefact);

#ifdef __cplusplus
}
#endif

#endif
