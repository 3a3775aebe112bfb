// Whole training steps: from the symbols of a window to the updated weights.
//
// T time, B lanes, V vocabulary size, E embedding size, H hidden size, G gate blocks, I the input size of
// a layer. Sizes in buffers are padded with zeros to whole vectors; parameters are not: they are torch's.
#pragma once
#include <memory>
#include <new>
#include <vector>
#include "backward.h"
#include "dropout.h"
#include "forward.h"
#include "loss.h"
#include "optimizer.h"
#include "pack.h"

// Zeros, aligned as streamed stores need them. Throws std::bad_alloc.
template <class T> struct Buffer {
    struct Free {
        void operator()(T *p) const { operator delete(p, std::align_val_t(64)); }
    };
    std::unique_ptr<T, Free> memory;
    int64_t count = 0;

    Buffer() = default;
    explicit Buffer(int64_t elements) : count(elements) {
        if (!elements) return;
        const size_t bytes = size_t(elements) * sizeof(T);
        memory.reset((T *)operator new(bytes, std::align_val_t(64)));
        memset((void *)memory.get(), 0, bytes);
    }
    operator T *() const { return memory.get(); }
};

// The sizes of a model and of its windows. end: the symbol that ends a record, or -1; threshold: the least
// random byte that dropout keeps, 0 without dropout.
struct StepSizes { int64_t kind, layers, T, B, V, E, H, bias, end, threshold; };

// The inputs and outputs of a step. symbols [T + 1, B]: inputs and, one further on, targets; anew [B]: 1
// where a lane begins with a state of zeros; before and after: [B, H] for every part of every layer.
struct StepArgs {
    const int64_t *symbols;
    const uint8_t *anew;
    const float *const *before;
    float *const *after;
    uint64_t seed;       // of dropout
    Update update;
    float *loss_sum, *norm;
    int64_t threads;
};

constexpr float NEVER = -1e30f;  // the logit of the padding in the last vector of the vocabulary

INLINE int64_t whole(int64_t size) { return (size + WIDTH - 1) / WIDTH * WIDTH; }

// A parameter's values, padded block by block of `block` rows; the parameter itself if it has no padding.
struct Padded {
    const float *values;
    int64_t rows, columns, block, stride;
    Buffer<float> copy;
    const float *matrix;

    Padded(const float *of, int64_t rows_, int64_t columns_, int64_t block_, int64_t stride_)
        : values(of), rows(rows_), columns(columns_), block(block_), stride(stride_), matrix(of) {
        if (block % WIDTH == 0 && columns == stride) return;
        copy = Buffer<float>(rows / block * whole(block) * stride);
        matrix = copy;
    }
    void refresh(int64_t threads) const {
        if (matrix != values)
            parallel_pieces(threads, rows, 64, [&](int64_t from, int64_t until) {
                for (int64_t r = from; r < until; r++)
                    memcpy(copy + (r / block * whole(block) + r % block) * stride, values + r * columns,
                           columns * sizeof(float));
            });
    }
};

