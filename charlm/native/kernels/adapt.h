// Dynamic evaluation: one text is read window by window, with an update in place after each. The
// weights are stored plain and packed; everything is float32 and of one lane.
#pragma once
#include <cmath>
#include <vector>
#include "backward.h"
#include "forward.h"
#include "loss.h"
#include "pack.h"

// A matrix, or a vector as one row, with the update from its gradient g; whole vectors of columns:
//     w -= share * steps * g;  w += pulls * (trained - w)
struct Learned {
    float *weights;
    const float *trained, *steps, *pulls;
    int64_t rows, columns;
};

struct AdaptingLayer {
    LayerArgs window;                            // T: that of the window being read
    Learned weight_ih, weight_hh, bias, bias_n;  // no rows: there is none (bias_n: GRU_AFTER has one)
    float *packed_below;                         // W_ih for dz W; null if nothing below is learned
};

struct Adapter {
    int64_t layers, end, threads;         // end: of a record, or -1
    AdaptingLayer *layer;
    Learned embedding, head, head_bias;   // embedding: all vectors; constant without steps
    float *head_forward, *head_backward;  // the head, packed
    float *vectors, *d_vectors;           // [T, E]; d_vectors and d_embedding if it is learned
    float *d_embedding;                   // as the embedding
    float *logits;                        // [T, columns], afterwards their gradient
    uint8_t *resets;                      // [T]
    double longest;                       // a longer gradient is scaled down to it
};

// Rows `first` to `first + rows` of a matrix have the gradient left^T right. left [T, rows] and right
// [T, columns], each `stride` apart.
struct Factors {
    const Learned *matrix;
    int64_t first, rows;
    const float *left; int64_t left_stride;
    const float *right; int64_t right_stride;
};

INLINE double inner_product(const float *a, const float *b, int64_t count) {
    vec sums = {};
    for (int64_t i = 0; i < count; i += WIDTH) sums = fused(load(a + i), load(b + i), sums);
    double sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += sums[i];
    return sum;
}

// |left^T right|^2 = sum over s and t of (left_s . left_t) (right_s . right_t).
static double squared_length(const Factors &f, int T) {
    double sum = 0;
    for (int s = 0; s < T; s++)
        for (int t = 0; t <= s; t++)
            sum += (s == t ? 1.0 : 2.0) *
                   inner_product(f.left + s * f.left_stride, f.left + t * f.left_stride, f.rows) *
                   inner_product(f.right + s * f.right_stride, f.right + t * f.right_stride,
                                 f.matrix->columns);
    return sum;
}

INLINE void learn(const Learned &m, int64_t at, vec gradient, float share) {
    const vec w = fused(load(m.steps + at) * -share, gradient, load(m.weights + at));
    store(m.weights + at, fused(load(m.pulls + at), load(m.trained + at) - w, w));
}

static void learn_product(const Factors &f, int T, float share, int64_t threads) {
    constexpr int M = 2;
    const int64_t columns = f.matrix->columns;
    parallel_for(threads, f.rows / M, [&](int64_t from, int64_t until) {
        for (int64_t j = from * M; j < until * M; j += M)
            for (int64_t i = 0; i < columns; i += 4 * WIDTH)
                with_constant<4>(int(std::min<int64_t>(4, (columns - i) / WIDTH)), [&](auto n_) {
                    constexpr int N = n_;
                    vec g[M][N] = {};
                    for (int t = 0; t < T; t++) {
                        const float *right = f.right + t * f.right_stride + i;
                        const float *left = f.left + t * f.left_stride + j;
                        UNROLL for (int n = 0; n < N; n++) {
                            vec y = load(right + n * WIDTH);
                            UNROLL for (int m = 0; m < M; m++) g[m][n] = fused(splat(left[m]), y, g[m][n]);
                        }
                    }
                    UNROLL for (int m = 0; m < M; m++)
                        UNROLL for (int n = 0; n < N; n++)
                            learn(*f.matrix, (f.first + j + m) * columns + i + n * WIDTH, g[m][n], share);
                });
    });
}

// A matrix or vector with all of its gradient; see Factors for the large ones.
struct Dense {
    const Learned *matrix;
    std::vector<float> gradient;
};

static void learn_dense(const Learned &m, const float *gradient, float share) {
    for (int64_t at = 0; at < m.rows * m.columns; at += WIDTH)
        learn(m, at, load(gradient + at), share);
}

