// A model over windows: from symbols to losses, to gradients, and to the updated weights. Sizes: window.h.
#pragma once
#include <memory>
#include <vector>
#include "loss.h"
#include "optimizer.h"
#include "window.h"

// A window's inputs and outputs. symbols [T, B] and, unless only `logs` are wanted, targets [T, B].
// anew [B]: 1 where a lane begins with a state of zeros, or null; before and after: [B, H] for every part
// of every layer. threshold, weight_threshold: the least random bytes with which dropout keeps an output
// and an element of W_hh, 0 without dropout; first_lane: the number of the first lane among those of all
// groups. losses [T, B]; logs [T, B, V]: ln p of every symbol, or null. gradients: of every parameter, in
// the order of the model; or null. learns: a backward pass or a step follows.
struct WindowArgs {
    int64_t T, B;
    const int64_t *symbols, *targets;
    const uint8_t *anew;
    const float *const *before;
    float *const *after;
    uint64_t seed;  // of dropout
    int64_t threshold, weight_threshold, first_lane;
    SoftTargets soft;
    float *losses, *logs;
    float *const *gradients;
    int64_t learns, threads;
};

constexpr float NEVER = -1e30f;  // the logit of the padding in the last vector of the vocabulary

template <class S> class Model {
  public:
    // parameters: values and, unless null, first and second moments and averages of every one, in the
    // order of the model: embedding, layers, head.
    Model(const ModelSizes &s, float *const *weights, float *const *first, float *const *second,
          float *const *average)
        : sizes(s), H(whole(s.H)), E(whole(s.E)), V(whole(s.V)), each(parameters_of(CELL_KINDS[s.kind], s.bias)),
          embedding(s.E ? *weights : nullptr, s.E ? s.V : 0, s.E, s.V, E),
          head(weights[(s.E > 0) + s.layers * each], s.V, s.H, s.V, H),
          head_values(weights[(s.E > 0) + s.layers * each + 1]) {
        for (int64_t i = 0; i < s.layers; i++)
            layers.push_back(std::make_unique<WindowLayer<S>>(s, i ? s.H : s.E ? s.E : s.V,
                                                              weights + (s.E > 0) + i * each));
        head_bias.of(V);
        head_forward.of(V * H);
        list_parameters(weights, first, second, average);
        if (s.T) reserve(s.T, s.B, true, s.end >= 0, false);
    }

    // Memory for windows of T symbols in B lanes.
    void reserve(int64_t T, int64_t B, bool learns, bool has_resets, bool drops) {
        const int64_t rows = T * B;
        shape = {T, B, !sizes.E || sizes.V <= rows, learns, has_resets, drops};
        WindowLayer<S> &one = *layers[0];
        for (size_t i = 0; i < layers.size(); i++) layers[i]->reserve(shape_of(i));
        if (shape.looked_up) table.of(sizes.V * one.columns);
        else vectors.of(rows * E);
        if (shape.looked_up && sizes.E) table_weights.of(one.columns * E);
        if (!learns) return;
        if (!workspace) reserve_gradients();
        d_logits.of(rows * V);
        d_output.of(rows * H);
        if (one.cell.has_matrix()) d_rows.of(rows * one.d_stride());
        if (shape.looked_up) d_table.of(sizes.V * one.columns);
        else d_below.of(rows * E);
    }

    // Read a window: the states after it, losses or log-probabilities; if it learns, the gradients of the
    // head. Returns false if a symbol is not in the vocabulary; nothing has been changed then.
    bool read(const WindowArgs &a) {
        const auto outside = [&](int64_t symbol) { return symbol < 0 || symbol >= sizes.V; };
        for (int64_t i = 0; i < a.T * a.B; i++)
            if (outside(a.symbols[i]) || (a.targets && outside(a.targets[i]))) return false;
        const uint8_t *where = find_resets(a.symbols, a.T * a.B);
        reserve(a.T, a.B, a.learns, where, a.threshold);
        const int64_t parts = layers[0]->w.c ? 2 : 1, threads = a.threads;
        const S *x = embed(a.symbols, threads);
        for (size_t i = 0; i < layers.size(); i++) {
            WindowLayer<S> &l = *layers[i];
            l.weight_seed = a.seed + WEIGHT_SEED_OFFSET + i;
            l.weight_threshold = a.weight_threshold;
            l.pack(shape_of(i), threads);
            l.w.below = x;
            if (shape_of(i).looked_up) look_up(l, a.symbols, threads);
            l.begin(a.before + int64_t(i) * parts, a.anew);
            l.run_window_forward(where, threads);
            l.end(a.after + int64_t(i) * parts);
            x = l.output;
            if (a.threshold) {
                drop_rows<S>(x, l.dropped, dropout(a, int64_t(i)), threads);
                x = l.dropped;
            }
        }
        read_head(x, a);
        return true;
    }

    // The gradients of layer i, after those of the head and of the layers above; with the first layer's,
    // those of the embedding. Returns true.
    bool learn(const WindowArgs &a, int64_t i) {
        const int64_t rows = a.T * a.B, threads = a.threads, first = (sizes.E > 0) + i * each;
        WindowLayer<S> &l = *layers[size_t(i)];
        if (a.threshold) drop_rows<S>(d_output, d_output, dropout(a, i), threads);
        const S *d = l.run_window_backward(d_output, d_rows, workspace, threads);
        if (i || !shape.looked_up) {
            weight_gradient<S>(d, l.d_stride(), l.columns, (const S *)l.w.below, l.I, l.I, rows, 0, l.d_ih,
                               l.d_bias, workspace, threads);
            rows_product<S>(d, l.d_stride(), rows, l.columns, l.below_backward, l.I,
                            i ? d_output : d_below, threads);
            if (!i) scatter<S>(d_below, E, a.symbols, rows, E, d_embedding, sizes.V, threads);
        } else {
            look_up_backward(l, d, a.symbols, threads);
        }
        l.share_bias_gradient();
        hand_out(i ? first : 0, first + each, a);
        return true;
    }

    // A training step: adds the mean loss to `loss_sum`; norm: of the gradient. Returns as `read`.
    bool take(const WindowArgs &a, const Update &u, float *loss_sum, float *norm) {
        if (!read(a)) return false;
        double sum = 0;
        for (int64_t n = 0; n < a.T * a.B; n++) sum += a.losses[n];
        *loss_sum += float(sum / double(a.T * a.B));
        for (size_t i = layers.size(); i--;) learn(a, int64_t(i));
        *norm = update(parameters, row_sums, u, a.threads);
        return true;
    }

  private:
    const ModelSizes sizes;
    const int64_t H, E, V, each;  // each: parameters of a layer
    Padded embedding, head;
    const float *head_values;
    std::vector<std::unique_ptr<WindowLayer<S>>> layers;
    Shape shape{};
    Buffer<uint8_t> resets;
    Buffer<S> vectors, head_forward, head_backward, d_logits, d_output, d_below, d_rows, workspace;
    Buffer<float> head_bias, d_head, d_head_bias, d_embedding;
    Buffer<float> table, d_table, table_weights, table_backward, float_workspace;
    std::vector<Parameter> parameters;
    std::vector<double> row_sums;

    static int64_t parameters_of(const CellKind &cell, int64_t bias) {
        const int64_t matrices = cell.recurrent == NO_WEIGHTS ? 1 : 2;
        return matrices + (bias ? 1 + cell.has_matrix() : 0);
    }

    Shape shape_of(size_t layer) const {
        Shape s = shape;
        s.looked_up = s.looked_up && !layer;
        return s;
    }

    // Memory for the backward pass that does not depend on the window.
    void reserve_gradients() {
        const WindowLayer<S> &one = *layers[0];
        for (const auto &l : layers) l->reserve_gradients();
        if (sizes.E) {
            d_embedding.of(sizes.V * E);
            table_backward.of(one.columns * E);
            float_workspace.of((one.columns + E) * BLOCK);
        }
        d_head.of(V * H);
        d_head_bias.of(V);
        head_backward.of(V * H);
        workspace.of((std::max(one.d_stride(), V) + std::max({H, E, V})) * BLOCK);
    }

    Dropout dropout(const WindowArgs &a, int64_t layer) const {
        return {a.seed + uint64_t(layer), a.threshold, a.T, a.B, sizes.H, H, a.first_lane};
    }

    const uint8_t *find_resets(const int64_t *symbols, int64_t rows) {
        if (sizes.end < 0) return nullptr;
        bool any = false;
        resets.of(rows);
        for (int64_t i = 0; i < rows; i++) any |= resets[i] = symbols[i] == sizes.end;
        return any ? (const uint8_t *)resets : nullptr;
    }

    // The first layer's inputs, where they are not looked up.
    const S *embed(const int64_t *symbols, int64_t threads) {
        if (sizes.E) embedding.refresh(threads);
        if (shape.looked_up) return nullptr;
        parallel_pieces(threads, shape.T * shape.B, 64, [&](int64_t from, int64_t until) {
            for (int64_t n = from; n < until; n++)
                for (int64_t e = 0; e < E; e += WIDTH)
                    store(vectors + n * E + e, load(embedding.matrix + symbols[n] * E + e));
        });
        return vectors;
    }

    // The table of all symbols: W_ih x + b in float32. A one-hot x selects a column of W_ih.
    void look_up(WindowLayer<S> &l, const int64_t *symbols, int64_t threads) {
        constexpr int64_t AT_ONCE = 16;
        const int64_t columns = l.columns;
        l.w.symbols = symbols;
        l.w.table = table;
        if (sizes.E) pack_head<float>(columns, E, l.ih.matrix, table_weights);
        if (sizes.E && shape.learns)
            pack_cell_backward<float>(l.kind, H, E, l.ih.matrix, table_backward, true, threads);
        parallel_pieces(threads, sizes.V, AT_ONCE, [&](int64_t from, int64_t until) {
            if (sizes.E)
                return head_product<float>(embedding.matrix + from * E, int(until - from), E, table_weights,
                                           l.bias, columns, table + from * columns);
            for (int64_t s = from; s < until; s++)
                for (int64_t j = 0; j < columns; j++)
                    table[s * columns + j] = l.bias[j] + l.ih.matrix[j * l.I + s];
        });
    }

    void look_up_backward(WindowLayer<S> &l, const S *d, const int64_t *symbols, int64_t threads) {
        const int64_t columns = l.columns;
        scatter<S>(d, l.d_stride(), symbols, shape.T * shape.B, columns, d_table, sizes.V, threads);
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

    // Losses and log-probabilities; if the window learns, gradients down to the last layer's output.
    void read_head(const S *x, const WindowArgs &a) {
        const int64_t rows = a.T * a.B, threads = a.threads;
        head.refresh(threads);
        for (int64_t v = 0; v < V; v++) head_bias[v] = v < sizes.V ? head_values[v] : NEVER;
        pack_head<S>(V, H, head.matrix, head_forward);
        const Head<S> packed{head_forward, head_bias, H, V, sizes.V};
        if (a.logs) head_logs<S>(x, rows, packed, a.logs, threads);
        S *const gradient = a.learns ? d_logits.memory : nullptr;
        if (a.targets) head_loss<S>(x, rows, packed, a.targets, a.soft, a.losses, gradient, threads);
        if (!a.learns) return;
        pack_backward<S>(head_backward, head.matrix, V, H, {0, 1, 0}, 0, threads);
        weight_gradient<S>(d_logits, V, V, x, H, H, rows, 0, d_head, d_head_bias, workspace, threads);
        rows_product<S>(d_logits, V, rows, V, head_backward, H, d_output, threads);
        hand_out(int64_t(parameters.size()) - 2, int64_t(parameters.size()), a);
    }

    // Copy the gradients of some parameters, without their padding.
    void hand_out(int64_t from, int64_t until, const WindowArgs &a) const {
        if (!a.gradients) return;
        const Parameter *all = parameters.data();
        for_rows(all + from, all + until, a.threads, [&](const Parameter &p, int64_t r, int64_t end) {
            for (; r < end; r++)
                memcpy(a.gradients[&p - all] + r * p.columns, p.gradient_row(r), p.columns * sizeof(float));
        });
    }

    void list_parameters(float *const *weights, float *const *first, float *const *second,
                         float *const *average) {
        const int64_t G = layers[0]->cell.gates;
        const CellKind &cell = layers[0]->cell;
        const auto add = [&](int64_t count, int64_t columns, int64_t block, const Buffer<float> &gradient,
                             int64_t stride, bool decays) {
            const size_t n = parameters.size();
            parameters.push_back({weights[n], first ? first[n] : nullptr, second ? second[n] : nullptr,
                                  average ? average[n] : nullptr, &gradient.memory, count, columns, block,
                                  whole(block), stride, decays, int64_t(row_sums.size())});
            row_sums.resize(row_sums.size() + size_t(count));
        };
        if (sizes.E) add(sizes.V, sizes.E, sizes.V, d_embedding, E, true);
        for (const auto &l : layers) {
            add(G * sizes.H, l->ih.columns, sizes.H, l->d_ih, l->I, true);
            if (cell.has_matrix()) add(G * sizes.H, sizes.H, sizes.H, l->d_hh, H, true);
            if (cell.recurrent == VECTOR) add(1, sizes.H, 1, l->d_hh, H, false);
            if (!sizes.bias) continue;
            add(G, sizes.H, G, l->d_bias, H, false);
            if (cell.has_matrix()) add(G, sizes.H, G, l->d_bias_hh, H, false);
        }
        add(sizes.V, sizes.H, sizes.V, d_head, H, true);
        add(1, sizes.V, 1, d_head_bias, V, false);
    }
};