// One layer: its packed weights, the values of its window, its gradients.
template <class S> struct StepLayer {
    const CellKind &cell;
    const int64_t kind, H, I, columns;  // columns: G * H
    LayerArgs w{};
    Padded ih, hh;
    const float *bias_ih, *bias_hh;
    Buffer<float> bias, bias_n, state, c, c_before, carried, scratch, d_hh, d_ih, d_bias, d_bias_hh, sums;
    Buffer<S> forward, backward, below, below_backward, h, outputs, gates, reset_h, dropped;
    S *output = nullptr;

    // parameters: W_ih, W_hh and, with biases, those of both.
    StepLayer(const StepSizes &s, int64_t inputs, bool looked_up, float *const *parameters)
        : cell(CELL_KINDS[s.kind]), kind(s.kind), H(whole(s.H)), I(whole(inputs)), columns(cell.gates * H),
          ih(parameters[0], cell.gates * s.H, inputs, s.H, I),
          hh(parameters[1], cell.gates * s.H, s.H, s.H, H),
          bias_ih(s.bias ? parameters[2] : nullptr), bias_hh(s.bias ? parameters[3] : nullptr),
          bias(columns), bias_n(H), state(s.B * H), c(kind == LSTM ? s.B * H : 0),
          c_before(kind == LSTM ? s.T * s.B * H : 0), carried(s.B * H),
          scratch(kind == GRU_BEFORE ? s.B * H : 0), d_hh(columns * H), d_ih(columns * I),
          d_bias(columns), d_bias_hh(columns), sums(columns), forward(columns * H), backward(columns * H),
          below(looked_up ? 0 : columns * I), below_backward(looked_up ? 0 : columns * I),
          h((s.T + 1) * s.B * H), outputs(s.end < 0 ? 0 : s.T * s.B * H),
          gates(s.T * s.B * H * cell.saved_blocks), reset_h(kind == GRU_BEFORE ? s.T * s.B * H : 0),
          dropped(s.threshold ? s.T * s.B * H : 0) {
        w.kind = kind; w.T = s.T; w.B = s.B; w.H = H;
        w.bias = bias_ih && kind == GRU_AFTER ? (float *)bias_n : nullptr;
        w.forward_weights = forward; w.backward_weights = backward;
        w.h = h; w.state = state; w.c = c; w.c_before = c_before; w.gates = gates;
        w.reset_h = reset_h; w.scratch = scratch; w.d_state = w.d_c = carried;
        if (!looked_up) { w.below_weights = below; w.below_bias = bias; w.below_size = I; }
    }

    // Merge the biases: see GatedCell.merged_biases.
    void merge_biases(int64_t own) {
        if (!bias_ih) return;
        for (int64_t g = 0; g < cell.gates; g++) {
            const bool apart = kind == GRU_AFTER && g == 2;
            for (int64_t u = 0; u < own; u++)
                bias[g * H + u] = bias_ih[g * own + u] + (apart ? 0.0f : bias_hh[g * own + u]);
        }
        if (kind == GRU_AFTER) memcpy(bias_n, bias_hh + 2 * own, own * sizeof(float));
    }

    void pack(int64_t own, int64_t threads) {
        merge_biases(own);
        ih.refresh(threads);
        hh.refresh(threads);
        pack_cell<S>(kind, H, H, hh.matrix, forward, threads);
        pack_cell_backward<S>(kind, H, H, hh.matrix, backward, false, threads);
        if (!below.count) return;
        pack_cell<S>(kind, H, I, ih.matrix, below, threads);
        pack_cell_backward<S>(kind, H, I, ih.matrix, below_backward, true, threads);
    }

    // Load the states: zeros in the lanes that begin anew.
    void begin(const float *const *parts, const uint8_t *anew, int64_t own) {
        for (int64_t b = 0; b < w.B; b++)
            for (int64_t u = 0; u < own; u++) {
                state[b * H + u] = anew[b] ? 0.0f : parts[0][b * own + u];
                if (c) c[b * H + u] = anew[b] ? 0.0f : parts[1][b * own + u];
            }
        for (int64_t at = 0; at < w.B * H; at += WIDTH) store(h + at, load(state + at));
    }
    void end(float *const *parts, int64_t own) const {
        for (int64_t b = 0; b < w.B; b++) {
            memcpy(parts[0] + b * own, state + b * H, own * sizeof(float));
            if (c) memcpy(parts[1] + b * own, c + b * H, own * sizeof(float));
        }
    }

    void run_window_forward(const uint8_t *resets, int64_t threads) {
        w.threads = threads;
        w.resets = resets;
        w.outputs = resets ? (S *)outputs : nullptr;
        output = resets ? (S *)outputs : h + w.B * H;
        parallel_pieces(threads, w.B, lanes_at_once(kind, w.B, H, sizeof(S), threads),
                        [&](int64_t b0, int64_t b1) { run_forward<S>(w, int(b0), int(b1)); });
    }

    // The gradients of W_hh and of its bias; of W_ih, its bias and the layer's input, from those of the
    // output. d_rows: [T*B, columns], and H more for GRU_AFTER. Returns that of W_ih x, `stride` apart.
    const S *run_window_backward(const S *d_output, S *d_rows, S *workspace, int64_t threads) {
        const bool after = kind == GRU_AFTER;
        const int64_t rows = w.T * w.B, stride = columns + (after ? H : 0);
        w.d_output = d_output;
        w.d_projected = d_rows;
        parallel_pieces(threads, w.B, lanes_at_once(kind, w.B, H, sizeof(S), threads),
                        [&](int64_t b0, int64_t b1) { run_backward<S>(w, int(b0), int(b1)); });
        if (kind == GRU_BEFORE) {
            const int64_t both = 2 * H;
            weight_gradient<S>(d_rows, stride, both, h, H, H, rows, 0, d_hh, sums, workspace, threads);
            weight_gradient<S>(d_rows + both, stride, H, reset_h, H, H, rows, 0, d_hh + both * H, sums,
                               workspace, threads);
        } else {
            weight_gradient<S>(d_rows, stride, columns, h, H, H, rows, after ? 2 * H : 0, d_hh, sums,
                               workspace, threads);
        }
        return d_rows + (after ? H : 0);
    }
    // The gradients of the biases, when that of W_ih x's has been summed.
    void share_bias_gradient() {
        const bool after = kind == GRU_AFTER;  // there the candidate's block comes first
        memcpy(d_bias_hh, after ? sums + H : d_bias, (columns - (after ? H : 0)) * sizeof(float));
        if (after) memcpy(d_bias_hh + 2 * H, sums, H * sizeof(float));
    }
    int64_t d_stride() const { return columns + (kind == GRU_AFTER ? H : 0); }
};

