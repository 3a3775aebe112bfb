// What Python calls: plain C, pointers and sizes. Built by charlm/native/build.py.
#include <cmath>
#include <omp.h>
#include "backward.h"
#include "forward.h"
#include "loss.h"
#include "write.h"

namespace {

int team(int64_t threads, int64_t parts) { return int(threads < parts ? threads : parts); }

// Every thread its share of [0, parts).
template <class F> void shared(int64_t threads, int64_t parts, F f) {
    const int count = team(threads, parts);
#pragma omp parallel num_threads(count)
    {
        const int64_t i = omp_get_thread_num(), n = omp_get_num_threads();
        f(parts * i / n, parts * (i + 1) / n);
    }
}

template <class S> void forward(const Window &w) {
    shared(w.threads, w.B, [&](int64_t b0, int64_t b1) {
        switch (w.kind) {
            case LSTM: return lstm_forward<S>(w, b0, b1);
            case GRU_AFTER: return gru_after_forward<S>(w, b0, b1);
            case GRU_BEFORE: return gru_before_forward<S>(w, b0, b1);
            default: return rnn_forward<S>(w, b0, b1);
        }
    });
}

template <class S> void backward(const Window &w) {
    shared(w.threads, w.B, [&](int64_t b0, int64_t b1) {
        switch (w.kind) {
            case LSTM: return lstm_backward<S>(w, b0, b1);
            case GRU_AFTER: return gru_after_backward<S>(w, b0, b1);
            case GRU_BEFORE: return gru_before_backward<S>(w, b0, b1);
            default: return rnn_backward<S>(w, b0, b1);
        }
    });
}

// Column groups of the products of `kind`, each with the place where it is packed. `gates` blocks
// from `first` on are packed unit vector by unit vector, `side` vectors of units in a group.
struct Part { int64_t first, gates, side; };

// w: [G*H, K], for products with rows of K.
template <class S>
void pack_forward(S *to, const float *w, int64_t H, int64_t K, Part part, int64_t threads) {
    const int64_t vectors = H / WIDTH, groups = (vectors + part.side - 1) / part.side;
    shared(threads, groups, [&](int64_t from, int64_t until) {
        for (int64_t group = from; group < until; group++) {
            int64_t columns[8]; int N = 0;
            const int64_t v = group * part.side;
            for (int64_t n = v; n < v + part.side && n < vectors; n++)
                for (int64_t g = 0; g < part.gates; g++)
                    columns[N++] = (part.first + g) * H + n * WIDTH;
            S *place = to + packed<S>(part.first * H + v * WIDTH * part.gates, K);
            pack_group<S>(place, w, 1, K, int(K), columns, N);
        }
    });
}

template <class S>
void pack_backward(S *to, const float *w, int64_t H, Part part, int64_t threads) {
    const int64_t vectors = H / WIDTH, groups = (vectors + 3) / 4, K = part.gates * H;
    shared(threads, groups, [&](int64_t from, int64_t until) {
        for (int64_t group = from; group < until; group++) {
            int64_t columns[4]; int N = 0;
            for (int64_t n = 4 * group; n < 4 * group + 4 && n < vectors; n++)
                columns[N++] = n * WIDTH;
            pack_group<S>(to + part.first * H * H + 4 * group * WIDTH * K, w + part.first * H * H, H, 1, int(K), columns, N);
        }
    });
}

template <class S>
void pack_all(int64_t kind, int64_t H, int64_t K, const float *w, S *forward, S *backward,
              int64_t threads) {
    Part parts[2] = {{0, 1, 4}, {0, 0, 0}};
    if (kind == LSTM) parts[0] = {0, 4, 1};
    if (kind == GRU_AFTER) parts[0] = {0, 3, 1};
    if (kind == GRU_BEFORE) { parts[0] = {0, 2, 1}; parts[1] = {2, 1, 4}; }
    for (const Part &part : parts) {
        if (!part.gates) continue;
        pack_forward<S>(forward, w, H, K, part, threads);
        if constexpr (!std::is_same_v<S, quantized>)
            if (backward) pack_backward<S>(backward, w, H, part, threads);
    }
}

// sums[symbols[n]] += rows[n], a stretch of columns for every thread.
template <class S>
void scatter(const S *rows, const int64_t *symbols, int64_t N, int64_t columns, float *sums,
             int64_t threads) {
    shared(threads, columns / WIDTH, [&](int64_t from, int64_t until) {
        constexpr int64_t BLOCK = 16;  // vectors of columns at once: the sums stay in the cache
        for (int64_t v = from; v < until; v += BLOCK)
            for (int64_t n = 0; n < N; n++) {
                float *sum = sums + symbols[n] * columns;
                const S *row = rows + n * columns;
                const int64_t end = v + BLOCK < until ? v + BLOCK : until;
                for (int64_t i = v; i < end; i++)
                    store(sum + i * WIDTH, load(sum + i * WIDTH) + load(row + i * WIDTH));
            }
    });
}

}  // namespace