static std::vector<float> column_sums(const float *rows, int64_t stride, int64_t columns, int T) {
    std::vector<float> sums(columns);
    for (int t = 0; t < T; t++)
        for (int64_t j = 0; j < columns; j += WIDTH)
            store(&sums[j], load(&sums[j]) + load(rows + t * stride + j));
    return sums;
}

// Positions of the gradients of a layer's products in a row of `d_projected`; see gru_after_backward.
struct Gradients {
    const float *rows, *below;  // below: those of W_ih x
    int64_t stride, count;      // count: G * H

    explicit Gradients(const LayerArgs &w)
        : rows((const float *)w.d_projected), below(rows + (w.kind == GRU_AFTER ? w.H : 0)),
          stride(w.H * (w.kind == GRU_AFTER ? 4 : CELL_KINDS[w.kind].gates)),
          count(w.H * CELL_KINDS[w.kind].gates) {}
};

static void add_factors(const AdaptingLayer &layer, std::vector<Factors> &all) {
    const LayerArgs &w = layer.window;
    const Gradients d(w);
    const float *h = (const float *)w.h;
    const int64_t H = w.H, I = w.below_size;
    all.push_back({&layer.weight_ih, 0, d.count, d.below, d.stride, (const float *)w.below, I});
    if (!CELL_KINDS[w.kind].has_matrix()) return;
    if (w.kind == GRU_AFTER) {
        all.push_back({&layer.weight_hh, 0, 2 * H, d.rows + H, d.stride, h, H});
        all.push_back({&layer.weight_hh, 2 * H, H, d.rows, d.stride, h, H});
    } else if (w.kind == GRU_BEFORE) {
        all.push_back({&layer.weight_hh, 0, 2 * H, d.rows, d.stride, h, H});
        all.push_back({&layer.weight_hh, 2 * H, H, d.rows + 2 * H, d.stride, (const float *)w.reset_h, H});
    } else {
        all.push_back({&layer.weight_hh, 0, d.count, d.rows, d.stride, h, H});
    }
}

// Packs a layer's weights, and those below it, as its passes read them.
static void pack_adapted(const AdaptingLayer &layer, int64_t threads) {
    const LayerArgs &w = layer.window;
    const float *ih = layer.weight_ih.weights;
    const float *hh = CELL_KINDS[w.kind].has_matrix() ? layer.weight_hh.weights : nullptr;
    if (hh) pack_cell<float>(w.kind, w.H, w.H, hh, (float *)w.forward_weights, threads);
    if (hh) pack_cell_backward<float>(w.kind, w.H, w.H, hh, (float *)w.backward_weights, false, threads);
    pack_cell<float>(w.kind, w.H, w.below_size, ih, (float *)w.below_weights, threads);
    if (layer.packed_below)
        pack_cell_backward<float>(w.kind, w.H, w.below_size, ih, layer.packed_below, true, threads);
}

static void pack_adapted_head(const Adapter &a) {
    const Learned &m = a.head;
    pack_head<float>(m.rows, m.columns, m.weights, a.head_forward);
    pack_backward<float>(a.head_backward, m.weights, m.rows, m.columns, {0, 1, 0}, 0, 1);
}

static void pack_all(const Adapter &a) {
    for (int64_t i = 0; i < a.layers; i++) pack_adapted(a.layer[i], a.threads);
    pack_adapted_head(a);
}

// A layer's outputs over the window, [T, H].
INLINE float *shown(const LayerArgs &w) { return w.resets ? (float *)w.outputs : (float *)w.h + w.H; }

static void read_forward(Adapter &a, const int64_t *symbols, int T) {
    bool begins = false;
    for (int t = 0; t < T; t++) {
        const int64_t E = a.embedding.columns;
        memcpy(a.vectors + t * E, a.embedding.weights + symbols[t] * E, E * sizeof(float));
        a.resets[t] = symbols[t] == a.end;
        begins = begins || a.resets[t];
    }
    const float *x = a.vectors;
    for (int64_t i = 0; i < a.layers; i++) {
        LayerArgs &w = a.layer[i].window;
        w.T = T;
        w.below = x;
        w.resets = begins ? a.resets : nullptr;
        run_forward<float>(w, 0, 1);
        x = shown(w);
    }
    head_product(x, T, a.head.columns, a.head_forward, a.head_bias.weights, a.head.rows, a.logits);
}

