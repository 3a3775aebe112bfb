// C interface for Python: training. Compiled for TYPE float32 and for TYPE bfloat16.
#include "backward.h"
#include "forward.h"
#include "loss.h"
#include "pack.h"
#include "step.h"

#define JOINED(NAME, SUFFIX) NAME##_##SUFFIX
#define NAMED(NAME, SUFFIX) JOINED(NAME, SUFFIX)
#define EXPORT(NAME) __attribute__((visibility("default"))) NAMED(charlm_##NAME, TYPE)

typedef float float32;
typedef void *Handle;

#if HAS_BFLOAT16 || !defined(WANTS_BFLOAT16)

typedef TYPE S;

// write.cpp and adapt.cpp read with the same functions.
template void rnn_forward<S>(const LayerArgs &, int, int);
template void lstm_forward<S>(const LayerArgs &, int, int);
template void gru_after_forward<S>(const LayerArgs &, int, int);
template void gru_before_forward<S>(const LayerArgs &, int, int);

// The first layer's table is float32 in any precision.
#define TABLE(KEYWORD)                                                                             \
    KEYWORD template void weight_gradient<float>(const float *, int64_t, int64_t, const float *,  \
        int64_t, int64_t, int64_t, int64_t, float *, float *, float *, int64_t);                  \
    KEYWORD template void rows_product<float>(const float *, int64_t, int64_t, int64_t,           \
        const float *, int64_t, float *, int64_t);
#if defined(WANTS_BFLOAT16)
TABLE(extern)
#else
TABLE()
#endif

extern "C" {

// backward: null if no backward pass follows; packed as one matrix if `together`.
void EXPORT(pack)(int64_t kind, int64_t H, int64_t K, const float *w, S *forward, S *backward,
                  int64_t together, int64_t threads) {
    pack_cell<S>(kind, H, K, w, forward, threads);
    if (backward) pack_cell_backward<S>(kind, H, K, w, backward, together, threads);
}

void EXPORT(forward)(const LayerArgs *w) {
    parallel_pieces(w->threads, w->B, lanes_at_once(w->kind, w->B, w->H, sizeof(S), w->threads),
                    [&](int64_t b0, int64_t b1) { run_forward<S>(*w, int(b0), int(b1)); });
}

void EXPORT(backward)(const LayerArgs *w) {
    parallel_pieces(w->threads, w->B, lanes_at_once(w->kind, w->B, w->H, sizeof(S), w->threads),
                    [&](int64_t b0, int64_t b1) { run_backward<S>(*w, int(b0), int(b1)); });
}

void EXPORT(weights)(const S *left, int64_t left_stride, int64_t J, const S *right,
                     int64_t right_stride, int64_t I, int64_t rows, int64_t rotate, float *result,
                     float *sums, S *workspace, int64_t threads) {
    weight_gradient<S>(left, left_stride, J, right, right_stride, I, rows, rotate, result, sums,
                       workspace, threads);
}

void EXPORT(product)(const S *rows, int64_t stride, int64_t count, int64_t K, const S *weights,
                     int64_t columns, S *result, int64_t threads) {
    rows_product<S>(rows, stride, count, K, weights, columns, result, threads);
}

void EXPORT(scatter)(const S *rows, int64_t stride, const int64_t *symbols, int64_t N,
                     int64_t columns, float *sums, int64_t V, int64_t threads) {
    scatter<S>(rows, stride, symbols, N, columns, sums, V, threads);
}

void EXPORT(drop)(const S *rows, const uint8_t *draws, int64_t count, int64_t H, int64_t padded,
                  int64_t threshold, S *to, int64_t threads) {
    const float scale = 256.0f / float(256 - threshold);
    drop<S>(rows, draws, count, H, padded, threshold, scale, to, threads);
}

// w [columns, H]
void EXPORT(pack_head)(int64_t columns, int64_t H, const float *w, S *forward, S *backward,
                       int64_t threads) {
    pack_head<S>(columns, H, w, forward);
    if (backward) pack_backward<S>(backward, w, columns, H, {0, 1, 0}, 0, threads);
}

// A model's training steps, or null if there is no memory for it; see TrainingStep.
Handle EXPORT(new_step)(const StepSizes *sizes, float *const *weights, float *const *first,
                       float *const *second, float *const *average) {
    try {
        return new TrainingStep<S>(*sizes, weights, first, second, average);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void EXPORT(delete_step)(void *step) { delete (TrainingStep<S> *)step; }

// 0; 1 for a symbol that is not in the vocabulary; 2 without memory.
int EXPORT(take_step)(void *step, const StepArgs *args) {
    try {
        return ((TrainingStep<S> *)step)->take(*args) ? 0 : 1;
    } catch (const std::bad_alloc &) {
        return 2;
    }
}

// 0; 2 without memory.
int EXPORT(loss)(const S *rows, int64_t count, int64_t H, const S *head, const float *bias,
                  int64_t columns, const int64_t *targets, float *losses, S *gradient,
                  int64_t threads) {
    try {
        head_loss<S>(rows, count, H, head, bias, columns, targets, losses, gradient, threads);
        return 0;
    } catch (const std::bad_alloc &) {
        return 2;
    }
}

#if !defined(WANTS_BFLOAT16)
__attribute__((visibility("default"))) int64_t charlm_step_sizes_size() { return sizeof(StepSizes); }
__attribute__((visibility("default"))) int64_t charlm_step_args_size() { return sizeof(StepArgs); }
#endif

}

#endif