template <class S> class TrainingStep {
  public:
    // parameters: values, first and second moments and, unless null, averages of every one, in the order
    // of the model: embedding, layers, head.
    TrainingStep(const StepSizes &s, float *const *weights, float *const *first, float *const *second,
                 float *const *average)
        : sizes(s), H(whole(s.H)), E(whole(s.E)), V(whole(s.V)), rows(s.T * s.B),
          looks_up(!s.E || s.V <= rows), embedding(s.E ? *weights : nullptr, s.E ? s.V : 0, s.E, s.V, E),
          head(weights[(s.E > 0) + s.layers * (s.bias ? 4 : 2)], s.V, s.H, s.V, H),
          head_values(weights[(s.E > 0) + s.layers * (s.bias ? 4 : 2) + 1]), head_bias(V),
          head_forward(V * H), head_backward(V * H), d_logits(rows * V), d_head(V * H), d_head_bias(V),
          losses(rows), d_output(rows * H), d_below(rows * std::max(H, E)),
          resets(s.end < 0 ? 0 : rows) {
        const int64_t each = s.bias ? 4 : 2, inputs = s.E ? s.E : s.V;
        for (int64_t i = 0; i < s.layers; i++)
            layers.push_back(std::make_unique<StepLayer<S>>(s, i ? s.H : inputs, !i && looks_up,
                                                            weights + (s.E > 0) + i * each));
        StepLayer<S> &one = *layers[0];
        d_rows = Buffer<S>(rows * one.d_stride());
        workspace = Buffer<S>((std::max(one.d_stride(), V) + std::max({H, E, V})) * BLOCK);
        if (looks_up) {
            table = Buffer<float>(s.V * one.columns);
            d_table = Buffer<float>(s.V * one.columns);
            if (s.E) {
                table_weights = Buffer<float>(one.columns * E);
                table_backward = Buffer<float>(one.columns * E);
                float_workspace = Buffer<float>((one.columns + E) * BLOCK);
            }
        } else {
            vectors = Buffer<S>(rows * E);
        }
        if (s.E) d_embedding = Buffer<float>(s.V * E);
        list_parameters(weights, first, second, average);
    }

    // Returns false if a symbol is not in the vocabulary; nothing has been changed then.
    bool take(const StepArgs &a) {
        const int64_t *symbols = a.symbols, *targets = symbols + sizes.B;
        for (int64_t i = 0; i < rows + sizes.B; i++)
            if (symbols[i] < 0 || symbols[i] >= sizes.V) return false;
        const int64_t parts = layers[0]->c ? 2 : 1, threads = a.threads;
        const uint8_t *where = find_resets(symbols);
        const S *x = embed(symbols, threads);
        for (size_t i = 0; i < layers.size(); i++) {
            StepLayer<S> &l = *layers[i];
            l.pack(sizes.H, threads);
            if (i || !looks_up) l.w.below = x;
            else look_up(l, symbols, threads);
            l.begin(a.before + int64_t(i) * parts, a.anew, sizes.H);
            l.run_window_forward(where, threads);
            l.end(a.after + int64_t(i) * parts, sizes.H);
            x = l.output;
            if (sizes.threshold) {
                drop_rows<S>(x, l.dropped, dropout(a.seed, int64_t(i)), threads);
                x = l.dropped;
            }
        }
        *a.loss_sum += loss(x, targets, threads);
        for (size_t i = layers.size(); i--;) {
            StepLayer<S> &l = *layers[i];
            if (sizes.threshold) drop_rows<S>(d_output, d_output, dropout(a.seed, int64_t(i)), threads);
            const S *d = l.run_window_backward(d_output, d_rows, workspace, threads);
            if (i || !looks_up) {
                weight_gradient<S>(d, l.d_stride(), l.columns, (const S *)l.w.below, l.I, l.I, rows, 0,
                                   l.d_ih, l.d_bias, workspace, threads);
                rows_product<S>(d, l.d_stride(), rows, l.columns, l.below_backward, l.I,
                                i ? d_output : d_below, threads);
                if (!i) scatter<S>(d_below, E, symbols, rows, E, d_embedding, sizes.V, threads);
            } else {
                look_up_backward(l, d, symbols, threads);
            }
            l.share_bias_gradient();
        }
        *a.norm = update(parameters, row_sums, a.update, threads);
        return true;
    }

  private:
    const StepSizes sizes;
    const int64_t H, E, V, rows;
    const bool looks_up;  // the input's share of the first layer's gates, in a table of all symbols
    Padded embedding, head;
    const float *head_values;
    Buffer<float> head_bias;
    Buffer<S> head_forward, head_backward, d_logits;
    Buffer<float> d_head, d_head_bias, losses;
    Buffer<S> d_output, d_below;
    Buffer<uint8_t> resets;
    std::vector<std::unique_ptr<StepLayer<S>>> layers;
    Buffer<S> d_rows, workspace, vectors;
    Buffer<float> table, d_table, table_weights, table_backward, float_workspace, d_embedding;
    std::vector<Parameter> parameters;
    std::vector<double> row_sums;

    Dropout dropout(uint64_t seed, int64_t layer) const {
        return {seed + uint64_t(layer), sizes.threshold, sizes.T, sizes.B, sizes.H, H};
    }

    const uint8_t *find_resets(const int64_t *symbols) {
        bool any = false;
        for (int64_t i = 0; i < resets.count; i++) any |= resets[i] = symbols[i] == sizes.end;
        return any ? (const uint8_t *)resets : nullptr;
    }

    // The first layer's inputs, where they are not looked up.
    const S *embed(const int64_t *symbols, int64_t threads) {
        if (sizes.E) embedding.refresh(threads);
        if (looks_up) return nullptr;
        parallel_pieces(threads, rows, 64, [&](int64_t from, int64_t until) {
            for (int64_t n = from; n < until; n++)
                for (int64_t e = 0; e < E; e += WIDTH)
                    store(vectors + n * E + e, load(embedding.matrix + symbols[n] * E + e));
        });
        return vectors;
    }

    // The table of all symbols: W_ih x + b in float32. A one-hot x selects a column of W_ih.
    void look_up(StepLayer<S> &l, const int64_t *symbols, int64_t threads) {
        constexpr int64_t AT_ONCE = 16;
        const int64_t columns = l.columns;
        l.w.symbols = symbols;
        l.w.table = table;
        if (sizes.E) pack_head<float>(columns, E, l.ih.matrix, table_weights);
        if (sizes.E) pack_cell_backward<float>(l.kind, H, E, l.ih.matrix, table_backward, true, threads);
        parallel_pieces(threads, sizes.V, AT_ONCE, [&](int64_t from, int64_t until) {
            if (sizes.E)
                return head_product<float>(embedding.matrix + from * E, int(until - from), E, table_weights,
                                           l.bias, columns, table + from * columns);
            for (int64_t s = from; s < until; s++)
                for (int64_t j = 0; j < columns; j++)
                    table[s * columns + j] = l.bias[j] + l.ih.matrix[j * l.I + s];
        });
    }

    void look_up_backward(StepLayer<S> &l, const S *d, const int64_t *symbols, int64_t threads) {
        const int64_t columns = l.columns;
        scatter<S>(d, l.d_stride(), symbols, rows, columns, d_table, sizes.V, threads);
        if (sizes.E) {
            weight_gradient<float>(d_table, columns, columns, embedding.matrix, E, E, sizes.V, 0, l.d_ih,
                                   l.d_bias, float_workspace, threads);
            rows_product<float>(d_table, columns, sizes.V, columns, table_backward, E, d_embedding, threads);
            return;
        }
        parallel_pieces(threads, columns, 64, [&](int64_t from, int64_t until) {
            for (int64_t j = from; j < until; j++) {
                float sum = 0;
                for (int64_t s = 0; s < sizes.V; s++) sum += l.d_ih[j * l.I + s] = d_table[s * columns + j];
                l.d_bias[j] = sum;
            }
        });
    }

    // The mean loss, and its gradients down to the last layer's output.
    float loss(const S *x, const int64_t *targets, int64_t threads) {
        head.refresh(threads);
        for (int64_t v = 0; v < V; v++) head_bias[v] = v < sizes.V ? head_values[v] : NEVER;
        pack_head<S>(V, H, head.matrix, head_forward);
        pack_backward<S>(head_backward, head.matrix, V, H, {0, 1, 0}, 0, threads);
        head_loss<S>(x, rows, H, head_forward, head_bias, V, targets, losses, d_logits, threads);
        weight_gradient<S>(d_logits, V, V, x, H, H, rows, 0, d_head, d_head_bias, workspace, threads);
        rows_product<S>(d_logits, V, rows, V, head_backward, H, d_output, threads);
        double sum = 0;
        for (int64_t n = 0; n < rows; n++) sum += losses[n];
        return float(sum / double(rows));
    }

    void list_parameters(float *const *weights, float *const *first, float *const *second,
                         float *const *average) {
        const int64_t G = layers[0]->cell.gates;
        const auto add = [&](int64_t count, int64_t columns, int64_t block, const float *gradient,
                             int64_t stride, bool decays) {
            const size_t n = parameters.size();
            parameters.push_back({weights[n], first[n], second[n], average ? average[n] : nullptr, gradient,
                                  count, columns, block, whole(block), stride, decays,
                                  int64_t(row_sums.size())});
            row_sums.resize(row_sums.size() + size_t(count));
        };
        if (sizes.E) add(sizes.V, sizes.E, sizes.V, d_embedding, E, true);
        for (const auto &l : layers) {
            add(G * sizes.H, l->ih.columns, sizes.H, l->d_ih, l->I, true);
            add(G * sizes.H, sizes.H, sizes.H, l->d_hh, H, true);
            if (!sizes.bias) continue;
            add(G, sizes.H, G, l->d_bias, H, false);
            add(G, sizes.H, G, l->d_bias_hh, H, false);
        }
        add(sizes.V, sizes.H, sizes.V, d_head, H, true);
        add(1, sizes.V, 1, d_head_bias, V, false);
    }
};