// From the gradient of the logits to those of every product, in `d_projected`, and of the embedding.
static void read_backward(Adapter &a, const int64_t *symbols, int T) {
    float *d = (float *)a.layer[a.layers - 1].window.d_output;
    rows_product<float>(a.logits, a.head.rows, T, a.head.rows, a.head_backward, a.head.columns, d, 1);
    for (int64_t i = a.layers; i-- > 0;) {
        const AdaptingLayer &layer = a.layer[i];
        run_backward<float>(layer.window, 0, 1);
        if (!layer.packed_below) continue;
        const Gradients g(layer.window);
        d = i ? (float *)a.layer[i - 1].window.d_output : a.d_vectors;
        rows_product<float>(g.below, g.stride, T, g.count, layer.packed_below, layer.window.below_size, d, 1);
    }
    if (a.embedding.steps)
        scatter<float>(a.d_vectors, a.embedding.columns, symbols, T, a.embedding.columns, a.d_embedding,
                       a.embedding.rows, 1);
}

static void learn_from_window(const Adapter &a, int T) {
    std::vector<Factors> factors;
    std::vector<Dense> dense;
    double squares = 0;
    const int64_t H = a.head.columns;
    factors.push_back({&a.head, 0, a.head.rows, a.logits, a.head.rows,
                       shown(a.layer[a.layers - 1].window), H});
    dense.push_back({&a.head_bias, column_sums(a.logits, a.head.rows, a.head.rows, T)});
    for (int64_t i = 0; i < a.layers; i++) {
        const AdaptingLayer &layer = a.layer[i];
        const Gradients d(layer.window);
        add_factors(layer, factors);
        const CellKind &cell = CELL_KINDS[layer.window.kind];
        if (cell.recurrent == VECTOR)
            dense.push_back({&layer.weight_hh, {layer.window.scratch, layer.window.scratch + layer.window.H}});
        if (!layer.bias.rows) continue;
        dense.push_back({&layer.bias, column_sums(d.below, d.stride, d.count, T)});
        if (!cell.has_matrix()) continue;
        // Every bias but the candidate's of GRU_AFTER stands for two parameters, which are added.
        const float *sums = dense.back().gradient.data();
        squares += inner_product(sums, sums, layer.bias_n.rows ? 2 * layer.window.H : d.count);
        if (layer.bias_n.rows)
            dense.push_back({&layer.bias_n, column_sums(d.rows, d.stride, layer.window.H, T)});
    }
    for (const Factors &f : factors) squares += squared_length(f, T);
    for (const Dense &g : dense)
        squares += inner_product(g.gradient.data(), g.gradient.data(), int64_t(g.gradient.size()));
    const int64_t embedded = a.embedding.rows * a.embedding.columns;
    if (a.embedding.steps) squares += inner_product(a.d_embedding, a.d_embedding, embedded);

    // The norm overflows float32: the update is skipped.
    const double length = std::sqrt(squares);
    const float share = length <= a.longest ? 1.0f : std::isfinite(length) ? float(a.longest / length) : 0.0f;
    if (!share) return;
    for (const Factors &f : factors) learn_product(f, T, share, a.threads);
    for (const Dense &g : dense) learn_dense(*g.matrix, g.gradient.data(), share);
    if (a.embedding.steps) learn_dense(a.embedding, a.d_embedding, share);
}

// losses [T]: -ln p of the targets. logits [T, columns], before the update.
static void adapt(Adapter &a, const int64_t *symbols, const int64_t *targets, int64_t T, float *losses,
                  float *logits) {
    read_forward(a, symbols, int(T));
    memcpy(logits, a.logits, T * a.head.rows * sizeof(float));
    for (int64_t t = 0; t < T; t++) {
        float *row = a.logits + t * a.head.rows;
        losses[t] = row_loss(row, targets[t], a.head.rows, 1.0f / float(T), row);
    }
    read_backward(a, symbols, int(T));
    learn_from_window(a, int(T));
    pack_all(a);
    for (int64_t i = 0; i < a.layers; i++) {
        const LayerArgs &w = a.layer[i].window;
        memcpy(w.h, (float *)w.h + T * w.H, w.H * sizeof(float));
    }
}
