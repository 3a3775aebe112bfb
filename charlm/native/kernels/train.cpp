// C interface for Python: training. Compiled for TYPE float32 and for TYPE bfloat16.
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
template void linear_forward<S, MINGRU>(const LayerArgs &, int, int);
template void linear_forward<S, MINLSTM>(const LayerArgs &, int, int);
template void linear_forward<S, INDRNN>(const LayerArgs &, int, int);

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

template <class F> static int result_of(const F &compute) {
    try {
        return compute() ? 0 : 1;
    } catch (const std::bad_alloc &) {
        return 2;
    }
}

extern "C" {

// result = rows W, for the table of writing; see rows_product.
void EXPORT(product)(const S *rows, int64_t stride, int64_t count, int64_t K, const S *weights,
                     int64_t columns, S *result, int64_t threads) {
    rows_product<S>(rows, stride, count, K, weights, columns, result, threads);
}

// A model, or null if there is no memory for it. See Model.
Handle EXPORT(new_model)(const ModelSizes *sizes, float *const *weights, float *const *first,
                         float *const *second, float *const *average) {
    try {
        return new Model<S>(*sizes, weights, first, second, average);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void EXPORT(delete_model)(void *model) { delete (Model<S> *)model; }

// Each of these returns 0; 1 for a symbol that is not in the vocabulary; 2 without memory.
int EXPORT(read_window)(void *model, const WindowArgs *args) {
    return result_of([&] { return ((Model<S> *)model)->read(*args); });
}
int EXPORT(learn_layer)(void *model, const WindowArgs *args, int64_t layer) {
    return result_of([&] { return ((Model<S> *)model)->learn(*args, layer); });
}
int EXPORT(take_step)(void *model, const WindowArgs *args, const Update *update, float *loss_sum,
                      float *norm) {
    return result_of([&] { return ((Model<S> *)model)->take(*args, *update, loss_sum, norm); });
}

#if !defined(WANTS_BFLOAT16)
__attribute__((visibility("default"))) int64_t charlm_model_sizes_size() { return sizeof(ModelSizes); }
__attribute__((visibility("default"))) int64_t charlm_window_args_size() { return sizeof(WindowArgs); }
__attribute__((visibility("default"))) int64_t charlm_update_size() { return sizeof(Update); }
#endif

}

#endif