extern "C" {

#pragma GCC visibility push(default)

#if defined(TRAIN_FLOAT32)
int64_t charlm_width() { return WIDTH; }
int64_t charlm_has_bfloat16() { return HAS_BFLOAT16; }
int64_t charlm_has_int8() { return HAS_QUANTIZED; }
#endif

#define EXPORT(NAME, S)                                                                            \
    void charlm_forward_##NAME(const Window *w) { forward<S>(*w); }                                \
    void charlm_backward_##NAME(const Window *w) { backward<S>(*w); }                              \
    void charlm_scatter_##NAME(const S *rows, const int64_t *symbols, int64_t N, int64_t columns,  \
                               float *sums, int64_t threads) {                                     \
        scatter<S>(rows, symbols, N, columns, sums, threads);                                      \
    }                                                                                              \
    double charlm_loss_##NAME(const S *logits, const int64_t *targets, int64_t N, int64_t V,       \
                              S *gradient, int64_t threads) {                                      \
        return loss<S>(logits, targets, N, V, gradient, threads);                                  \
    }

#define EXPORT_WRITER(NAME, S)                                                                     \
    void charlm_pack_##NAME(int64_t kind, int64_t H, int64_t K, const float *w, S *f, S *b,        \
                            int64_t threads) {                                                     \
        pack_all<S>(kind, H, K, w, f, b, threads);                                                 \
    }                                                                                              \
    void charlm_pack_head_##NAME(int64_t V, int64_t K, const float *w, S *to) {                    \
        for (int64_t v = 0; v < V; v += 4 * WIDTH) {                                               \
            int64_t columns[4]; int N = 0;                                                         \
            for (int64_t n = v; n < v + 4 * WIDTH && n < V; n += WIDTH) columns[N++] = n;          \
            pack_group<S>(to + packed<S>(v, K), w, 1, K, int(K), columns, N);                      \
        }                                                                                          \
    }                                                                                              \
    void charlm_store_##NAME(const float *from, int64_t count, S *to) {                            \
        for (int64_t i = 0; i < count; i += WIDTH) store(to + i, load(from + i));                  \
    }                                                                                              \
    void charlm_read_##NAME(const Writer *w, const int64_t *symbols, int64_t count) {              \
        read_symbols<S>(*w, symbols, count);                                                       \
    }                                                                                              \
    void charlm_write_##NAME(const Writer *w, const double *uniforms, int64_t count,               \
                             int64_t *symbols, double *nats) {                                     \
        write_symbols<S>(*w, uniforms, count, symbols, nats);                                      \
    }

#if defined(TRAIN_FLOAT32)
EXPORT(float32, float)
#elif defined(TRAIN_BFLOAT16)
#if HAS_BFLOAT16
EXPORT(bfloat16, bfloat16)
#endif
#else
EXPORT_WRITER(float32, float)
#if HAS_BFLOAT16
EXPORT_WRITER(bfloat16, bfloat16)
#endif
#if HAS_QUANTIZED
EXPORT_WRITER(int8, quantized)
#endif
#endif
#pragma GCC visibility pop
}
